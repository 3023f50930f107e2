"""Processor time that a download takes, by what takes it, and the rate that the machine's processors bound it to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tests.client.stage import Stage
from tests.lab.proc import TICKS, Process

from .lines import Lines

_CPUS = len(os.sched_getaffinity(0))
_PLACES = ("entry", "middle", "exit", "4", "5")


def seconds(pid: int) -> float:
    """CPU seconds of a process so far, user and system; 0 for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / TICKS


def kernel_threads(name: str) -> list[int]:
    """Process ids of the kernel's threads of a name, one for each processor."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().startswith(name):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Spent:
    """Who takes part in a download: `client` in the tunnel's, none in plain TCP's. `mark` twice, then `per_mb`."""

    def __init__(self, s: Stage, lines: Lines, client: Process | None, server: str) -> None:
        self.groups: dict[str, list[int]] = {"delay lines": [c.pid for c in lines.children.values()]}
        processes = {p.name: p.pid for p in s.pool.processes.started}
        rest = {p.pid for p in s.pool.processes.started}
        self.groups["web server"] = [processes[server]] if server in processes else []
        if client is not None:
            self.groups["client"] = [client.pid]
            status = s.status()
            for place in range(len(status["hops"])):
                router = s.router(place, status)
                assert router.relay
                name = "exit" if place == len(status["hops"]) - 1 else _PLACES[place]
                self.groups[name] = [router.relay.pid]
        taken = {pid for pids in self.groups.values() for pid in pids}
        self.groups["rest of the lab"] = sorted(rest - taken)
        self.groups["ksoftirqd"] = kernel_threads("ksoftirqd/")
        self.marks: list[dict[str, float]] = []

    def mark(self, fetcher: int) -> None:
        """Now. `fetcher`: the process that downloads."""
        self.groups["curl"] = [fetcher]
        self.marks.append({name: sum(map(seconds, pids)) for name, pids in self.groups.items()})

    def per_mb(self, megabytes: float) -> dict[str, float]:
        """Milliseconds for each megabyte (10^6 bytes of body) between the first two marks."""
        first, last = self.marks[:2]
        return {name: round((last[name] - first[name]) * 1000 / megabytes, 2) for name in first}


def bound_mbit(ms_per_mb: dict[str, float], alone: Iterable[str]) -> float:
    """Mbit/s at which all processors are full, or one of the processes named in `alone`, which have one thread."""
    whole = sum(ms_per_mb.values()) / _CPUS
    most = max([whole, *(ms_per_mb.get(name, 0.0) for name in alone)])
    return round(8000 / most, 1) if most else 0.0
