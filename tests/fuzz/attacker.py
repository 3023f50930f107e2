"""The hostile side: sockets, circuits whose next hop is a socket of the attacker's own, and sealed cells to spoil.

Since both ends of an attacked relay belong to the attacker, everything that the relay lets through is seen.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from bwclient.circuit import Circuit, SlotView
from bwrouter.platform import arena, ffi, net, sodium
from bwrouter.wire import cell, handshake, noise
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S
from tests.relay.scene import RelayProcess, Scene, Source

_UDP_SEGMENT = 103
_RUN_CELLS, _RUN_BYTES = (128, 64), 60000  # of one system call; kernels before 6.9 take 64
Packet = tuple["Peer", bytes]


class Attacked(RuntimeError):
    """The relay did what it must not; the text says what."""


class Peer:
    """A UDP socket with its own address, its own obfuscation key, and a count of what it sent and got."""

    turn = 0

    def __init__(self, ip: str = "198.18.9.8"):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((ip, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.socket.setblocking(False)
        self.ip, self.port = self.socket.getsockname()
        self.obf = os.urandom(32)
        self.sent = self.got = self.cells = 0
        self.run_cells = _RUN_CELLS[self.turn % 2]
        Peer.turn += 1

    def send(self, data: bytes, where: tuple[str, int]) -> None:
        self.sent += len(data)
        self.cells += 1
        self.socket.sendto(data, where)

    def send_run(self, data: list[bytes], where: tuple[str, int]) -> None:
        """Equal datagrams in as few system calls as the kernel allows."""
        size = len(data[0])
        step = max(1, min(self.run_cells, _RUN_BYTES // max(size, 1)))
        segment = struct.pack("H", size)
        for i in range(0, len(data), step):
            run = data[i : i + step]
            self.sent += size * len(run)
            self.cells += len(run)
            if len(run) == 1:
                self.socket.sendto(run[0], where)
            else:
                try:
                    self.socket.sendmsg(run, [(socket.SOL_UDP, _UDP_SEGMENT, segment)], 0, where)
                except OSError as e:
                    if e.errno != errno.EINVAL or self.run_cells == _RUN_CELLS[1]:
                        raise
                    self.run_cells = _RUN_CELLS[1]
                    return self.send_run(data[i:], where)

    def take(self) -> list[tuple[bytes, tuple[str, int]]]:
        """All datagrams that wait."""
        out = []
        while True:
            try:
                data, where = self.socket.recvfrom(65536)
            except (BlockingIOError, ConnectionError):
                return out
            self.got += len(data)
            out.append((data, where))

    def wait(self, seconds: float = 1.0) -> list[tuple[bytes, tuple[str, int]]]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            got = self.take()
            if got:
                return got
            time.sleep(0.001)
        return []

    def close(self) -> None:
        self.socket.close()


_VIEW: list[SlotView] = []


def scratch() -> SlotView:
    """A packet slot to seal and open in."""
    if not _VIEW:
        _VIEW.append(SlotView.at(arena.take(4096)))
    return _VIEW[0]


def unmask(packet: bytes, obf: bytes) -> bytes:
    """The packet with its header in the clear."""
    return bytes(sodium.stream_xor(obf, packet[-12:], packet[:24])) + packet[24:]


@dataclass
class Link:
    """The attacked relay's link to the attacker's own next hop."""

    where: tuple[str, int]
    obf: bytes
    link_key: bytes
    cid: bytes  # under which the relay listens for backward cells
    own_cid: bytes  # under which the relay sends forward cells
    origin: int = 0
    keys: tuple[bytes, bytes] = (b"", b"")  # forward, backward
    counter: int = 0


class Sink:
    """A next hop in the attacker's hands: answers CREATE as a relay does, then only listens, or speaks out of turn."""

    def __init__(self, scene: Scene, ip: str = "198.18.9.9"):
        self.peer = Peer(ip)
        self.scene = scene
        self.static = os.urandom(32)
        self.id, self.secret = sodium.ed25519_keypair(os.urandom(32))
        self.links: dict[bytes, Link] = {}
        self.silent = False

    def descriptor(self, **fields: Any) -> D.Descriptor:
        d = D.Descriptor(
            self.id, sodium.x25519_public(self.static), self.peer.obf, net.ip_bytes(self.peer.ip), self.peer.port,
            until=int(time.time()) + 7200,
        )  # fmt: skip
        for name, value in fields.items():
            setattr(d, name, value)
        return D.parse(D.endorse(d.sign(self.secret), self.scene.gateway_key, self.scene.gateway_secret))

    def serve(self) -> list[bytes]:
        """Answer CREATEs; returns the cells that came, headers in the clear."""
        cells = []
        for raw, where in self.peer.take():
            packet = unmask(raw, self.peer.obf) if len(raw) >= 24 else raw
            if packet[:8] != bytes(8):
                cells.append(packet)
                continue
            if self.silent:
                continue
            _, noise1 = handshake.parse_create(handshake.unmask_body(packet, self.peer.obf))
            responder = noise.Responder(self.static, sodium.x25519_public(self.static))
            try:
                origin, _, _, link_key, reply_obf = handshake.parse_payload1(responder.read(noise1))
            except sodium.CryptoError:
                continue  # an EXTEND of the attacker's own making
            noise2 = responder.write(handshake.payload2(int(time.time())))
            own = cell.make_cid(os.urandom(8))
            self.links[link_key] = Link(where, reply_obf, link_key, packet[8:16], own, origin, responder.keys)
            self.peer.send(handshake.created(reply_obf, packet[8:16], own, link_key, noise2, len(raw)), where)
        return cells

    def backward(
        self, link: Link, origin: int, body: bytes, counter: int | None = None, high: int = 0, cid: bytes = b""
    ) -> bytes:
        """A backward cell to the relay. `high`: the counter's bits 30-60, which must be zero."""
        if counter is None:
            counter = link.counter
            link.counter += 1
        v = scratch()
        n = 24 + len(body)
        ffi.poke(v.address + 24, body)
        number = counter | high << 30 | origin << 61
        v.d[2], v.d[3] = number & 0xFFFFFFFF, number >> 32
        key = arena_bytes(handshake.backward_mac_key(link.link_key) + link.obf)
        c0, c1 = cell.cid_words(cid or link.cid)
        cell.dress_backward(v.address, n, v.d, c0, c1, key, key + 16)
        return bytes(ffi.peek(v.address, n))


    def speak(self, link: Link, command: int, payload: bytes) -> None:
        """A good cell of our own, to whoever extended to us."""
        v = scratch()
        ffi.poke(v.address + 24, payload + bytes([command]))
        number = link.counter | link.origin << 61
        v.d[2], v.d[3] = number & 0xFFFFFFFF, number >> 32
        n = 25 + len(payload)
        cell.seal_layer(v.address, n, v.d, arena_bytes(link.keys[1]), cell.BACKWARD)
        body = bytes(ffi.peek(v.address + 24, n - 8))
        self.peer.send(self.backward(link, link.origin, body), link.where)

    def hear(self, link: Link, packet: bytes) -> tuple[int, bytes]:
        """(command, payload) of a forward cell, header in the clear; (0, b"") when it does not open."""
        v = scratch()
        ffi.poke(v.address, packet)
        if not cell.open_layer(v.address, len(packet), v.d, arena_bytes(link.keys[0]), cell.FORWARD):
            return 0, b""
        text = bytes(ffi.peek(v.address + 24, len(packet) - 40))
        return text[-1], text[:-1]


