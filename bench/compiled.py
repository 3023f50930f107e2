"""What compiled modules (.mpy) save on a router beside Python source: flash, memory and time until a process runs.

    build/venv/bin/python bench/compiled.py [--runs 9]

Each process imports what the agent or the relay imports, on the MicroPython of MICROPYTHON (this machine's by default).
Prints a table and, last, one JSON object. `stripped` is compiled without line numbers (mpy-cross -O3). Memory is the
kernel's VmRSS and MicroPython's own heap after a collection; time is the process's CPU time, the least of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MICROPYTHON = Path(os.environ.get("MICROPYTHON") or ROOT / "build/micropython/native/micropython")
FORMS: dict[str, list[str] | None] = {"source": None, "compiled": [], "stripped": ["-O3"]}
PARTS = {
    "agent": "bwrouter.agent.agent",
    "relay": "bwrouter.relay.relay",
}
PROBE = """
import gc, {module}
gc.collect()
status = open("/proc/self/status").read()
print(gc.mem_alloc(), status.split("VmRSS:")[1].split()[0])
"""


def install(form: str, folder: Path) -> int:
    """Put the modules below `folder` in one of the forms; bytes in all."""
    options = FORMS[form]
    size = 0
    for path in sorted((ROOT / "src/bwrouter").rglob("*.py")):
        target = folder / path.relative_to(ROOT / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        if options is None:
            shutil.copy(path, target)
        else:
            target = target.with_suffix(".mpy")
            name = str(path.relative_to(ROOT / "src"))
            subprocess.run([ROOT / "build/mpy-cross/mpy-cross", *options, "-s", name, "-o", target, path], check=True)
        size += target.stat().st_size
    return size


def probe(folder: Path, module: str, runs: int) -> dict[str, float]:
    """Heap bytes, resident KiB and CPU ms of a process that imports `module`."""
    best: dict[str, float] = {}
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [str(MICROPYTHON), "-c", PROBE.format(module=module)]
        environment = {"MICROPYPATH": f"{folder}:.frozen"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        heap, rss = run.stdout.split()
        measured = {"heap_kb": int(heap) / 1024, "rss_kb": float(rss), "cpu_ms": 1000 * spent}
        best = {name: min(value, best.get(name, value)) for name, value in measured.items()}
    return {name: round(value, 1) for name, value in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compiled modules beside source.")
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for form in FORMS:
            folder = Path(temporary) / form
            found[form] = {"bytes": install(form, folder)}
            for part, module in PARTS.items():
                found[form][part] = probe(folder, module, runs)
    print(f"{'':10}{'flash':>10}{'agent: heap':>14}{'RSS':>8}{'CPU':>9}{'relay: heap':>14}{'RSS':>8}{'CPU':>9}")
    for form, values in found.items():
        row = f"{form:10}{values['bytes']:>8} B"
        for part in PARTS:
            row += "{heap_kb:>11.0f} KB{rss_kb:>5.0f} KB{cpu_ms:>6.0f} ms".format(**values[part])
        print(row)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
