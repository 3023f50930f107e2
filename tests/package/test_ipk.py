"""The .ipk read by tools that nobody here wrote: GNU tar, and dpkg-deb on the same members in an ar archive."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bwrouter import __version__
from tests.package.router import ROOT, Router

MICROPYTHON = Path(os.environ.get("MICROPYTHON") or ROOT / "build/micropython/native/micropython")
# All that is ours on the router's flash: compiled modules, scripts, the configuration. A bound against growth unawares;
# the goal for it is bench-guest's.
MOST_BYTES = 167_000
FIELDS = (
    "Package Version Depends Source SourceName Section Require-User SourceDateEpoch Maintainer Architecture Installed-Size"
    " Description"
).split()


def build(out: Path, *options: str, **environment: str) -> Path:
    command = [sys.executable, str(ROOT / "package/build"), "--out", str(out), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=120, env={**os.environ, **environment})
    return out / f"bwrouter_{__version__}-1_all.ipk"


@pytest.fixture(scope="module")
def ipk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ipk"))


@pytest.fixture(scope="module")
def parts(ipk: Path) -> Path:
    """The folder of the package's three members, and control/ and data/ unpacked by GNU tar."""
    folder = ipk.parent / "parts"
    folder.mkdir()
    tar = ["tar", "--extract", "--gzip", "--file"]
    subprocess.run([*tar, str(ipk), "-C", str(folder), "./debian-binary", "./data.tar.gz", "./control.tar.gz"], check=True)
    for name in ("control", "data"):
        (folder / name).mkdir()
        subprocess.run([*tar, str(folder / f"{name}.tar.gz"), "-C", str(folder / name)], check=True)
    return folder


def control(parts: Path) -> dict[str, str]:
    text = (parts / "control/control").read_text()
    return dict(re.findall(r"^([\w-]+): (.*(?:\n .*)*)$", text, re.M))


def installed(parts: Path) -> set[str]:
    return {"/" + str(p.relative_to(parts / "data")) for p in (parts / "data").rglob("*") if p.is_file()}