_KEYS: list[int] = []


def arena_bytes(data: bytes) -> int:
    """Address of a copy of `data`, valid until the next call."""
    if not _KEYS:
        _KEYS.append(arena.take(4096))
    ffi.poke(_KEYS[0], data)
    return _KEYS[0]


@dataclass
class Foothold:
    """A circuit through an attacked relay, with the attacker's own next hop behind it or without."""

    relay: RelayProcess
    client: Peer
    circuit: Circuit
    link: Link | None = None
    serial: int = 0
    allowed: dict[bytes, bool] = field(default_factory=dict)  # payload: has arrived

    @property
    def where(self) -> tuple[str, int]:
        return self.relay.ip, self.relay.port

    @property
    def label(self) -> int:
        return self.circuit.hops[0].origin

    def seal(self, command: int, payload: bytes, target: int = 0) -> bytes:
        v = scratch()
        ffi.poke(v.address + 24, payload)
        n = self.circuit.seal(target, v, len(payload), command)
        return bytes(ffi.peek(v.address, n))

    def legitimate(self, size: int = 100) -> bytes:
        """A cell that the relay must forward, once."""
        self.serial += 1
        payload = struct.pack("<Q", self.serial) + os.urandom(size)
        self.allowed[payload] = False
        return self.seal(S.DATA, payload, 1)

    def forge(
        self, command: int, payload: bytes, counter: int, high: int = 0, origin: int = 0, mac: bytes = b""
    ) -> bytes:
        """A cell for the relay, sealed with the right key under any counter at all."""
        v = scratch()
        ffi.poke(v.address + 24, payload + bytes([command]))
        number = counter | high << 30 | origin << 61
        v.d[2], v.d[3] = number & 0xFFFFFFFF, number >> 32
        n = 25 + len(payload)
        cell.seal_layer(v.address, n, v.d, self.circuit.hops[0].k_forward, cell.FORWARD)
        n += 16
        v.d[0], v.d[1] = self.circuit.next_words
        ffi.poke(v.address + 16, mac or bytes(8))
        cell.mask(v.address, n, self.circuit.obf)
        return bytes(ffi.peek(v.address, n))

    def rename(self, packet: bytes, cid: bytes) -> bytes:
        """The same cell under another circuit id."""
        obf = self.relay.obf
        return unmask(cid + unmask(packet, obf)[8:], obf)

    @property
    def cid(self) -> bytes:
        return struct.pack("<II", *self.circuit.next_words)

    def open(self, raw: bytes) -> tuple[int, int, bytes]:
        """(origin's index, command, payload) of a backward datagram; index -1 when it does not open."""
        packet = unmask(raw, self.client.obf)
        if struct.unpack("<II", packet[:8]) != self.circuit.cid_words:
            return -1, 0, b""
        v = scratch()
        ffi.poke(v.address, packet)
        hop, command, size = self.circuit.open(v, len(packet))
        return hop, command, bytes(ffi.peek(v.address + 24, size))

    def arrived(self, packet: bytes) -> str:
        """A cell at the sink, header in the clear: empty if it is one that may come, for the first time; else why not."""
        assert self.link is not None
        if packet[:8] != self.link.own_cid:
            return "another circuit id"
        v = scratch()
        ffi.poke(v.address, packet)
        n = len(packet)
        if not cell.open_layer(v.address, n, v.d, self.circuit.hops[1].k_forward, cell.FORWARD):
            return f"counter {v.d[2]} does not open"
        payload = bytes(ffi.peek(v.address + 24, n - 17 - 24))
        if self.allowed.get(payload) is not False:
            return f"counter {v.d[2]} " + ("came twice" if payload in self.allowed else "was never to come")
        self.allowed[payload] = True
        return ""

    def close(self) -> None:
        self.circuit.close()


