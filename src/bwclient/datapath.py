"""The client's data path: one UDP socket, one TUN, and the circuits between them. What is rare is left to `Tunnel`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bwrouter.platform import arena, consts, ffi, mmsg, net
from bwrouter.platform.sodium import STREAM_XOR
from bwrouter.relay.exit import CONSTANT, NONE, pad
from bwrouter.wire import cell
from bwrouter.wire import sizes as S

from .circuit import Circuit, SlotView

_BATCH = 64
_SLOTS = 256
_REPEATED = 64  # packets that may be sent again after a circuit's death
_REPEAT_SECONDS = 1.5  # unless they are older
_SO_MARK = 36


@dataclass(frozen=True)
class Padding:
    """How sizes and times are hidden: mode NONE, BUCKETS, or CONSTANT with `rate` full cells a second each way."""

    mode: int = NONE
    rate: int = 50


NO_PADDING = Padding()


class DataPath:
    """Cells between the socket `fd` and the TUN `tun`. `circuit` carries the data; `_circuits` are all that stand."""

    def __init__(self, port: int, mark: int, padding: Padding) -> None:
        """`port`: of UDP, 0 for any; `mark`: SO_MARK of what is sent, 0 for none."""
        self.padding = padding
        self._kept: deque[bytes] = deque(maxlen=64)
        self._pad_at = 0.0
        self._sent: deque[tuple[float, bytes]] = deque(maxlen=_REPEATED)  # inner packets that went lately, and when
        self._mark = mark
        self.fd = net.udp_socket(port)
        self._set_up()
        self.obf_key = os.urandom(32)
        self._obf = arena.take(4096)
        ffi.poke(self._obf, self.obf_key)
        self.rx = mmsg.Receiver(self.fd, _SLOTS)
        self.tx = mmsg.Sender(self.fd, _BATCH)
        self._rx = [SlotView.at(self.rx.base + i * mmsg.SLOT) for i in range(_SLOTS)]
        base = arena.take(_BATCH * mmsg.SLOT)
        self._tx = [SlotView.at(base + i * mmsg.SLOT) for i in range(_BATCH)]
        self._next = 0
        self.tun = -1
        self.mtu = S.INNER_MTU
        self.poller = net.Poller([self.fd, -1])
        self.circuit: Circuit | None = None  # the one that carries data
        self._circuits: dict[tuple[int, int], Circuit] = {}  # by the circuit id under which the first hop speaks to us
        self.stats: dict[str, int] = dict.fromkeys(
            ("packets_up", "packets_down", "inner_bytes_up", "inner_bytes_down", "wire_bytes_up", "wire_bytes_down"), 0
        )
        self.drops: dict[str, int] = {}
        self.held = False
        self.endpoints_changed: Callable[[], None] = lambda: None
        """Called before the first packet goes to another first hop."""

    def _set_up(self) -> None:
        net.buffers(self.fd, 4 << 20, 1 << 20)
        if self._mark:
            net.set_option(self.fd, consts.SOL_SOCKET, _SO_MARK, self._mark)

    def _renew_socket(self) -> None:
        """Another port, and another key under which first hops speak to us."""
        fd = net.udp_socket(0)
        os.dup2(fd, self.fd)
        net.close(fd)
        self._set_up()
        self.rx.gro = None
        self.rx.offload(True)
        self._sent.clear()
        self.obf_key = os.urandom(32)
        ffi.poke(self._obf, self.obf_key)

    def endpoints(self) -> list[tuple[str, int]]:
        """Addresses and ports of the first hops of all circuits."""
        return sorted({c.hops[0].endpoint for c in self._circuits.values()})

    def count(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1

    # -- the TUN ----------------------------------------------------------------------

    def hold(self, yes: bool) -> None:
        """Leave inner packets in the TUN's queue while no circuit carries them."""
        if self.held != yes:
            self.held = yes
            self.poller.set(1, -1 if yes else self.tun)

    def attach(self, tun_fd: int) -> None:
        """Move packets between this TUN and the circuit from now on."""
        self.tun = tun_fd
        self.poller.set(1, -1 if self.held else tun_fd)

    def detach(self) -> None:
        """Close the TUN: no packet enters the tunnel any more."""
        if self.tun >= 0:
            self.poller.set(1, -1)
            net.close(self.tun)
            self.tun = -1

    # -- sending ----------------------------------------------------------------------

    def _slot(self) -> int:
        if self._next == _BATCH:
            self._flush()
        i = self._next
        self._next = i + 1
        return i

    def _flush(self) -> None:
        self.tx.flush()
        self._next = 0

    def _seal(self, c: Circuit, i: int, target: int, size: int, command: int) -> None:
        v = self._tx[i]
        n = c.seal(target, v, size, command)
        self.tx.put(v.address, n, c.name)
        self.stats["wire_bytes_up"] += n

    def _control(self, c: Circuit, target: int, command: int, payload: bytes) -> None:
        i = self._slot()
        ffi.poke(self._tx[i].address + 24, payload)
        self._seal(c, i, target, len(payload), command)

    def _from_tun(self) -> None:
        """Packets from the TUN to the exit."""
        c = self.circuit
        if c is None or not c.resumed or self.held:
            return
        now = c.data_at = time.monotonic()
        last = len(c.hops) - 1
        mode = self.padding.mode
        for _ in range(_BATCH):
            i = self._slot()
            a = self._tx[i].address + 24
            size = net.READ(self.tun, a, self.mtu)
            if size <= 0:
                self._next = i
                return
            if mode == CONSTANT:
                self._next = i
                self._kept.append(ffi.peek(a, size))
                continue
            self._sent.append((now, ffi.peek(a, size)))
            self._data(c, i, last, size)

    def _data(self, c: Circuit, i: int, last: int, size: int) -> None:
        """The inner packet of `size` bytes in sending slot `i` to the exit, hop `last`."""
        self.stats["packets_up"] += 1
        self.stats["inner_bytes_up"] += size
        self._seal(c, i, last, pad(self.padding.mode, self._tx[i].address + 24, size, self.mtu), S.DATA)

    def repeat(self, since: float) -> None:
        """Send the inner packets that went at `since` (monotonic) or later once more: they are lost with the circuit
        that died, and a TCP that has to find out for itself waits 0.2 s, then 0.4, then 0.8. Who got one twice does
        not mind, as on any network (RFC 791)."""
        c, now = self.circuit, time.monotonic()
        if c is not None and c.resumed:
            for at, packet in self._sent:
                if at >= max(since, now - _REPEAT_SECONDS):
                    i = self._slot()
                    ffi.poke(self._tx[i].address + 24, packet)
                    self._data(c, i, len(c.hops) - 1, len(packet))
        self._sent.clear()

    def _constant(self, now: float) -> None:
        """One full cell whenever one is due, with a packet in it or none."""
        c = self.circuit
        if c is None or not c.resumed:
            return
        if now - self._pad_at > 0.1:
            self._pad_at = now
        while now >= self._pad_at:
            self._pad_at += 1 / self.padding.rate
            i = self._slot()
            a = self._tx[i].address + 24
            packet = self._kept.popleft() if self._kept else b""
            ffi.poke(a, packet)
            if packet:
                self.stats["packets_up"] += 1
                self.stats["inner_bytes_up"] += len(packet)
            self._seal(c, i, len(c.hops) - 1, pad(CONSTANT, a, len(packet), self.mtu), S.DATA if packet else S.PAD)

    # -- receiving --------------------------------------------------------------------

    def _receive(self) -> None:
        """One batch from the socket."""
        rx, slots, packet = self.rx, self._rx, self._packet
        for m in range(rx.receive(64)):
            count = rx.cells(m)
            size, end = rx.size, m * rx.per + count - 1
            for i in range(m * rx.per, end):
                packet(slots[i], size)
            packet(slots[end], rx.last)
        rx.done()

    def _packet(self, v: SlotView, n: int) -> None:
        """A datagram of `n` bytes in a slot. Every cell of a download goes through here."""
        if n < S.PACKET_MIN or n > S.PACKET_MAX:
            return self.count("size")
        a, d, stats = v.address, v.d, self.stats
        STREAM_XOR(a, a, 24, a + n - 12, self._obf)
        c = self._circuits.get((d[0], d[1]))
        if c is None:
            return self._stray(v, n)
        stats["wire_bytes_down"] += n
        if not c.hops[0].ready:
            c.on_created(ffi.peek(a, n))
            return None
        hop, command, size = c.open(v, n)
        if command == S.DATA:
            if hop == len(c.hops) - 1 and self.tun >= 0:
                c.data_at = c.heard
                stats["packets_down"] += 1
                stats["inner_bytes_down"] += size
                net.WRITE(self.tun, a + 24, size)
        elif hop >= 0:
            self._on_command(c, hop, command, ffi.peek(a + 24, size))
        return None

    def _stray(self, v: SlotView, n: int) -> None:
        """A datagram for no circuit: perhaps a COOKIE, which comes under the first hop's own key."""
        cell.mask(v.address, n, self._obf)
        raw = ffi.peek(v.address, n)
        for c in self._circuits.values():
            if not c.hops[0].ready and c.on_stray(raw):
                net.sendto(self.fd, c.create(), c.sockaddr)
                return
        self.count("unknown-circuit")

    def _on_command(self, c: Circuit, hop: int, command: int, payload: bytes) -> None:
        """A cell of a hop other than DATA of the exit."""
        raise NotImplementedError
