"""What a release stands on: hashes of every source, licences of Debian's packages, the bill of materials, signatures."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import sbom
import usign

ROOT = Path(__file__).parents[2]
DENIED = re.compile(r"AGPL|Affero|SSPL|BUSL|Commons.Clause|non-?commercial|CC-BY-NC", re.I)
# Copyright files that are not machine-readable, each read by hand.
BY_HAND = {
    "build-essential": "GPL", "busybox": "GPL-2", "debian-archive-keyring": "GPL", "fonts-dejavu-core": "Bitstream Vera",
    "gcc-mips-linux-gnu": "GPL-3", "python3": "PSF", "python3-dev": "PSF", "python3-venv": "PSF", "tcpdump": "BSD-3-clause",
    "tor": "BSD-3-clause",
}  # fmt: skip


def test_debian_packages_have_allowed_licences():
    unknown = []
    for name in sbom.debian_names():
        if not (sbom.COPYRIGHT / name / "copyright").exists():
            continue  # of a list for a target that has not run here
        licences = sbom.debian_licences(name)
        denied = [x for x in licences if DENIED.search(x)]
        assert not denied, f"{name}: {denied}"
        if not licences and name not in BY_HAND:
            unknown.append(name)
    assert not unknown, f"no machine-readable licence: read /usr/share/doc/NAME/copyright of {unknown} and add to BY_HAND"


def test_every_source_that_is_built_is_pinned_by_hash():
    for line in (ROOT / "scripts/debian-sources.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9+.-]+ \w+ \S+ [0-9a-f]{64}", line), line
    for line in (ROOT / "requirements-cross.txt").read_text().splitlines():
        assert not line or line.startswith("#") or "==" in line or "--hash=sha256:" in line, line


def test_the_bill_of_materials_has_everything_and_is_the_same_twice():
    bill = sbom.bill()
    assert bill == sbom.bill() and bill["bomFormat"] == "CycloneDX"
    refs = [c["bom-ref"] for c in bill["components"]]
    assert len(refs) == len(set(refs)) > 150
    names = {c["name"]: c for c in bill["components"]}
    assert names["pynacl"]["scope"] == "required" and names["pytest"]["scope"] == "excluded"
    assert names["cffi"]["scope"] == "required", "what a dependency needs is required, too"
    assert names["solc"]["hashes"][0]["alg"] == "SHA-512" and len(names["solc"]["hashes"][0]["content"]) == 128
    assert names["micropython"]["hashes"][0]["content"] in (ROOT / "scripts/debian-sources.txt").read_text()
    locked = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", (ROOT / "requirements.lock").read_text(), re.M)
    assert {sbom.canonical(n) for n in locked} <= set(names)
    assert all(c.get("licenses") for c in bill["components"] if c["purl"].startswith("pkg:npm/"))


def signify(*words: str) -> int:
    return subprocess.run(["signify-openbsd", *words], capture_output=True, check=False).returncode


def test_signatures_are_those_of_signify(tmp_path):
    assert shutil.which("signify-openbsd"), "Debian's signify-openbsd is missing: run make test"
    public, secret, file = tmp_path / "k.pub", tmp_path / "k.sec", tmp_path / "file"
    file.write_bytes(os.urandom(1000))
    usign.keygen(public, secret)
    assert secret.stat().st_mode & 0o77 == 0
    usign.sign(secret, file)
    usign.verify(public, file)
    assert signify("-V", "-p", str(public), "-m", str(file)) == 0
    assert signify("-S", "-s", str(secret), "-m", str(file), "-x", str(file) + ".sig") == 0
    usign.verify(public, file)
    with pytest.raises(FileExistsError):
        usign.keygen(public, secret)
    file.write_bytes(b"other")
    assert signify("-V", "-p", str(public), "-m", str(file)) != 0
    with pytest.raises(usign.Bad, match="does not hold"):
        usign.verify(public, file)
    other = tmp_path / "o.pub"
    usign.keygen(other, tmp_path / "o.sec")
    with pytest.raises(usign.Bad, match="another key"):
        usign.verify(other, file)
    damaged = tmp_path / "d.sec"
    text = secret.read_text()
    damaged.write_text(text[:-6] + ("A" if text[-6] != "A" else "B") + text[-5:])
    with pytest.raises(usign.Bad):
        usign.sign(damaged, file)
    with pytest.raises(usign.Bad, match="not an Ed25519 file"):
        usign.verify(secret, file)


@pytest.mark.slow
def test_a_release_is_signed_and_a_changed_byte_is_found(tmp_path):
    public, secret, out = tmp_path / "k.pub", tmp_path / "k.sec", tmp_path / "release"
    usign.keygen(public, secret)
    done = subprocess.run([ROOT / "scripts/release.sh", secret, out], cwd=ROOT, env={**os.environ, "RELEASE_DIRTY": "1"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    usign.verify(public, out / "SHA256SUMS")
    sums = (out / "SHA256SUMS").read_text()
    assert all(word in sums for word in ("bwrouter_", ".ipk", "bwrouter.cdx.json", "COMMIT"))
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out, check=False).returncode == 0
    json.loads((out / "bwrouter.cdx.json").read_text())
    package = next(out.glob("bwrouter_*.ipk"))
    raw = bytearray(package.read_bytes())
    raw[len(raw) // 2] ^= 1
    package.write_bytes(raw)
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode != 0


def test_a_release_needs_a_key():
    done = subprocess.run([ROOT / "scripts/release.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "name the secret key" in done.stderr
    done = subprocess.run([ROOT / "scripts/release.sh", "/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there is no such key" in done.stderr
