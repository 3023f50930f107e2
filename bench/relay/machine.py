"""Network namespaces, processes and their CPU time: what every subject of the benchmark stands on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "build/bench/root"
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_PR_SET_PDEATHSIG = 1
SUBJECT_CPU = max(os.sched_getaffinity(0))
TRAFFIC_CPUS = {min(os.sched_getaffinity(0))}


def _call(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def private_run() -> None:
    """An empty /run for this process and its children: WireGuard keeps its control sockets there."""
    _call(_LIBC.unshare(_CLONE_NEWNS), "unshare of mounts")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)


class Namespace:
    """A network namespace without a name: it vanishes with this process and its children. `with` enters it."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _call(_LIBC.unshare(_CLONE_NEWNET), "unshare of the network")
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _call(_LIBC.setns(home, _CLONE_NEWNET), "setns")
        os.close(home)
        self._homes: list[int] = []
        self.ip("link set lo up")

    def __enter__(self) -> Namespace:
        self._homes.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _call(_LIBC.setns(self.fd, _CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_: object) -> None:
        home = self._homes.pop()
        _call(_LIBC.setns(home, _CLONE_NEWNET), "setns")
        os.close(home)

    def ip(self, command: str) -> str:
        with self:
            return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout

    def join(self, other: Namespace, name: str, far: str) -> None:
        """A veth pair: `name` here, `far` in the other namespace."""
        self.ip(f"link add {name} type veth peer name {far} netns /proc/{os.getpid()}/fd/{other.fd}")


class Machine:
    """Three namespaces in line: sender, hop, receiver. The hop's processes have a processor of their own."""

    A, M1, M2, B = "198.18.1.2", "198.18.1.1", "198.18.2.1", "198.18.2.2"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a, self.m, self.b = Namespace(), Namespace(), Namespace()
        self.processes: list[Process] = []
        self.a.join(self.m, "a0", "m0")
        self.b.join(self.m, "b0", "m1")
        for ns, name, address in ((self.a, "a0", self.A), (self.m, "m0", self.M1), (self.m, "m1", self.M2),
                                  (self.b, "b0", self.B)):  # fmt: skip
            ns.ip(f"addr add {address}/24 dev {name}")
            ns.ip(f"link set {name} up")
        self.a.ip(f"route add default via {self.M1}")
        self.b.ip(f"route add default via {self.M2}")
        with self.m:
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def start(self, ns: Namespace, argv: list[str], name: str, subject: bool = False, **options: Any) -> Process:
        """Start `argv` in `ns`, pinned; its output goes to NAME.log unless `options` say otherwise."""
        p = Process(ns, argv, self.folder / f"{name}.log", {SUBJECT_CPU} if subject else TRAFFIC_CPUS, **options)
        self.processes.append(p)
        return p

    def stop(self) -> None:
        for p in reversed(self.processes):
            p.stop()


class Process:
    """A child that dies with us, and the CPU time that it has used."""

    def __init__(self, ns: Namespace, argv: list[str], log: Path, cpus: set[int], **options: Any) -> None:
        def before() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, cpus)

        self.name = log.stem
        self.log = log
        environment = {**os.environ, **options.pop("env", {})}
        if str(PEERS) in argv[0]:
            environment["LD_LIBRARY_PATH"] = ":".join(str(p) for p in PEERS.glob("**/lib/*-linux-gnu"))
        with ns, log.open("wb") as out:
            self.child = subprocess.Popen(
                argv, preexec_fn=before, env=environment, stderr=out,
                **{"stdin": subprocess.DEVNULL, "stdout": out, **options},
            )  # fmt: skip

    def cpu_seconds(self) -> float:
        """User and system time of all its threads: the kernel's own sum, in nanoseconds (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.child.pid << 3) | 2)

    def rss_kb(self) -> int:
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ProcessLookupError(self.name)

    def check(self) -> None:
        """Raises RuntimeError with the end of its log when it has ended."""
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with code {self.child.returncode}:\n{tail}")

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(3)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()


def wait_for(what: str, ready: Callable[[], Any], seconds: float, *processes: Process) -> Any:
    """Poll until `ready()` is true and return it. Raises RuntimeError naming `what`, with the processes' logs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for p in processes:
            p.check()
        if value := ready():
            return value
        time.sleep(0.05)
    logs = "\n".join(f"-- {p.name}\n" + p.log.read_text(errors="replace")[-1500:] for p in processes)
    raise RuntimeError(f"{what} was not there after {seconds} s\n{logs}")


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A Machine whose processes are stopped at the end, however it comes."""
    os.sched_setaffinity(0, TRAFFIC_CPUS)
    private_run()
    m = Machine(folder)
    try:
        yield m
    finally:
        m.stop()
