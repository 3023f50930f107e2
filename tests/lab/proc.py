"""Processes inside the lab's namespaces: start, log, measure, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
RUN = BUILD / "run"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user + system, threads and ended children included) and resident kB now and at the peak."""

    cpu_s: float
    rss_kb: int
    peak_kb: int


@dataclass
class Process:
    """A running command. `ip netns exec` replaces itself, so `pid` is the command's own."""

    name: str
    argv: list[str]
    log: Path
    popen: subprocess.Popen[bytes]
    asked: bool = False
    last: bool = False
    usage: Usage = field(default_factory=lambda: Usage(0.0, 0, 0))

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def sample(self) -> Usage:
        """The usage now, or the last one read while it lived."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":" in line
            )
            if "VmRSS" in status:
                cpu = sum(int(t) for t in stat[11:15]) / TICKS
                rss, peak = (int(status[key].split()[0]) for key in ("VmRSS", "VmHWM"))
                self.usage = Usage(cpu, rss, peak)
        except (OSError, ValueError, IndexError):
            pass
        return self.usage

    def tail(self, lines: int = 12) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self, grace: float = 4.0) -> int:
        """SIGTERM; after `grace` seconds SIGKILL to its group. Returns the exit status (negative: the signal)."""
        self.ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait()

    def ask(self) -> None:
        """SIGTERM, once: children are the process's own to end."""
        self.sample()
        if not self.asked and self.alive():
            self.asked = True
            self.popen.terminate()


class Processes:
    """All processes of a run."""

    def __init__(self, logs: Path = RUN) -> None:
        self.logs = logs
        self.started: list[Process] = []

    def start(
        self, name: str, argv: list[str], ns: str | None = None, env: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> Process:
        """Start `argv` in namespace `ns`; stdout and stderr go to `<logs>/<name>.log`. Raises OSError."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        full = ["ip", "netns", "exec", ns, *argv] if ns else argv
        with open(log, "wb") as out:
            popen = subprocess.Popen(
                full, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd,
                env=environment(env), start_new_session=True,
            )  # fmt: skip
        process = Process(name, argv, log, popen)
        self.started.append(process)
        return process

    def dead(self) -> list[Process]:
        """Those that ended by themselves."""
        return [p for p in self.started if not p.alive()]

    def stop(self) -> None:
        """All at once, but those marked `last` after the others: servers see their clients go."""
        for process in self.started:
            if not process.last:
                process.ask()
        for process in sorted(self.started, key=lambda p: p.last):
            process.stop()
        self.started.clear()


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """A small environment that does not depend on who runs the lab; the home directory is inside build/."""
    home = RUN / "home"
    home.mkdir(parents=True, exist_ok=True)
    base = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
    }
    return base | (extra or {})


def wait_for(what: str, ready: object, timeout: float, every: float = 0.05) -> float:
    """Call `ready()` until it is true; returns the seconds it took. Raises TimeoutError naming `what`."""
    assert callable(ready)
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > timeout:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(every)
    return time.monotonic() - began
