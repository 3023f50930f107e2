"""Relays as real processes in a network namespace of the test's own, each with a scripted agent on its unix socket.

All addresses are 198.18.9.x on the namespace's loopback interface. The scripted agent stands in for
`bwrouter.agent` so that a test can let it answer wrongly; everything on the wire is real.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwclient.tunnel import Tunnel
from bwrouter.agent import policy
from bwrouter.platform import config, ffi, net, sodium
from bwrouter.wire import descriptor as D
from bwrouter.wire import proof

ROOT = Path(__file__).parents[2]
MICROPYTHON = os.environ.get("MICROPYTHON") or str(ROOT / "build/micropython/native/micropython")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Namespace:
    """This thread (and what it starts) in a fresh network namespace; it vanishes with its last process."""

    def __enter__(self) -> Namespace:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        if _LIBC.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "a network namespace needs root")
        for command in (
            "ip link set lo up",
            *(f"ip addr add 198.18.9.{i}/32 dev lo" for i in range(1, 10)),
            "ip -6 addr add 2001:2::9/128 dev lo",
        ):
            subprocess.run(command.split(), check=True)
        return self

    def __exit__(self, *_: object) -> None:
        _LIBC.setns(self._home, 0)
        os.close(self._home)


@dataclass
class FakeTicket:
    key_id: bytes
    output: bytes
    units: int
    top: bytes


@dataclass
class Source:
    """Tickets that no mint has signed: the scripted agents decide whether they are good."""

    units: int = 1024
    taken: list[FakeTicket] = field(default_factory=list)

    def take(self, region: int) -> FakeTicket:
        t = FakeTicket(b"k" * 8, os.urandom(64), self.units, os.urandom(32))
        self.taken.append(t)
        return t


class RelayProcess:
    """One relay. `accept` decides what its agent says of a ticket: True, False or None (no answer)."""

    def __init__(self, scene: Scene, number: int, runtime: str, exit: bool, **settings: Any):
        self.scene = scene
        self.ip = f"198.18.9.{number}"
        self.port = 52000 + 16 * number
        self.exit = exit
        self.accept: bool | None = True
        self.rate_kbps = 1_000_000
        self.workers = int(settings.get("workers", "1"))
        self.rules: dict[str, Any] = {}  # more of what its agent tells it at hello
        self.stats: dict[str, Any] = {}  # of the worker that spoke last
        self.by_worker: dict[int, dict[str, Any]] = {}
        self.hellos: list[int] = []  # workers that asked for keys
        self.redeemed: dict[str, int] = {}
        self.opened: dict[str, int] = {}  # units of tickets that it asked about
        self.static, self.obf = os.urandom(32), os.urandom(32)
        self.id, self.secret = sodium.ed25519_keypair(os.urandom(32))
        self.run_dir = scene.folder / f"relay{number}"
        self.run_dir.mkdir()
        settings_file = {"listen_port": self.port, "run_dir": str(self.run_dir), **settings}
        (self.run_dir / "config.json").write_text(json.dumps(settings_file))
        self.socket = net.UnixDatagram(str(self.run_dir / "agent.sock"))
        self.tuns = [scene.exit_tun(i, self.workers) if exit else -1 for i in range(self.workers)]
        argv = [MICROPYTHON, "-X", "heapsize=2m"] if runtime == "micropython" else [sys.executable]
        path = str(ROOT / "src")
        first = scene.twists.get(number, "")  # what makes this one dishonest
        self.process = subprocess.Popen(
            [*argv, "-c", f"import bwrouter.relay as r\n{first}\nr.main('{self.run_dir}/config.json')"],
            env={**os.environ, "MICROPYPATH": path + ":.frozen", "PYTHONPATH": path},
        )

    def descriptor(self, **fields: Any) -> D.Descriptor:
        """The relay's descriptor, endorsed by the scene's gateway; `fields` override what it says."""
        d = D.Descriptor(
            self.id, sodium.x25519_public(self.static), self.obf, net.ip_bytes(self.ip), self.port,
            flags=D.flags(self.exit, self.workers), rate=40000, until=int(time.time()) + 3600,
        )  # fmt: skip
        for name, value in fields.items():
            setattr(d, name, value)
        raw = D.endorse(d.sign(self.secret), self.scene.gateway_key, self.scene.gateway_secret)
        whole: D.Descriptor = D.parse(raw)
        return whole

    def _send(self, message: dict[str, Any], fd: int = -1, worker: int = 0) -> None:
        path = config.relay_socket(str(self.run_dir), worker)
        self.socket.send(path, json.dumps(message).encode(), fd)

    def hello(self, worker: int = 0) -> None:
        """Keys and rules for the relay process."""
        self._send(
            {"t": "hello", "static": self.static.hex(), "obf": self.obf.hex(), "lan": ["192.168.1.0/24"],
             "gateway_keys": [self.scene.gateway_key.hex()], "own_v4": self.ip, "exit": self.exit, **self.rules},
            self.tuns[worker], worker,
        )  # fmt: skip

    def verdict(self, message: dict[str, Any]) -> bool | None:
        """What the gateway says of the ticket in an `open` message."""
        return self.accept

    def pump(self) -> None:
        """Answer what the relay says, as an agent does."""
        while True:
            text, _ = self.socket.recv()
            if text is None:
                break
            m = json.loads(text)
            worker = m.get("worker", 0)
            if m["t"] == "hello" and not m["ready"]:
                self.hellos.append(worker)
                self.hello(worker)
            elif m["t"] == "open" and self.verdict(m) is not None:
                self.opened[m["id"]] = m["units"]
                ok = self.verdict(m)
                self._send({"t": "opened", "id": m["id"], "ok": ok, "units": m["units"], "code": "forged"}, -1, worker)
            elif m["t"] == "meter":
                self.redeemed[m["id"]] = m["index"]
                self._send({"t": "redeemed", "id": m["id"], "index": m["index"]}, -1, worker)
            elif m["t"] == "prove":
                statement = bytes.fromhex(m["statement"])
                signature = proof.sign(self.secret, statement)
                self._send({"t": "proved", "statement": m["statement"], "signature": signature.hex()}, -1, worker)
            elif m["t"] == "stats":
                self.stats = self.by_worker[worker] = m
        for worker in range(self.workers):
            self._send({"t": "rate", "kbps": self.rate_kbps, "reason": "test"}, -1, worker)

    def fresh_stats(self) -> dict[str, Any]:
        """Counters that were sent after this call."""
        self.stats = {}
        until = time.monotonic() + 5
        while not self.stats and time.monotonic() < until:
            time.sleep(0.02)
        assert self.stats, "the relay sends no stats"
        return self.stats

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()
        for tun in self.tuns:
            if tun >= 0:
                net.close(tun)


class Scene:
    """A namespace with `count` relays, the last an exit. A thread serves their agents' side."""

    def __init__(
        self, count: int = 3, runtime: str = "micropython", twists: dict[int, str] | None = None, **settings: Any
    ):
        """`twists`: Python that a relay runs first, by its number from 1."""
        self.twists = twists or {}
        self._count, self._runtime, self._settings = count, runtime, settings
        self.gateway_key, self.gateway_secret = sodium.ed25519_keypair(os.urandom(32))
        self._stop = False
        self.relays: list[RelayProcess] = []

    def exit_tun(self, worker: int = 0, workers: int = 1) -> int:
        name = policy.tun({"exit_tun": "bwexit0"}, worker)
        fd: int = net.open_tun(name)
        here4, _ = policy.own_addresses(worker, workers)
        for command in (f"ip addr add {here4} dev {name}", f"ip link set {name} mtu 1368 up"):
            subprocess.run(command.split(), check=True)
        return fd

    def __enter__(self) -> Scene:
        self.folder = Path(tempfile.mkdtemp(prefix="bwrouter-scene-"))
        self._namespace = Namespace()
        self._namespace.__enter__()
        try:
            for i in range(1, self._count + 1):
                self.relays.append(RelayProcess(self, i, self._runtime, i == self._count, **self._settings))
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()
            for r in self.relays:
                r.fresh_stats()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _serve(self) -> None:
        while not self._stop:
            for r in self.relays:
                r.pump()
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._stop = True
        if hasattr(self, "_thread"):
            self._thread.join()
        for r in self.relays:
            r.stop()
        self._namespace.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self) -> list[D.Descriptor]:
        return [r.descriptor() for r in self.relays]


def send_inner(tunnel: Tunnel, packet: bytes) -> None:
    """One inner packet, as if it came from the client's TUN."""
    from bwrouter.wire import sizes as S

    i = tunnel._slot()
    ffi.poke(tunnel._tx[i].address + 24, packet)
    assert tunnel.circuit is not None
    tunnel._seal(tunnel.circuit, i, len(tunnel.circuit.hops) - 1, len(packet), S.DATA)