def enter(relay: RelayProcess, client: Peer, sink: Sink | None, pay: int = 1024) -> Foothold:
    """Build a circuit through `relay` (and on to `sink`), paid for `pay` units. Raises Attacked when it does not answer."""
    path = [relay.descriptor()] + ([sink.descriptor()] if sink else [])
    c = Circuit(path, Source(), client.obf)
    f = Foothold(relay, client, c)
    if not _until(lambda: client.send(c.create(), f.where), lambda: _created(f)):
        raise Attacked(f"{relay.ip} answers no CREATE of the attacker: {relay.stats.get('drops')}")
    if pay:
        client.send(f.seal(S.PAY, pay_for(pay)), f.where)
    if sink is not None:
        key = c.hops[1].link_key

        def extended() -> bool:
            sink.serve()
            for raw, _ in client.take():
                hop, command, payload = f.open(raw)
                if hop == 0 and command == S.EXTENDED:
                    c.on_extended(1, payload)
            return c.hops[1].ready

        payload = c.extend_payload(1)
        if not _until(lambda: client.send(f.seal(S.EXTEND, payload), f.where), extended):
            raise Attacked(f"{relay.ip} does not extend: {relay.stats.get('drops')}")
        f.link = sink.links[key]
    return f


def create(relay: RelayProcess, reply_obf: bytes, **fields: Any) -> bytes:
    """A CREATE to a relay; `fields` spoil single parts (or choose flags and padding)."""
    payload = bytearray(
        handshake.payload1(
            fields.get("origin", 3), os.urandom(16), reply_obf, int(time.time()) + fields.get("late", 0),
            fields.get("flags", 0),
        )
    )  # fmt: skip
    payload[0] = fields.get("version", S.VERSION)
    noise1 = noise.Initiator(fields.get("static", sodium.x25519_public(relay.static))).write(bytes(payload))
    noise1 = fields.get("ephemeral", b"") + noise1[len(fields.get("ephemeral", b"")) :]
    cid = cell.make_cid(os.urandom(8))
    return bytes(handshake.create(fields.get("obf", relay.obf), cid, noise1, fields.get("cookie"), fields.get("pad")))


def pay_for(units: int, key_id: bytes = b"k" * 8, serial: int = 0) -> bytes:
    """A PAY that opens a ticket and pays `units` of it."""
    from bwrouter.wire import ticket as T

    chain = T.Chain(os.urandom(32), 1024)
    fields = (key_id, chain.anchor, os.urandom(64), 1024)
    return bytes(T.pack_pay(serial, units, chain.word(units), fields))


def _until(send: Any, done: Any, tries: int = 12) -> bool:
    for _ in range(tries):
        send()
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            if done():
                return True
            time.sleep(0.002)
    return False


def _created(f: Foothold) -> bool:
    for raw, _ in f.client.take():
        packet = unmask(raw, f.client.obf)
        if packet[:8] == f.circuit.cid and not f.circuit.hops[0].ready and f.circuit.on_created(packet):
            return True
        if not f.circuit.hops[0].ready and f.circuit.on_stray(raw):
            f.client.send(f.circuit.create(), f.where)
    return f.circuit.hops[0].ready
