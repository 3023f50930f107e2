"""Debian's Tor as a private network: three authorities, a guard, the middle relay under test, an exit, a client.

Nothing of it reaches beyond the benchmark's namespaces: the authorities are its own (TestingTorNetwork).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

from .machine import PEERS, SUBJECT_CPU, TRAFFIC_CPUS, Machine, Namespace, Process, wait_for

STREAMS = 8  # each on a circuit of its own: with fewer, Tor's windows leave the middle relay half idle: dearer per MB
WARM_MB = 8  # before the clock starts: the windows have opened
_IDLE = 3.0  # seconds
_CHUNK = os.urandom(1 << 16)
_OR, _DIR, _SOCKS = 9001, 9101, 9051
_COMMON = """TestingTorNetwork 1
AssumeReachable 1
DataDirectory {folder}
Nickname {name}
Address {ip}
ShutdownWaitLength 0
DisableDebuggerAttachment 0
Log notice stdout
PathsNeededToBuildCircuits 0.25
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
"""
_RELAY = "ORPort {ip}:{port} IPv4Only\nSocksPort 0\nContactInfo none\nExitRelay {exit}\n"
_AUTHORITY = """AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
DirPort {ip}:{dirport}
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 2
V3AuthDistDelay 2
ConsensusParams cc_alg=2
TestingMinExitFlagThreshold 0
"""
_EXIT = "ExitPolicyRejectPrivate 0\nExitPolicy accept *:*\n"
_CLIENT = "SocksPort 127.0.0.1:{port}\nClientOnly 1\nEntryNodes guard\nMiddleNodes middle\nExitNodes exit\n"


class Node:
    """One tor process and its folder."""

    def __init__(self, machine: Machine, ns: Namespace, name: str, ip: str, number: int) -> None:
        self.machine, self.ns, self.name, self.ip, self.number = machine, ns, name, ip, number
        self.folder = machine.folder / f"tor-{name}"
        self.folder.mkdir(mode=0o700)

    @property
    def torrc(self) -> Path:
        return self.folder / "torrc"

    def configure(self, *parts: str) -> None:
        text = (_COMMON + "".join(parts)).format(
            folder=self.folder, name=self.name, ip=self.ip, port=_OR + self.number, dirport=_DIR + self.number,
            exit=int(self.name == "exit"),
        )  # fmt: skip
        self.torrc.write_text(text)

    def authority_line(self) -> str:
        """Make the authority's keys; its DirAuthority line for everybody's torrc."""
        (self.folder / "keys").mkdir(mode=0o700)
        _tool(
            ["tor-gencert", "--create-identity-key", "-m", "12", "-a", f"{self.ip}:{_DIR + self.number}",
             "--passphrase-fd", "0", "-i", "authority_identity_key", "-s", "authority_signing_key",
             "-c", "authority_certificate"], self.folder / "keys",
        )  # fmt: skip
        certificate = (self.folder / "keys/authority_certificate").read_text()
        identity = re.search(r"^fingerprint (\w+)", certificate, re.M)
        port = str(_OR + self.number)
        said = _tool(["tor", "--list-fingerprint", "-f", str(self.torrc), "--orport", port], self.folder)
        fingerprint = re.search(r"^\w+ ((?:[0-9A-F]{4} ?){10})$", said, re.M)
        if not identity or not fingerprint:
            raise RuntimeError(f"tor --list-fingerprint said: {said}")
        return (
            f"DirAuthority {self.name} orport={_OR + self.number} v3ident={identity[1]}"
            f" {self.ip}:{_DIR + self.number} {fingerprint[1]}\n"
        )

    def start(self, subject: bool = False) -> Process:
        argv = [str(PEERS / "usr/bin/tor"), "--defaults-torrc", "/dev/null", "-f", str(self.torrc)]
        p = self.machine.start(self.ns, argv, f"tor-{self.name}", subject)
        if not subject:  # five processes on one processor would starve the middle relay, to its disadvantage
            os.sched_setaffinity(p.child.pid, TRAFFIC_CPUS | {SUBJECT_CPU})
        return p


def _tool(argv: list[str], cwd: Path) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(str(p) for p in PEERS.glob("**/lib/*-linux-gnu"))}
    ran = subprocess.run(
        [str(PEERS / "usr/bin" / argv[0]), *argv[1:]], cwd=cwd, env=environment, input="bench\n", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise RuntimeError(f"{argv[0]}: {ran.stdout}")
    return ran.stdout


class Tor:
    """The network; `load` downloads through it."""

    name = "tor"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        authorities = [Node(machine, machine.a, f"authority{i}", Machine.A, i) for i in range(3)]
        guard = Node(machine, machine.a, "guard", Machine.A, 3)
        middle = Node(machine, machine.m, "middle", Machine.M1, 4)
        last = Node(machine, machine.b, "exit", Machine.B, 5)
        client = Node(machine, machine.a, "client", Machine.A, 0)
        for n in authorities:
            n.configure(f"DirAuthority unused 127.0.0.1:1 {'F' * 40}\n")  # only to learn its fingerprint
        lines = "".join(n.authority_line() for n in authorities)
        for n in authorities:
            n.configure(lines, _RELAY, _AUTHORITY, "ExitPolicy reject *:*\n")
        guard.configure(lines, _RELAY, "ExitPolicy reject *:*\n")
        middle.configure(lines, _RELAY, "ExitPolicy reject *:*\n")
        last.configure(lines, _RELAY, _EXIT)
        client.configure(lines, _CLIENT.replace("{port}", str(_SOCKS)))
        running = [n.start() for n in authorities]
        for n in (guard, last):
            running.append(n.start())
        self.process = middle.start(subject=True)
        running += [self.process, client.start()]
        wait_for(
            "Tor's bootstrap", lambda: "Bootstrapped 100%" in running[-1].log.read_text(errors="replace"), 180, *running
        )

    def _stream(self, name: str) -> socket.socket:
        """A stream through the network to a server that sends without end; every `name` has a circuit of its own."""
        with self.machine.b:
            server = socket.create_server(("", 0))

        def serve() -> None:
            with server, contextlib.suppress(OSError):
                server.settimeout(60)
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(60)
                    while True:
                        peer.sendall(_CHUNK)

        threading.Thread(target=serve, daemon=True).start()
        with self.machine.a:
            s = socket.create_connection(("127.0.0.1", _SOCKS), 60)
        s.sendall(b"\5\1\2")
        s.recv(2)
        s.sendall(b"\1" + bytes([len(name)]) + name.encode() + b"\1x")  # IsolateSOCKSAuth
        s.recv(2)
        s.sendall(b"\5\1\0\1" + socket.inet_aton(Machine.B) + server.getsockname()[1].to_bytes(2, "big"))
        answer = s.recv(10)
        if len(answer) < 2 or answer[1]:
            s.close()
            raise ConnectionError(f"Tor's client refused the stream: {answer.hex()}")
        return s

    def load(self, megabytes: int) -> tuple[float, float]:
        """Download so much over STREAMS circuits at a time: the middle relay's CPU seconds, and the MB that came.

        What it uses when idle is taken off: a testing network votes every 20 s, the public one every hour.
        """
        got = [0] * STREAMS
        before = self.process.cpu_seconds()
        time.sleep(_IDLE)
        idle = (self.process.cpu_seconds() - before) / _IDLE

        def take(i: int, s: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := s.recv(1 << 18):
                    got[i] += len(data)

        streams = [self._open(f"stream{i}") for i in range(STREAMS)]
        try:
            for i, s in enumerate(streams):
                threading.Thread(target=take, args=(i, s), daemon=True).start()
            wait_for("Tor's first bytes", lambda: sum(got) > WARM_MB * 1e6 and min(got), 60, self.process)
            first, seen, before, since = sum(got), self._forwarded(), self.process.cpu_seconds(), time.monotonic()
            wait_for("Tor's bytes", lambda: sum(got) - first >= megabytes * 1e6, 120, self.process)
            used, counted = self.process.cpu_seconds() - before, sum(got) - first
            used -= idle * (time.monotonic() - since)
            if self._forwarded() - seen < counted * 0.9:
                raise ConnectionError("the bytes did not go through the middle relay")
        finally:
            for s in streams:
                s.shutdown(socket.SHUT_RDWR)
                s.close()
        return used, counted / 1e6

    def _open(self, name: str) -> socket.socket:
        """A stream as soon as there is a circuit for it."""

        def attempt() -> socket.socket | None:
            try:
                return self._stream(name)
            except (ConnectionError, TimeoutError):
                return None

        s: socket.socket = wait_for("a circuit", attempt, 60, self.process)
        return s

    def _forwarded(self) -> int:
        """Bytes that came to the middle relay's namespace from the exit's side."""
        return int(self.machine.m.ip("-s link show dev m1").splitlines()[3].split()[0])
