"""The subjects that speak our protocol: the relay on a runtime, and the C loop."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bwclient.circuit import Circuit, SlotView
from bwclient.meter import TicketLike
from bwrouter.platform import arena, ffi, mmsg, net, sodium
from bwrouter.relay import circuit as C
from bwrouter.relay.setup import Setup
from bwrouter.wire import descriptor as D
from bwrouter.wire import handshake
from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T

from . import pump
from .circuit import CHUNK, FULL, INNER, Keys, Traffic, sockaddr, udp
from .machine import ROOT, Machine, Process, wait_for

UNITS = S.TICKET_UNITS[0]  # of a ticket


class Agent(threading.Thread):
    """The relay's agent, scripted: keys, a rate beyond reach, and yes to every ticket. Real unix sockets."""

    def __init__(self, run_dir: str, hello: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.relay, self.hello = run_dir + "/relay.sock", hello
        self.socket = net.UnixDatagram(run_dir + "/agent.sock")
        self.ready = self.stop = False
        self.opened = 0
        self.stats: dict[str, Any] = {}

    def tell(self, message: dict[str, Any]) -> None:
        self.socket.send(self.relay, json.dumps(message).encode())

    def run(self) -> None:
        said = 0.0
        while not self.stop:
            while (text := self.socket.recv()[0]) is not None:
                self.heard(json.loads(text))
            if time.monotonic() - said > 0.2:
                said = time.monotonic()
                self.tell({"t": "rate", "kbps": 10_000_000, "reason": "bench"})
            time.sleep(0.01)
        self.socket.close()

    def heard(self, m: dict[str, Any]) -> None:
        if m["t"] == "hello":
            self.ready = m["ready"]
            if not self.ready:
                self.tell(self.hello)
        elif m["t"] == "open":
            self.tell({"t": "opened", "id": m["id"], "ok": True, "units": m["units"]})
            self.opened += 1
        elif m["t"] == "meter":
            self.tell({"t": "redeemed", "id": m["id"], "index": m["index"]})
        elif m["t"] == "stats":
            self.stats = m


class NoTickets:
    """PAYs are made here ahead of time, not by the client's meter."""

    def take(self, region: int) -> TicketLike:
        raise RuntimeError("the benchmark pays by itself")


class Relay:
    """Our relay as a process of its own in the middle namespace, with one circuit built and paid as a client does."""

    def __init__(
        self, machine: Machine, runtime: str, port: int,
        agent: Callable[[str, dict[str, Any]], Agent] = Agent,
    ) -> None:  # fmt: skip
        self.name = f"relay-{runtime}"
        self.machine, self.port = machine, port
        run_dir = machine.folder / self.name
        run_dir.mkdir()
        self.static, self.obf = os.urandom(32), os.urandom(32)
        self.gateway = sodium.ed25519_keypair(os.urandom(32))
        config = run_dir / "config.json"
        config.write_text(json.dumps({"listen_port": port, "run_dir": str(run_dir)}))
        self.agent = agent(
            str(run_dir),
            {"t": "hello", "static": self.static.hex(), "obf": self.obf.hex(), "lan": [], "exit": False,
             "gateway_keys": [self.gateway[0].hex()], "own_v4": Machine.M1},
        )  # fmt: skip
        self.agent.start()
        micropython = os.environ.get("MICROPYTHON") or str(ROOT / "build/micropython/native/micropython")
        argv = [micropython, "-X", "heapsize=2m"] if runtime == "micropython" else [sys.executable]
        self.process: Process = machine.start(
            machine.m, [*argv, "-c", f"import bwrouter.relay as r; r.main('{config}')"], self.name, subject=True,
            env={"MICROPYPATH": f"{ROOT}/src:.frozen", "PYTHONPATH": f"{ROOT}/src"},
        )  # fmt: skip
        wait_for("the relay", lambda: self.agent.ready and self.agent.stats, 15, self.process)
        self._build()
        self._tickets: list[T.Chain] = []
        self._pays: list[bytes] = []
        self._due = self._serial = self._index = 0

    # -- building the circuit ---------------------------------------------------------

    def _descriptor(self, ip: str, port: int, static: bytes, obf: bytes) -> D.Descriptor:
        relay, secret = sodium.ed25519_keypair(os.urandom(32))
        until = int(time.time()) + 3600
        d = D.Descriptor(relay, sodium.x25519_public(static), obf, net.ip_bytes(ip), port, until=until)
        endorsed: D.Descriptor = D.parse(D.endorse(d.sign(secret), *self.gateway))
        return endorsed

    def _build(self) -> None:
        """CREATE with the relay, EXTEND to a next hop that this process plays with the relay's own `Setup`."""
        with self.machine.a:
            prev = udp()
        with self.machine.b:
            following = udp()
        for s in (prev, following):
            s.settimeout(5)
        next_static, next_obf, own_obf = os.urandom(32), os.urandom(32), os.urandom(32)
        near, far = sockaddr(Machine.M1, self.port), sockaddr(Machine.M2, self.port)
        path = [
            self._descriptor(Machine.M1, self.port, self.static, self.obf),
            self._descriptor(Machine.B, following.getsockname()[1], next_static, next_obf),
        ]
        c = self.circuit = Circuit(path, NoTickets(), own_obf)
        base = arena.take(mmsg.SLOT)
        self._view = SlotView.at(base)
        net.sendto(prev.fileno(), c.create(), near)
        if not c.on_created(_unmask(prev.recv(2048), own_obf)):
            raise RuntimeError("the relay's CREATED is not valid")
        net.sendto(prev.fileno(), self._seal(S.EXTEND, c.extend_payload(1)), near)
        table = C.Table(4)
        drops: list[str] = []
        setup = Setup(
            table,
            next_static,
            next_obf,
            lambda p, to: net.sendto(following.fileno(), p, to),
            drops.append,
            table.remove,
        )
        after = setup.on_create(_unmask(following.recv(2048), next_obf), far)
        if after is None:
            raise RuntimeError(f"the relay's CREATE was refused: {drops}")
        packet = prev.recv(2048)
        ffi.poke(base, _unmask(packet, own_obf))
        hop, command, size = c.open(self._view, len(packet))
        if (hop, command) != (0, S.EXTENDED):
            raise RuntimeError(f"no EXTENDED but command {command}")
        c.on_extended(1, ffi.peek(base + 24, size))
        keys = Keys(
            forward=ffi.peek(c.hops[0].k_forward, 32), own_obf=self.obf, prev_obf=own_obf, next_obf=next_obf,
            next_mac=handshake.backward_mac_key(c.hops[1].link_key), own=_cid(c.next_words),
            next=_cid((after.p0, after.p1)), to_prev=c.cid, to_next=ffi.peek(after.k + C.OWN_CID, 8),
            next_origin=after.origin,
        )  # fmt: skip
        self.traffic = Traffic(keys, prev, following, near, far)

    def _seal(self, command: int, payload: bytes) -> bytes:
        """A forward cell for the relay, under the next counter."""
        ffi.poke(self._view.address + 24, payload)
        n = self.circuit.seal(0, self._view, len(payload), command)
        return bytes(ffi.peek(self._view.address, n))

    # -- paying -----------------------------------------------------------------------

    def open_tickets(self, count: int) -> None:
        for _ in range(count):
            chain = T.Chain(os.urandom(32), UNITS)
            full = (b"k" * 8, chain.anchor, os.urandom(64), UNITS)
            self._tickets.append(chain)
            want = self.agent.opened + 1
            until = time.monotonic() + 10
            while self.agent.opened < want:  # said again: a PAY may be lost where the relay is flooded
                if time.monotonic() > until:
                    raise RuntimeError("the relay opens no ticket within 10 s")
                pay = self._seal(S.PAY, T.pack_pay(len(self._tickets) - 1, 0, chain.anchor, full))
                net.sendto(self.traffic.prev.fileno(), pay, self.traffic.near)
                for _ in range(50):
                    if self.agent.opened < want:
                        time.sleep(0.005)

    def tickets_left(self) -> int:
        """Opened tickets that nothing has been paid from."""
        return len(self._tickets) - self._serial

    def pay(self, size: int) -> list[bytes]:
        """PAYs for `size` more charged bytes."""
        self._due += size
        out = []
        grow = -(-self._due // S.UNIT) - (self._serial * UNITS + self._index)
        while grow > 0:
            step = min(grow, UNITS - self._index)
            self._index += step
            grow -= step
            word = self._tickets[self._serial].word(self._index)
            out.append(self._seal(S.PAY, T.pack_pay(self._serial, self._index, word)))
            if self._index == UNITS:
                self._serial, self._index = self._serial + 1, 0
        return out

    # -- the measurement ----------------------------------------------------------------

    def load(self, direction: str, cells: pump.Cells, message: int, window: int) -> tuple[float, float, pump.Result]:
        """Send all `cells` through: CPU seconds, MB of payload, and what arrived. The relay is paid while it works."""
        self.open_tickets(-(-(self._due + cells.count * FULL) // S.UNIT // UNITS) + 2 - len(self._tickets))
        time.sleep(0.1)
        chunks = []
        for at in range(0, cells.count, CHUNK):
            count = min(CHUNK, cells.count - at)
            self.traffic.sent["forward"] = self.circuit.sent
            pays = self.pay(count * FULL)
            self.traffic.sent["forward"] = self.circuit.sent
            self.traffic.make(direction, cells, at, count)
            self.circuit.sent = self.traffic.sent["forward"]
            chunks.append((pays, at, count))
        result = pump.Result()
        before = self.process.cpu_seconds()
        for pays, at, count in chunks:
            for p in pays:
                net.sendto(self.traffic.prev.fileno(), p, self.traffic.near)
            self.traffic.send(direction, cells, at, count, result, message, window)
        used = self.process.cpu_seconds() - before
        self.process.check()
        return used, result.received * INNER / 1e6, result

    def close(self) -> None:
        self.agent.stop = True
        self.agent.join()


class CLoop:
    """bench/relay/c_relay.c in the relay's place, with keys that it was given."""

    def __init__(self, machine: Machine, port: int) -> None:
        self.name = "c-loop"
        with machine.a:
            prev = udp()
        with machine.b:
            following = udp()
        keys = Keys()
        preset = keys.preset(
            sockaddr(Machine.A, prev.getsockname()[1]), sockaddr(Machine.B, following.getsockname()[1])
        )
        file = machine.folder / "preset"
        file.write_bytes(preset)
        with file.open("rb") as stdin:
            self.process = machine.start(
                machine.m, [str(ROOT / "build/bench/c_relay"), str(port)], self.name, subject=True, stdin=stdin
            )
        wait_for("the C loop", lambda: "ready" in self.process.log.read_text(), 5, self.process)
        self.traffic = Traffic(keys, prev, following, sockaddr(Machine.M1, port), sockaddr(Machine.M2, port))

    def load(self, direction: str, cells: pump.Cells, message: int, window: int) -> tuple[float, float, pump.Result]:
        """As Relay.load."""
        self.traffic.make(direction, cells, 0, cells.count)
        result = pump.Result()
        before = self.process.cpu_seconds()
        self.traffic.send(direction, cells, 0, cells.count, result, message, window)
        return self.process.cpu_seconds() - before, result.received * INNER / 1e6, result


def _unmask(packet: bytes, obf: bytes) -> bytes:
    """`packet` with its header in clear."""
    return bytes(sodium.stream_xor(obf, packet[-S.NONCE :], packet[: S.HEADER]) + packet[S.HEADER :])


def _cid(words: tuple[int, int]) -> bytes:
    return (words[0] | words[1] << 32).to_bytes(8, "little")
