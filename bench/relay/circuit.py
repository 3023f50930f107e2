"""One circuit through one hop under test, as both of its neighbours see it: keys, and traffic in either direction."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field

from bwrouter.platform import net
from bwrouter.wire import cell
from bwrouter.wire import sizes as S

from . import pump

INNER = S.INNER_MTU  # the payload: one full inner packet
FULL = INNER + S.overhead(3)  # of three hops, on the client's link
LESS = FULL - S.LAYER  # and on the next
CHUNK = 3000  # cells between two PAYs, a little over 4 MB
DIRECTIONS = ("forward", "backward")


@dataclass
class Keys:
    """What the hop and its neighbours share; docs/protocol.md section 2.

    Circuit ids: `own` and `next` are the hop's choice for its two sides, `to_prev` and `to_next` are the neighbours'.
    """

    forward: bytes = field(default_factory=lambda: os.urandom(32))
    backward: bytes = field(default_factory=lambda: os.urandom(32))
    prev_obf: bytes = field(default_factory=lambda: os.urandom(32))
    next_obf: bytes = field(default_factory=lambda: os.urandom(32))
    own_obf: bytes = field(default_factory=lambda: os.urandom(32))
    prev_mac: bytes = field(default_factory=lambda: os.urandom(16))
    next_mac: bytes = field(default_factory=lambda: os.urandom(16))
    own: bytes = field(default_factory=lambda: bytes(cell.make_cid(os.urandom(8))))
    next: bytes = field(default_factory=lambda: bytes(cell.make_cid(os.urandom(8))))
    to_prev: bytes = field(default_factory=lambda: bytes(cell.make_cid(os.urandom(8))))
    to_next: bytes = field(default_factory=lambda: bytes(cell.make_cid(os.urandom(8))))
    origin: int = 3
    next_origin: int = 5

    def preset(self, prev: bytes, following: bytes) -> bytes:
        """struct preset of bench/relay/cell_loop.h; the arguments are sockaddr_in6."""
        return (
            self.forward + self.backward + self.prev_obf + self.next_obf + self.own_obf + self.prev_mac + self.next_mac
            + prev + following + self.own + self.next + self.to_prev + self.to_next
            + struct.pack("<QQ", 1 << 62, self.origin)
        )  # fmt: skip


def udp(gro: bool = True) -> socket.socket:
    """A UDP socket of the current namespace, both families, any port, with large buffers."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", 0))
    return pump.sink(s, gro)


class Traffic:
    """Cells for one hop, made ahead of time and then sent: `make`, then `send` what was made."""

    def __init__(self, keys: Keys, prev: socket.socket, following: socket.socket, near: bytes, far: bytes) -> None:
        """The neighbours' sockets, and the hop's sockaddr as each of them sees it."""
        self.keys, self.prev, self.next, self.near, self.far = keys, prev, following, near, far
        self.sent = {"forward": 0, "backward": 0}  # the next counter

    def make(self, direction: str, cells: pump.Cells, at: int, count: int) -> None:
        """`count` cells at cell number `at` of the memory."""
        k = self.keys
        address, first = cells.address + at * FULL, self.sent[direction]
        if direction == "forward":
            cid = int.from_bytes(k.own, "little")
            pump.lib.pump_forward(address, count, FULL, first, k.forward, cid, k.own_obf)
        else:
            cid = int.from_bytes(k.next, "little")
            pump.lib.pump_backward(address, count, LESS, first, k.next_origin, k.next_mac, cid, k.own_obf)
        self.sent[direction] += count

    def send(self, direction: str, cells: pump.Cells, at: int, count: int, result: pump.Result, message: int,
             window: int) -> None:  # fmt: skip
        k = self.keys
        if direction == "forward":
            source, to, into, size, out, obf, cid = self.prev, self.near, self.next, FULL, LESS, k.next_obf, k.to_next
        else:
            source, to, into, size, out, obf, cid = self.next, self.far, self.prev, LESS, FULL, k.prev_obf, k.to_prev
        pump.run(source, to, cells.address + at * FULL, count, size, into, out, result, message=message, window=window,
                 obf=obf, cid=cid)  # fmt: skip


def sockaddr(ip: str, port: int) -> bytes:
    return bytes(net.pack_addr(ip, port))
