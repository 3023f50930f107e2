"""Processes that are started again when they die, as procd or systemd would."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.proc import Process, Processes

RESPAWN_S = 1.0


class Keeper:
    """One service: how it is started, the process that runs now, all that it used."""

    def __init__(self, name: str, kind: str, start: Callable[[str], Process], flat: bool = True) -> None:
        self.name, self.kind, self.flat = name, kind, flat
        self._start = start
        self.process: Process | None = None
        self.starts = 0
        self.died_at = 0.0
        self.held = False  # not to be started again for now
        self.samples: list[tuple[float, int, int]] = []  # of the process that runs: seconds, rss kB, descriptors
        self.history: list[list[tuple[float, int, int]]] = []

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
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            self.samples.append((time.monotonic(), int(status["VmRSS"].split()[0]), descriptors))
