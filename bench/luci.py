"""CPU time of a poll of the owner's page on the router: luci.bwrouter's `status` reads files and starts nothing.

The plugin's file runs under ucode where that is installed (a router), and under Node.js as in the browser tests. The
status is a large one: a hundred audits, four gateways. The last line is a JSON object; `poll_cpu_ms` has the goal of 5.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.goals import limits

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "luci-app/root/usr/share/rpcd/ucode/bwrouter.uc"
GOAL_MS = int(limits("luci")["poll_cpu_ms"])
POLLS = 2000
UCODE = """
let methods = loadfile('{plugin}', {{ raw_mode: true }})()['luci.bwrouter'], found = null;
for (let i = 0; i < {polls}; i++)
    found = methods.status.call({{ args: {{}} }});
print(length(found.status.verdicts), '\\n');
"""


def status() -> dict[str, Any]:
    """As large as an agent's status gets."""
    audit = {
        "epoch": 4711, "time": 1_795_000_000, "reason": "Good", "kbps": 39_512, "claimed_kbps": 40_000,
        "latency_ms": 23, "loss_bps": 4,
    }  # fmt: skip
    gateway = {"url": "https://gateway.example.org", "key": "ab" * 32, "ok": True, "error": "", "published_until": 0}
    return {
        "time": int(time.time()), "version": "0.1.0", "relay_id": "cd" * 32, "wallet": "0x" + "ef" * 20,
        "rate": {"allowed_kbps": 19_000, "household_kbps": 412, "own_kbps": 11_000, "reason": "household"},
        "relay": {"circuits": 17, "cells_in": 10**9, "cells_out": 10**9, "bytes_out": 10**12},
        "gateways": [gateway] * 4, "verdicts": [audit] * 100,
        "earnings": {"cumulative_wei": "1" * 22, "claimed_wei": "1" * 22, "balance_wei": "1" * 22},
    }  # fmt: skip


def cpu_ms(command: list[str], stdin: str = "") -> float:
    """User and system time of a child, ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert '"verdicts"' in run.stdout or run.stdout.strip() == "100", run.stdout[-200:] + run.stderr
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def node(run_dir: Path) -> float:
    moved = json.dumps({"/var/run/bwrouter": str(run_dir)})
    command = ["node", str(ROOT / "tests/browser/plugin.mjs"), str(PLUGIN), moved]
    line = json.dumps({"id": 1, "method": "status", "args": {}}) + "\n"
    return (cpu_ms(command, line * POLLS) - cpu_ms(command, line)) / (POLLS - 1)


def ucode(folder: Path, run_dir: Path) -> float | None:
    if not shutil.which("ucode"):
        return None
    plugin = folder / "plugin.uc"
    plugin.write_text(PLUGIN.read_text().replace("'/var/run/bwrouter'", f"'{run_dir}'"))
    times = []
    for polls in (1, POLLS):
        script = folder / f"polls-{polls}.uc"
        script.write_text(UCODE.format(plugin=plugin, polls=polls))
        times.append(cpu_ms(["ucode", "-R", str(script)]))
    return (times[1] - times[0]) / (POLLS - 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_dir = folder / "run"
        run_dir.mkdir()
        (run_dir / "status.json").write_text(json.dumps(status()))
        size = (run_dir / "status.json").stat().st_size
        by_node, by_ucode = node(run_dir), ucode(folder, run_dir)
    poll = by_node if by_ucode is None else by_ucode
    print(f"status.json of {size} bytes: {by_node:.3f} ms of CPU a poll under Node.js", end="")
    print("" if by_ucode is None else f", {by_ucode:.3f} ms under ucode")
    print(json.dumps({
        "poll_cpu_ms": round(poll, 3), "goal_ms": GOAL_MS, "runtime": "ucode" if by_ucode is not None else "node",
        "node_ms": round(by_node, 3), "status_bytes": size,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
