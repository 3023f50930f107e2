"""The program behind a covert audit's tunnel: a process of its own, as a buyer's browser is, which fetches pages.

A thread beside the tunnel would share its interpreter: each would wait for the other, and a relay would see the answers
come later than a buyer's. HTTP/1.1 over SOCKS5 (RFC 1928) to `bw proxy`'s port, one object after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from .habits import header

OBJECT_SECONDS = 10.0  # without a byte, after which an object is given up
START_SECONDS = 20.0
_STOP = b"stop"
_MOST = 1 << 20  # bytes of a message


@dataclass(frozen=True)
class Visit:
    """Paths that are fetched one after the other over one connection, and the pause after them in seconds."""

    paths: tuple[str, ...]
    pause: float


@dataclass(frozen=True)
class Got:
    """One object that came: its path, the SHA-256 (hex) and size of its body, seconds from request to last byte."""

    path: str
    digest: str
    size: int
    seconds: float


class Browser:
    """`socks`: the proxy's port of localhost."""

    def __init__(self, socks: int) -> None:
        self._socks = socks
        self._busy = self._stopped = self._gone = False
        self.got: list[Got] = []
        self.why = ""  # an error of the last session
        self._start()

    def _start(self) -> None:
        """The process, up to where it waits for orders."""
        self._near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-m", "bwverifier.browser", str(self._socks), str(far.fileno())]
        path = os.pathsep.join(p for p in (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(argv, pass_fds=[far.fileno()], env={**os.environ, "PYTHONPATH": path})
        far.close()
        self._busy, self._gone = True, False
        if not self.poll(START_SECONDS) or self.why:
            self.close()
            raise OSError(f"the browser's process cannot be started: {self.why or 'it says nothing'}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, host: str, port: int, visits: Sequence[Visit]) -> None:
        """Begin a session at a web server; `poll` tells when it is over. One that was stopped must `rest` before.
        Raises OSError when the process is gone."""
        assert not self._busy
        self.got, self.why, self._busy, self._stopped = [], "", True, False
        orders = {"host": host, "port": port, "visits": [[v.paths, v.pause] for v in visits]}
        self._near.send(json.dumps(orders).encode())

    def poll(self, seconds: float = 0.0) -> bool:
        """Whether the session is over, after waiting for at most so long; `got` and `why` have what has come of it."""
        until = time.monotonic() + seconds
        while self._busy and select.select([self._near], [], [], max(0.0, until - time.monotonic()))[0]:
            told = self._told()
            if "end" in told:
                self._busy, self.why = False, told["end"]
            elif not self._stopped:
                self.got.append(Got(*told["got"]))
        return not self._busy

    def _told(self) -> dict[str, Any]:
        message = b""
        with contextlib.suppress(ConnectionError):
            message = self._near.recv(_MOST)
        self._gone = not message
        told: dict[str, Any] = {"end": "the browser's process has ended"} if self._gone else json.loads(message)
        return told

    def stop(self) -> None:
        """End the session under way after the object that is being fetched, which does not count."""
        if not self.poll():
            self._stopped = True
            self._near.send(_STOP)

    def halt(self) -> None:
        """The same while another thread is in `poll`: nothing is heard here."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._near.send(_STOP)

    def rest(self) -> None:
        """Be ready for a session: wait until one that was stopped is over; start anew a process that died. Raises
        OSError."""
        with contextlib.suppress(ConnectionError):
            self.stop()
        hangs = not self.poll(OBJECT_SECONDS + 1)
        if not hangs and select.select([self._near], [], [], 0)[0]:
            self._told()  # nothing is said between sessions: this is its end
        if hangs or self._gone:
            self.close()
            self._start()

    def close(self) -> None:
        """End the process."""
        self._near.close()
        self._process.kill()
        self._process.wait()


# -- in the process ----------------------------------------------------------------------


def _serve(far: socket.socket, socks: int) -> None:
    """Sessions, until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its parent
    far.send(b'{"end": ""}')
    while message := far.recv(_MOST):
        if message == _STOP:
            continue  # the session was over already
        orders = json.loads(message)
        why = ""
        for paths, pause in orders["visits"]:
            try:
                if paths:
                    _visit(socks, orders["host"], orders["port"], paths, far)
            except _Stopped:
                break
            except (OSError, http.client.HTTPException) as e:
                why = f"{type(e).__name__}: {e}"
            if _told(far, pause):
                break
        far.send(json.dumps({"end": why}).encode())


def _told(far: socket.socket, seconds: float) -> bool:
    """Whether the parent says something within this time."""
    return bool(select.select([far], [], [], seconds)[0])


class _Stopped(Exception):
    """The parent does not want the rest."""


def _visit(socks: int, host: str, port: int, paths: Sequence[str], far: socket.socket) -> None:
    c = _connect(socks, host, port)
    try:
        for path in paths:
            if _told(far, 0):
                raise _Stopped
            began = time.monotonic()
            c.request("GET", path, headers=header())
            body = c.getresponse().read()
            got = Got(path, hashlib.sha256(body).hexdigest(), len(body), time.monotonic() - began)
            far.send(json.dumps({"got": astuple(got)}).encode())
    finally:
        c.close()


def _connect(socks: int, host: str, port: int) -> http.client.HTTPConnection:
    c = http.client.HTTPConnection(host, port, timeout=OBJECT_SECONDS)
    s = socket.create_connection(("127.0.0.1", socks), OBJECT_SECONDS)
    s.sendall(b"\5\1\0")
    s.recv(2)
    s.sendall(b"\5\1\0\1" + socket.inet_aton(host) + struct.pack(">H", port))
    if len(answer := s.recv(10)) < 2 or answer[1]:
        s.close()
        raise OSError("the connection was refused")
    c.sock = s
    return c


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[1]))
