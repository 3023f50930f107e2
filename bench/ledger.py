"""Times of the router's own cryptography for the chain, on CPython and on each MicroPython that is built.

`python bench/ledger.py`; the last line is one JSON object. Figures under qemu-user say how instruction counts compare
between the steps, not how long a router takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VECTORS = ROOT / "tests/unit/ledger/vectors.json"
SECONDS = "0.3"


def run(name: str, interpreter: list[str]) -> dict[str, Any]:
    """Figures of one interpreter."""
    command = [*interpreter, str(ROOT / "bench/ledger_job.py"), SECONDS, str(ROOT / "src"), str(VECTORS)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env={**os.environ})
    return {"name": name, **json.loads(out.stdout.splitlines()[-1])}


def main() -> None:
    """Run all and print a table and the JSON line."""
    builds = sorted((ROOT / "build/micropython").glob("*/micropython"))
    if not builds:
        raise SystemExit("bench: no MicroPython is built: run make micropython")
    results = [run("cpython", [sys.executable])]
    results += [run(f"micropython {path.parent.name}", [str(path)]) for path in builds]
    print(f"{'':<22}" + "".join(f"{r['name']:>22}" for r in results))
    for figure in results[0]["times"]:
        print(f"{figure:<22}" + "".join(f"{r['times'][figure]:>22}" for r in results))
    native = next(r for r in results if r["name"] == "micropython native")
    print(json.dumps({"bench": "ledger", **native["times"], "all": results}, sort_keys=True))


if __name__ == "__main__":
    main()
