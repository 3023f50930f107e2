"""`make bench-relay`: CPU milliseconds per MB of payload and resident memory of one hop, side by side, in one run.

docs/benchmarks.md says what each figure is. Prints a table and, as the last line, one JSON object, which is also added
to build/bench/relay.json. Exit code 1 when a goal is missed, 2 when the measurement itself failed.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.goals import limits

from . import circuit, pump
from .hops import CLoop, Relay
from .machine import ROOT, Machine, machine
from .tor import Tor
from .tunnels import OpenVpn, WireGuardGo

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
CELLS = 60_000  # of a run: 82 MB of payload
PACKETS = 20_000  # of a run through a VPN
TOR_MB = 40
FULL_BATCHES = (32, 160)  # cells a message of the sender, cells under way
SMALL_BATCHES = (1, 16)
LOSS_MOST = 0.01
GOALS = limits("relay")  # at most


class Failed(RuntimeError):
    """A run whose figure would not mean what it says."""


class Figures:
    """Every round's value of each key."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, key: str, value: float) -> None:
        self.values.setdefault(key, []).append(value)

    def medians(self) -> dict[str, float]:
        return {k: round(statistics.median(v), 3) for k, v in self.values.items()}


def checked(used: float, megabytes: float, result: pump.Result, who: str) -> float:
    """ms per MB. Raises Failed when cells were lost or altered."""
    if result.bad or result.lost > LOSS_MOST * result.sent or not result.received:
        came = f"{result.received} came, {result.lost} were lost, {result.bad} were not ours"
        raise Failed(f"{who}: of {result.sent} datagrams {came}")
    return used * 1e3 / megabytes


def cell_round(figures: Figures, hops: list[tuple[str, Relay | CLoop]], cells: pump.Cells, few: pump.Cells) -> None:
    """Bare AEAD and what speaks our protocol."""
    seal, opening = pump.aead(circuit.FULL, 400)
    figures.add("aead_ms_per_mb", opening / circuit.INNER)
    figures.add("aead_seal_ms_per_mb", seal / circuit.INNER)
    for key, hop in hops:
        for direction, name in (("forward", key), ("backward", f"{key}_backward")):
            figures.add(f"{name}_ms_per_mb", checked(*hop.load(direction, cells, *FULL_BATCHES), hop.name))
        figures.add(f"{key}_small_batches_ms_per_mb", checked(*hop.load("forward", few, *SMALL_BATCHES), hop.name))
        figures.add(f"{key}_rss_kb", hop.process.rss_kb())


def measure(m: Machine) -> Figures:
    say("starting: relays, C loop, wireguard-go, OpenVPN")
    c_loop, relay, cpython = CLoop(m, 51001), Relay(m, "micropython", 51002), Relay(m, "cpython", 51003)
    hops: list[tuple[str, Relay | CLoop]] = [("c_loop", c_loop), ("relay", relay), ("relay_cpython", cpython)]
    tunnels = {"wg_go": WireGuardGo(m), "openvpn": OpenVpn(m)}
    say("starting: Tor (about half a minute until its authorities agree)")
    tor = Tor(m)
    figures, cells, few = Figures(), pump.Cells(CELLS), pump.Cells(CELLS // 3)
    for i in range(ROUNDS):
        say(f"round {i + 1} of {ROUNDS}")
        cell_round(figures, hops, cells, few)
        for key, tunnel in tunnels.items():
            figures.add(f"{key}_ms_per_mb", checked(*tunnel.load(PACKETS), tunnel.name))
            figures.add(f"{key}_rss_kb", tunnel.process.rss_kb())
        used, megabytes = tor.load(TOR_MB)
        figures.add("tor_ms_per_mb", used * 1e3 / megabytes)
        figures.add("tor_rss_kb", tor.process.rss_kb())
        v = figures.values
        figures.add("relay_to_aead", v["relay_ms_per_mb"][-1] / v["aead_ms_per_mb"][-1])
        figures.add("relay_to_c_loop", v["relay_ms_per_mb"][-1] / v["c_loop_ms_per_mb"][-1])
        figures.add("relay_to_tor", v["relay_ms_per_mb"][-1] / v["tor_ms_per_mb"][-1])
        figures.add("c_loop_to_aead", v["c_loop_ms_per_mb"][-1] / v["aead_ms_per_mb"][-1])
    for r in (relay, cpython):
        r.close()
    return figures


_ROWS = (
    ("bare AEAD, a full cell", "aead"), ("C loop", "c_loop"), ("C loop, backward", "c_loop_backward"),
    ("C loop, small batches", "c_loop_small_batches"), ("relay, MicroPython", "relay"),
    ("relay, MicroPython, backward", "relay_backward"), ("relay, MicroPython, small batches", "relay_small_batches"),
    ("relay, CPython", "relay_cpython"), ("relay, CPython, backward", "relay_cpython_backward"), ("tor", "tor"),
    ("wireguard-go", "wg_go"), ("openvpn", "openvpn"),
)  # fmt: skip


def table(figures: Figures, medians: dict[str, float]) -> None:
    print(f"{'one hop':<36}{'CPU ms/MB':>10}{'least':>8}{'most':>8}{'RSS kB':>9}")
    for label, key in _ROWS:
        every = figures.values[f"{key}_ms_per_mb"]
        rss = medians.get(f"{key}_rss_kb")
        print(
            f"{label:<36}{medians[f'{key}_ms_per_mb']:>10.2f}{min(every):>8.2f}{max(every):>8.2f}"
            f"{'' if rss is None else f'{rss:,.0f}':>9}"
        )


def versions() -> dict[str, str]:
    """What was measured: versions of Debian's packages, kernel, processor."""
    found = {"kernel": platform.release(), "load": f"{os.getloadavg()[0]:.1f}", "cpu": "unknown"}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            found["cpu"] = line.partition(":")[2].strip()
    for deb in sorted((ROOT / "build/bench/debs").glob("*.deb")):
        name, version, *_ = deb.name.split("_")
        if name in ("tor", "wireguard-go", "openvpn"):
            found[name] = version.replace("%3a", ":")
    return found


def say(text: str) -> None:
    print(f"bench-relay: {text}", file=sys.stderr, flush=True)


def main() -> int:
    scratch = ROOT / "build/tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as folder, machine(Path(folder)) as m:
            figures = measure(m)
    except (Failed, RuntimeError, OSError, subprocess.CalledProcessError) as e:
        say(f"failed: {e}")
        return 2
    medians = figures.medians()
    table(figures, medians)
    goals = {k: medians[k] <= most for k, most in GOALS.items()}
    for key, most in GOALS.items():
        print(f"{key:<20}{medians[key]:>10,.2f}  goal <= {most:,}{'' if goals[key] else '  MISSED'}")
    out: dict[str, Any] = {**medians, "goals": goals, "rounds": ROUNDS, "machine": versions()}
    line = json.dumps(out)
    target = ROOT / "build/bench/relay.json"
    with target.open("a") as f:
        f.write(json.dumps({"time": int(time.time()), **out, "values": figures.values}) + "\n")
    print(line)
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
