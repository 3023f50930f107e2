#!/usr/bin/env python3
"""Compile contracts/src with npm's solc-js into build/contracts/<Name>.json ({"abi": [...], "bytecode": "0x..."}).

Needs build/node/node_modules (npm ci) and node; no network. The result is kept until a source, this file or the
compiler changes. `python3 contracts/build.py [--force]`; prints the directory it wrote.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "contracts" / "src"
MODULES = ROOT / "build" / "node" / "node_modules"
OUT = ROOT / "build" / "contracts"
IMPORT = re.compile(r'import\s[^"]*"([^"]+)"')
SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 20000},
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none"},
}
OUTPUTS = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]
#: about half of the work
FIRST = {
    f"src/{n}.sol" for n in ("BandwidthToken", "LiquidityPool", "Permits", "PoolFactory", "RegionToken", "Timelock")
}
CODE_LIMIT = 24576  # EIP-170


def collect() -> dict[str, str]:
    """Every source that contracts/src reaches, by the name under which it is imported."""
    sources: dict[str, str] = {}
    queue = [(f"src/{p.relative_to(SRC)}", p) for p in sorted(SRC.rglob("*.sol"))]
    while queue:
        name, path = queue.pop()
        if name in sources:
            continue
        if not path.is_file():
            raise SystemExit(f"contracts: {name} is missing; run `npm ci` into build/node first")
        sources[name] = text = path.read_text()
        for target in IMPORT.findall(text):
            if target.startswith("."):
                joined = pathlib.PurePosixPath(name).parent / target
                parts: list[str] = []
                for part in joined.parts:
                    if part == "..":
                        parts.pop()
                    elif part != ".":
                        parts.append(part)
                child = "/".join(parts)
            else:
                child = target
            base = ROOT / "contracts" if child.startswith("src/") else MODULES
            queue.append((child, base / child))
    return sources


def compile_part(sources: dict[str, str], wanted: list[str]) -> dict[str, Any]:
    """Code and interfaces of `wanted` sources from one run of solc-js; exits with the compiler's own words."""
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sorted(sources.items())},
        "settings": SETTINGS | {"outputSelection": {name: {"*": OUTPUTS} for name in wanted}},
    }
    run = subprocess.run(
        ["node", str(ROOT / "contracts" / "tools" / "solc"), "--standard-json"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"contracts: solc failed: {run.stderr.decode()[-2000:]}")
    output: dict[str, Any] = json.loads(run.stdout)
    problems = [e["formattedMessage"] for e in output.get("errors", []) if e["severity"] == "error"]
    if problems:
        raise SystemExit("\n".join(problems))
    found: dict[str, Any] = output["contracts"]
    return found


def compile_all(sources: dict[str, str]) -> dict[str, Any]:
    """All of contracts/src and the timelock, by two compilers side by side."""
    wanted = sorted(n for n in sources if n.startswith("src/") or n.endswith("/TimelockController.sol"))
    halves = [[n for n in wanted if n in FIRST], [n for n in wanted if n not in FIRST]]
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda half: compile_part(sources, half), halves)
    return {name: contracts for part in parts for name, contracts in part.items()}


def build(force: bool = False) -> pathlib.Path:
    """Bring build/contracts up to date and return it."""
    sources = collect()
    lock = MODULES / "solc" / "package.json"
    digest = hashlib.sha256(
        json.dumps([sorted(sources.items()), SETTINGS, lock.read_text()]).encode() + pathlib.Path(__file__).read_bytes()
    ).hexdigest()
    stamp = OUT / "sources.sha256"
    if not force and stamp.is_file() and stamp.read_text() == digest:
        return OUT
    output = compile_all(sources)
    OUT.mkdir(parents=True, exist_ok=True)
    for contracts in output.values():
        for name, item in contracts.items():
            code = item["evm"]["bytecode"]["object"]
            if len(item["evm"]["deployedBytecode"]["object"]) // 2 > CODE_LIMIT:
                raise SystemExit(f"contracts: {name} is larger than {CODE_LIMIT} bytes (EIP-170)")
            text = json.dumps({"abi": item["abi"], "bytecode": "0x" + code}, sort_keys=True)
            scratch = OUT / f".{name}.tmp"
            scratch.write_text(text)
            scratch.replace(OUT / f"{name}.json")
    stamp.write_text(digest)
    return OUT


if __name__ == "__main__":
    print(build("--force" in sys.argv[1:]).relative_to(ROOT))
