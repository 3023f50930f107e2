"""Processes that are started again when they die, as procd or systemd would."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.lab.proc import Process, Processes

RESPAWN_S = 1.0


class Keeper:
    """One service: how it is started, the process that runs now, all that it used."""

    def __init__(self, name: str, kind: str, start: Callable[[str], Process], flat: bool = True, peers: int = 0) -> None:
        """`peers`: how many others may come with connections of their own when their server is gone."""
        self.name, self.kind, self.flat, self.peers = name, kind, flat, peers
        self._start = start
        self.process: Process | None = None
        self.starts = 0
        self.died_at = 0.0
        self.held = False  # not to be started again for now
        self.samples: list[Sample] = []  # of the process that runs
        self.history: list[list[Sample]] = []

    def up(self) -> Process:
        """Start it; its log has the number of the start in its name."""
        self.starts += 1
        if self.samples:
            self.history.append(self.samples)
            self.samples = []
        self.process = self._start(f"{self.name}.{self.starts}")
        return self.process

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def mind(self, processes: Processes) -> None:
        """Start it again a second after its end."""
        if self.alive() or self.process is None:
            return
        if not self.died_at:
            self.died_at = time.monotonic()
            with contextlib.suppress(ValueError):
                processes.started.remove(self.process)
        if not self.held and time.monotonic() - self.died_at > RESPAWN_S:
            self.died_at = 0.0
            self.up()

    def sample(self) -> None:
        """Memory and descriptors now."""
        if not self.alive() or self.process is None:
            return
        with contextlib.suppress(OSError, KeyError, ValueError):
            pid = self.process.pid
            status = dict(x.split(":", 1) for x in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in x)
            connections = established(pid) if self.peers else set()  # the kernel walks a large table for it
            held = [os.readlink(fd.path) for fd in os.scandir(f"/proc/{pid}/fd")]
            connected = sum(name in connections for name in held)
            rss = int(status["VmRSS"].split()[0])
            self.samples.append(Sample(time.monotonic(), rss, len(held) - connected, connected))


class Sample(NamedTuple):
    """Of a process: monotonic seconds, memory, descriptors that are no TCP connection, TCP connections."""

    at: float
    rss_kb: int
    descriptors: int
    connections: int = 0


def established(pid: int) -> set[str]:
    """TCP connections that stand in a process's network namespace, as /proc/PID/fd names them: one whose peer has
    gone, and which is still held, is none of them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "01":
                found.add(f"socket:[{words[9]}]")
    return found
