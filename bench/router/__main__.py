"""`make bench-router`: instructions of a router's CPU (MIPS 24K, little-endian) for one full cell, in QEMU.

docs/benchmarks.md says what each figure is. Prints a table and, as the last line, one JSON object, which is also added
to build/bench/router.json. Exit code 1 when a goal is missed, 2 when the measurement itself failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bench.goals import limits
from qemu.guest import ROOT, Guest, GuestError

ARCH = "mipsel"
SHIFT = 1  # of QEMU's -icount: an instruction takes 2^SHIFT ns of the guest's time
BATCHES = int(os.environ.get("BENCH_BATCHES", "9"))
BOOT_S = 300  # counting makes the guest slow
GOALS = limits("router")  # at most
HERE = Path(__file__).parent
FILES = {
    "/srv/src/bwrouter": ROOT / "src/bwrouter",
    "/srv/inside.py": HERE / "inside.py",
    "/srv/libpump.so": ROOT / "build/bench/router/libpump.so",
}
ROWS = (
    ("bare AEAD, opened", "aead"), ("bare AEAD, sealed", "aead_seal"), ("C loop", "c_loop"),
    ("C loop, backward", "c_loop_backward"), ("C loop, cells one by one", "c_loop_single"),
    ("relay", "relay"), ("relay, backward", "relay_backward"), ("relay, cells one by one", "relay_single"),
)  # fmt: skip


def measure() -> dict[str, float]:
    """What bench/router/inside.py prints in the guest."""
    options = ["-icount", f"shift={SHIFT}", "-rtc", "clock=vm"]
    with Guest(ARCH, 64, FILES, boot_s=BOOT_S, options=options) as guest:
        print(f"bench-router: the guest runs after {guest.boot_seconds:.0f} s", file=sys.stderr, flush=True)
        inside = f"micropython -X heapsize=1m /srv/inside.py {BATCHES} {1 << SHIFT}"
        output = guest.run(f"cd /srv && MICROPYPATH=src:.frozen {inside}", timeout_s=1200)
    values: dict[str, float] = json.loads(output.splitlines()[-1])
    return values


def main() -> int:
    try:
        figures = {k: round(v) for k, v in measure().items()}
    except (GuestError, OSError, ValueError) as e:
        print(f"bench-router: failed: {e}", file=sys.stderr)
        return 2
    out: dict[str, float] = dict(figures)
    for key in ("", "_backward", "_single"):
        ratio = figures[f"relay{key}_insns_per_cell"] / figures[f"c_loop{key}_insns_per_cell"]
        out[f"relay{key}_to_c_loop"] = round(ratio, 3)
    print(f"{'one full cell through one hop, MIPS 24K':<42}{'instructions':>14}")
    for label, key in ROWS:
        print(f"{label:<42}{figures[f'{key}_insns_per_cell']:>14,}")
    goals = {k: out[k] <= most for k, most in GOALS.items()}
    for key, most in GOALS.items():
        print(f"{key:<24}{out[key]:>14,}  goal <= {most:,}{'' if goals[key] else '  MISSED'}")
    result = {**out, "goals": goals, "batches": BATCHES}
    target = ROOT / "build/bench/router.json"
    with target.open("a") as f:
        f.write(json.dumps({"time": int(time.time()), **result}) + "\n")
    print(json.dumps(result))
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