def test_the_same_bytes_twice(ipk: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again", TZ="Asia/Tokyo", PYTHONHASHSEED="7", LC_ALL="C", HOME="/")
    assert again.read_bytes() == ipk.read_bytes()
    other = build(tmp_path / "other", SOURCE_DATE_EPOCH="1000000000")
    assert other.read_bytes() != ipk.read_bytes()
    # A mask of the builder's leaves no trace.
    mask = ["sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, str(ROOT / "package/build"), "--out", str(tmp_path / "m")]
    subprocess.run(mask, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "m" / ipk.name).read_bytes() == ipk.read_bytes()


def test_members_owners_and_times(ipk: Path, parts: Path) -> None:
    epoch = int(control(parts)["SourceDateEpoch"])
    for archive in (ipk, parts / "control.tar.gz", parts / "data.tar.gz"):
        raw = archive.read_bytes()
        assert raw[:4] == b"\x1f\x8b\x08\x00" and raw[4:8] == bytes(4), "gzip holds a name or a time"
        with tarfile.open(archive) as tar:
            for member in tar:
                assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
                assert member.mtime == epoch and member.name.split("/")[0] == "."
    listed = subprocess.run(["tar", "tzf", ipk], capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
    assert (parts / "debian-binary").read_text() == "2.0\n"
    names = subprocess.run(["tar", "tzf", parts / "data.tar.gz"], capture_output=True, text=True, check=True).stdout.split()
    assert names[0] == "./" and len(names) == len(set(names))
    for name in names:  # a folder stands before what it holds
        folder = name.rstrip("/").rpartition("/")[0] + "/"
        assert name == "./" or names.index(folder) < names.index(name)


def test_control(parts: Path) -> None:
    fields = control(parts)
    assert list(fields) == FIELDS
    assert fields["Package"] == "bwrouter" and fields["Architecture"] == "all"
    assert fields["Version"] == __version__ + "-1"
    assert fields["Depends"] == "libc, micropython-mbedtls, libsodium, kmod-tun"
    assert fields["Require-User"] == "bwrouter:bwrouter"
    assert int(fields["Installed-Size"]) == len(subprocess.run(["gzip", "-dc", parts / "data.tar.gz"], capture_output=True).stdout)
    assert (parts / "control/conffiles").read_text() == "/etc/config/bwrouter\n"
    for name in ("postinst", "prerm", "postrm"):
        script = parts / "control" / name
        assert script.stat().st_mode & 0o777 == 0o755
        subprocess.run(["busybox", "ash", "-n", script], check=True)


def test_what_is_installed(parts: Path) -> None:
    sources = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src/bwrouter").rglob("*.py")}
    modules = {f"/usr/lib/bwrouter/{name.removesuffix('.py')}.mpy" for name in sources | {"bwrouter/common.py"}}
    others = {"/" + str(p.relative_to(ROOT / "files")) for p in (ROOT / "files").rglob("*") if p.is_file()}
    # Modules that are loaded together are one file: package/bundle.py.
    there = {path for path in installed(parts) if path.endswith(".mpy")}
    assert installed(parts) - there == others
    bundles = {f"/usr/lib/bwrouter/bwrouter/{name}.mpy" for name in ("common", "relay/relay", "agent/agent")}
    assert bundles < there < modules and len(there) < len(modules) / 3
    for path, mode in (("usr/bin/bwrouter", 0o755), ("etc/init.d/bwrouter", 0o755), ("etc/config/bwrouter", 0o600)):
        assert (parts / "data" / path).stat().st_mode & 0o777 == mode
    for path in installed(parts):
        content = (parts / "data" / path[1:]).read_bytes()
        assert str(ROOT).encode() not in content, path
        if path.endswith(".mpy"):
            assert content[:2] == b"M\x06", path  # the format that every MicroPython from 1.23 on reads
            assert content[3] <= 31, path  # small integers of a 32-bit CPU
    assert (parts / "data/lib/upgrade/keep.d/bwrouter").read_text() == "/etc/bwrouter/\n"


def test_size(parts: Path) -> None:
    size = sum((parts / "data" / path[1:]).stat().st_size for path in installed(parts))
    assert size <= MOST_BYTES, size


def test_dpkg_reads_the_same_members(parts: Path, tmp_path: Path) -> None:
    deb = tmp_path / "bwrouter.deb"
    with deb.open("wb") as out:
        out.write(b"!<arch>\n")
        for name in ("debian-binary", "control.tar.gz", "data.tar.gz"):
            raw = (parts / name).read_bytes()
            out.write(b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name.encode(), 0, 0, 0, 0o100644, len(raw)))
            out.write(raw + b"\n" * (len(raw) & 1))
    asked = subprocess.run(["dpkg-deb", "--field", deb, "Version", "Depends"], capture_output=True, text=True, check=True)
    assert f"Version: {__version__}-1" in asked.stdout
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path / "out"], check=True)
    found = {"/" + str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == installed(parts)


def micropython(lib: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"MICROPYPATH": f"{lib}:.frozen", "PATH": os.environ["PATH"]}
    command = [MICROPYTHON, "-m", "bwrouter", *words]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_installed_program_runs_and_knows_its_version(parts: Path, tmp_path: Path) -> None:
    lib = parts / "data/usr/lib/bwrouter"
    for words in (["version"], ["--version"]):
        assert micropython(lib, *words).stdout == __version__ + "\n"
    assert json.loads(micropython(lib, "version", "--json").stdout) == {"version": __version__}
    (tmp_path / "config.json").write_text(json.dumps({"run_dir": str(tmp_path), "state_dir": str(tmp_path / "state")}))
    config = ["--config", str(tmp_path / "config.json")]
    assert micropython(lib, "keys", "init", *config).returncode == 0
    assert "keys: ok" in micropython(lib, "check", *config).stdout


@pytest.mark.parametrize("module", ["cli.service", "relay.relay", "cli.show"])
def test_a_process_does_not_load_another_ones_bundle(parts: Path, module: str) -> None:
    """The relay, and who asks for the status, have no use for the 73 kB of the agent."""
    code = f"import sys, bwrouter.{module}; print(sorted(m for m in sys.modules if m[:9] == 'bwrouter.'))"
    environment = {"MICROPYPATH": f"{parts / 'data/usr/lib/bwrouter'}:.frozen"}
    done = subprocess.run([MICROPYTHON, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f"'bwrouter.{module}'" in done.stdout and "bwrouter.agent.agent" not in done.stdout
    assert module == "relay.relay" or "bwrouter.relay.relay" not in done.stdout


def test_the_launcher(parts: Path, tmp_path: Path) -> None:
    text = (parts / "data/usr/bin/bwrouter").read_text().replace("/usr/lib/bwrouter", str(parts / "data/usr/lib/bwrouter"))
    (tmp_path / "bwrouter").write_text(text)
    (tmp_path / "micropython").symlink_to(MICROPYTHON)
    command = ["busybox", "ash", str(tmp_path / "bwrouter"), "--version"]
    run = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert run.stdout == __version__ + "\n"


def test_source_instead_of_compiled(tmp_path: Path) -> None:
    ipk = build(tmp_path, "--source")
    data = subprocess.run(["tar", "xzOf", ipk, "./data.tar.gz"], capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "tz"], input=data, capture_output=True, check=True).stdout.decode().split()
    assert "./usr/lib/bwrouter/bwrouter/__init__.py" in names and not [n for n in names if n.endswith(".mpy")]


def test_apk_without_apk_tools_says_so(tmp_path: Path) -> None:
    if shutil.which("apk"):
        pytest.skip("apk-tools is here")
    command = [sys.executable, ROOT / "package/build", "--out", tmp_path, "--format", "apk"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1 and "apk-tools 3 is not on this machine" in run.stderr and not list(tmp_path.glob("*.apk"))


def test_postrm_takes_the_run_folder_and_only_that(parts: Path, tmp_path: Path) -> None:
    made = Router(tmp_path)
    script = (parts / "control/postrm").read_text().replace("/var/run/bwrouter", str(made.root / "var/run/bwrouter"))
    made.write("var/run/bwrouter/status.json", "{}")
    made.write("etc/bwrouter/wallet.key", "x")
    for environment, gone in (({"PKG_UPGRADE": "1"}, False), ({"IPKG_INSTROOT": "/x"}, False), ({}, True)):
        subprocess.run(["busybox", "ash", "-c", script], env={**environment, "PATH": os.environ["PATH"]}, check=True)
        assert (made.root / "var/run/bwrouter").exists() != gone
    assert made.read("etc/bwrouter/wallet.key") == "x"
