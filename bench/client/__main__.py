"""`make bench-client`: goodput, set-up, re-route and leaks of the buyer's client, against its goals.

    make bench-client CASES='reroute setup' KILLS=12
CASES: leaks, reroute, setup, goodput (all); KILLS (50): how often hops are killed or cut; RATES (10 40 300): uplinks in
Mbit/s; RTTS (20 80): ms. SHORT=1 is for a quick look: 6 kills, 40 Mbit/s. The last line is one JSON object; exit code
1: a goal was missed. Every figure is from this run.

The lab is the real pool (tests/lab): gateway and chain, eight home routers on MicroPython behind modems of the rate
named, two exits. The links' delay is made by a process (delay.c), since the machine's kernel may have no netem; it
stands in each home's line, between modem and router. `goodput_share` is a download through three hops over the rate of
plain TCP on the same line with the same round trip, less the tunnel's own headers; `goodput_of_line` the same over the
nominal rate of the line.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from typing import Any

from tests.client.leaks import tell
from tests.client.stage import Stage, stage
from tests.lab.net import Line
from tests.lab.proc import BUILD

from .goodput import RATES_MBPS, goodput
from .lines import Lines
from .reroute import reroute, setup

CASES = ("leaks", "reroute", "setup", "goodput")
HOMES = 8
FILE_BYTES = 100 << 20
LIMITS = ("spend_limit_units", "spend_limit_hour_units", "spend_limit_day_units")
NICE = -15  # what else runs on the machine is not what is measured: a relay that wakes late loses what it may send
SHORT = bool(os.environ.get("SHORT"))
GOALS = {"reroute_connections_lost": 0, "reroute_gap_p95_ms": 1000, "leaked_packets": 0}
LEAST = {"goodput_share": 0.90, "network_restored": 1}


def chosen() -> list[str]:
    """CASES in their order. Raises ValueError that names the word."""
    words = (os.environ.get("CASES") or " ".join(CASES)).split()
    for word in words:
        if word not in CASES:
            raise ValueError(f"CASES: {word!r} is none of {', '.join(CASES)}")
    return [c for c in CASES if c in words]


def missed(report: dict[str, Any]) -> list[str]:
    """Names of the figures that miss their goal, of those that were measured."""
    found = [name for name, goal in GOALS.items() if report.get(name, goal) > goal]
    found += [name for name, goal in LEAST.items() if report.get(name, goal) < goal]
    if report.get("setup_ms", 0) > report.get("setup_goal_ms", 0):
        found.append("setup_ms")
    return found


def leaks(s: Stage, report: dict[str, Any]) -> None:
    story = tell(s)
    report |= {
        "leaked_packets": story.leaked, "leaks": {k: len(v) for k, v in story.leaks.items()},
        "tunnel_packets": story.tunnel, "seen_unprotected": story.before, "network_restored": story.restored,
    }  # fmt: skip


def measure(s: Stage, lines: Lines, case: str, report: dict[str, Any]) -> None:
    if case == "leaks":
        leaks(s, report)
    elif case == "reroute":
        reroute(s, int(os.environ.get("KILLS") or (6 if SHORT else 50)), report)
    elif case == "setup":
        setup(s, lines, 3 if SHORT else 5, report)
    else:
        rates = os.environ.get("RATES", "40" if SHORT else "").split()
        goodput(s, lines, tuple(int(r) for r in rates) or RATES_MBPS, report)


def main() -> int:
    report: dict[str, Any] = {"bench": "client", "machine": platform.machine(), "cpus": os.cpu_count()}
    cases = chosen()
    os.setpriority(os.PRIO_PROCESS, 0, NICE)  # the lab's processes inherit it
    with stage(Line(up_kbps=300_000, down_kbps=400_000), 1800.0, FILE_BYTES, HOMES) as s:
        # Every path that dies leaves tickets at its hops until they are back and through with them.
        s.write_config(stock_units=49_152, **dict.fromkeys(LIMITS, 1 << 20))
        lines = Lines(s)
        try:
            for case in cases:
                began, before = time.monotonic(), set(report)
                measure(s, lines, case, report)
                report[f"{case}_seconds"] = round(time.monotonic() - began, 1)
                print(json.dumps({k: v for k, v in report.items() if k not in before}), flush=True)
        finally:
            lines.stop()
    report["missed"] = missed(report)
    with open(BUILD / "bench/client.json", "a") as f:
        f.write(json.dumps(report) + "\n")
    print(json.dumps(report))
    return 1 if report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
