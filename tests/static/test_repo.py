"""Rules for the repository as a whole: locked and licensed dependencies, nothing of one machine in a tracked file."""

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

DENIED_LICENCE = re.compile(
    r"AGPL|Affero|SSPL|Server Side Public|BUSL|Business Source|Commons Clause|non-?commercial", re.I
)
DENIED_NAMES = {"vyper", "titanoboa", "snekmate", "pyrevm"}
# Packages whose metadata name no licence, each looked up by hand.
LICENCE_BY_HAND: dict[str, str] = {"atheris": "Apache-2.0"}

MACHINE_PATH = re.compile(r"(?<![\w.$}{-])/(?:root|work|home/\w+|Users/\w+)/")
REGISTRY_HOSTS = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.", "npm" + r"js\.(org|com)", r"deb\." + "debian"])
)


def tracked() -> list[Path]:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert len(files) > 10
    return files


def test_no_tracked_file_names_a_machine_or_a_registry():
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for rule in (MACHINE_PATH, REGISTRY_HOSTS):
                if rule.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_the_rules_find_what_they_are_for():
    assert MACHINE_PATH.search("see /" + "home/me/x") and MACHINE_PATH.search('"/' + 'root/x"')
    assert not MACHINE_PATH.search("luci-app/root/usr")
    assert DENIED_LICENCE.search("GNU Affero General Public License v3")
    assert not DENIED_LICENCE.search("GNU Lesser General Public License")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_python() -> dict[str, str]:
    """Name and version of each requirement in the lock file; fails if one has no hash."""
    versions = {}
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    for entry in entries:
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.!+-]+)", entry)
        assert match, f"requirements.lock: not pinned: {entry[:80]}"
        assert "--hash=sha256:" in entry, f"requirements.lock: no hash: {match[1]}"
        versions[canonical(match[1])] = match[2]
    return versions


def test_python_lock_covers_what_is_asked_for():
    locked = locked_python()
    lines = (ROOT / "requirements.in").read_text().splitlines()
    wanted = {canonical(re.split(r"[\[=<>~; ]", line)[0]) for line in lines if line and not line.startswith("#")}
    assert wanted <= set(locked), f"run make lock: {sorted(wanted - set(locked))} not in requirements.lock"


def test_python_licences():
    locked = locked_python()
    assert not DENIED_NAMES & set(locked)
    unknown, denied = [], []
    for distribution in importlib.metadata.distributions():
        meta = distribution.metadata
        name = canonical(meta["Name"])
        fields = [meta.get("License-Expression"), meta.get("License"), LICENCE_BY_HAND.get(name)]
        fields += [c for c in meta.get_all("Classifier") or [] if c.startswith("License")]
        said = " | ".join(f[:300] for f in fields if f and f != "UNKNOWN")
        if not said:
            unknown.append(name)
        elif DENIED_LICENCE.search(said):
            denied.append(f"{name}: {said}")
    assert not denied
    assert not unknown, f"no licence in the metadata of {unknown}: look each up and add it to LICENCE_BY_HAND"


def test_npm_is_pinned_and_licensed():
    asked = json.loads((ROOT / "package.json").read_text())
    for name, version in {**asked.get("dependencies", {}), **asked.get("devDependencies", {})}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", version), f"package.json: {name} is not pinned: {version}"
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == asked["dependencies"], "run make lock: package-lock.json is out of date"
    for path, entry in packages.items():
        name = path.rpartition("node_modules/")[2]
        assert entry.get("integrity"), f"package-lock.json: {name} has no hash"
        assert "resolved" not in entry, f"package-lock.json: {name} names a host"
        assert name not in DENIED_NAMES
        licence = entry.get("license") or installed_npm_licence(path)
        assert licence, f"{name} names no licence"
        assert not DENIED_LICENCE.search(str(licence)), f"{name}: {licence}"


def installed_npm_licence(path: str) -> str | None:
    manifest = ROOT / "build" / "node" / path / "package.json"
    if not manifest.exists():
        return None
    described = json.loads(manifest.read_text())
    return described.get("license") or str(described.get("licenses") or "") or None


def test_captures_hear_one_interface_only():
    """A packet socket that is made with a protocol hears every interface until it is bound to one (packet(7))."""
    wild = re.compile(r"socket\.AF_PACKET, socket\.SOCK_\w+, (?!0\)).*\n(?:.*\n){0,4}?.*\.bind\(")
    found = [str(path.relative_to(ROOT)) for path in tracked() if path.suffix == ".py" and wild.search(path.read_text())]
    assert not found, f"make it with protocol 0 and let bind() name the protocol: {found}"
