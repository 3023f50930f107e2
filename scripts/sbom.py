"""The bill of materials, CycloneDX 1.6: every Python, npm and Debian package, and every source that is built here.

    build/venv/bin/python scripts/sbom.py --out dist/bwrouter.cdx.json
Out of the lock files and the metadata of what is installed; the same tree and installation give the same bytes (no
time; the serial number is a digest of the content). `required` is what a router or a server runs or is built from;
`excluded` is for tests, lint and benchmarks alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEBIAN_LISTS = sorted([*ROOT.glob("scripts/debian-packages*.txt"), ROOT / "bench/debian-packages.txt"])
COPYRIGHT = Path("/usr/share/doc")
LICENCE_LINE = re.compile(r"^License:\s*(\S.*)$", re.M)


def version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "src/bwrouter/__init__.py").read_text())
    assert found
    return found[1]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def python_licence(name: str) -> str:
    """What the installed package's metadata say; empty when it is not installed here."""
    try:
        meta = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    classifiers = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    said = [*(meta.get_all("License-Expression") or []), "; ".join(classifiers), *(meta.get_all("License") or [])]
    first = next((s for s in said if s and s != "UNKNOWN"), "")
    return first.splitlines()[0][:120] if first else ""


def python_packages() -> list[dict[str, Any]]:
    """Everything of requirements.lock."""
    wanted = (ROOT / "requirements.in").read_text().partition("# tests")
    served = {canonical(re.split(r"[\[=<>~; ]", x)[0]) for x in wanted[0].splitlines() if x and x[0] != "#"}
    served = with_dependencies(served)
    found = []
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip()):
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.!+-]+)", entry)
        assert match, entry[:80]
        name = canonical(match[1])
        hashes = sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
        component = {
            "type": "library", "bom-ref": f"pkg:pypi/{name}@{match[2]}", "name": name, "version": match[2],
            "purl": f"pkg:pypi/{name}@{match[2]}", "scope": "required" if name in served else "excluded",
            "properties": [{"name": "bwrouter:sha256", "value": h} for h in hashes],
        }  # fmt: skip
        found.append(licensed(component, python_licence(name)))
    return found


def with_dependencies(names: set[str]) -> set[str]:
    """These and what they need, by the metadata of what is installed."""
    todo, done = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [canonical(re.split(r"[\[=<>~;! (]", n)[0]) for n in needs if "extra ==" not in n]
    return done


def npm_packages() -> list[dict[str, Any]]:
    """Everything of package-lock.json; a package that stands at several places once."""
    found: dict[str, dict[str, Any]] = {}
    for path, entry in json.loads((ROOT / "package-lock.json").read_text())["packages"].items():
        if not path:
            continue
        name = path.rpartition("node_modules/")[2]
        purl = f"pkg:npm/{name.replace('@', '%40')}@{entry['version']}"
        kind, _, digest = entry["integrity"].partition("-")
        component = {
            "type": "library", "bom-ref": purl, "name": name, "version": entry["version"], "purl": purl,
            "scope": "excluded" if entry.get("dev") else "required",
            "hashes": [{"alg": f"SHA-{kind.removeprefix('sha')}", "content": base64.b64decode(digest).hex()}],
        }  # fmt: skip
        found[purl] = licensed(component, str(entry.get("license") or npm_licence(path)))
    return [found[k] for k in sorted(found)]


def npm_licence(path: str) -> str:
    """What an installed package's own manifest says, where the lock file says nothing."""
    manifest = ROOT / "build" / "node" / path / "package.json"
    said = json.loads(manifest.read_text()) if manifest.exists() else {}
    old = said.get("licenses")
    return str(said.get("license") or (old[0].get("type", "") if isinstance(old, list) and old else ""))


def debian_names() -> list[str]:
    lines = [line for path in DEBIAN_LISTS for line in path.read_text().splitlines()]
    return sorted({line for line in lines if line and not line.startswith("#")})


def debian_licences(name: str) -> list[str]:
    """Licences in the package's machine-readable copyright file; empty when it is of the old kind or absent."""
    path = COPYRIGHT / name / "copyright"
    text = path.read_text(errors="replace") if path.exists() else ""
    return sorted({x.strip() for x in LICENCE_LINE.findall(text)}) if "Format:" in text[:400] else []


def debian_packages() -> list[dict[str, Any]]:
    """What the lists name, with the version installed here; sources that are built, by the hash that pins them."""
    found = []
    for name in debian_names():
        query = ["dpkg-query", "-W", "-f", "${Version}", name]
        asked = subprocess.run(query, capture_output=True, text=True, check=False)
        purl = f"pkg:deb/debian/{name}" + (f"@{asked.stdout}" if asked.stdout else "")
        component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "purl": purl}
        component["scope"] = "excluded"
        if asked.stdout:
            component["version"] = asked.stdout
        found.append(licensed(component, " AND ".join(debian_licences(name))))
    for line in (ROOT / "scripts/debian-sources.txt").read_text().splitlines():
        name, suite, upstream, digest = line.split()
        purl = f"pkg:deb/debian/{name}@{upstream}?arch=source&distro={suite}"
        found.append({
            "type": "library", "bom-ref": purl, "name": name, "version": upstream, "purl": purl, "scope": "required",
            "hashes": [{"alg": "SHA-256", "content": digest}],
        })  # fmt: skip
    return found


def licensed(component: dict[str, Any], said: str) -> dict[str, Any]:
    return component | ({"licenses": [{"license": {"name": said}}]} if said else {})


def bill() -> dict[str, Any]:
    """The whole document."""
    components = [*python_packages(), *npm_packages(), *debian_packages()]
    digest = hashlib.sha256(json.dumps(components, sort_keys=True).encode()).digest()
    serial = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial,
        "version": 1, "metadata": {"component": {
            "type": "application", "bom-ref": "bwrouter", "name": "bwrouter", "version": version(),
        }}, "components": components,
    }  # fmt: skip


def main() -> int:
    cli = argparse.ArgumentParser(description="write the bill of materials")
    cli.add_argument("--out", type=Path, required=True)
    args = cli.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = bill()
    args.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"sbom: {len(found['components'])} components in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
