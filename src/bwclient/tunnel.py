"""The tunnel: one UDP socket, one TUN, one circuit; pays every hop while it moves packets."""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bwrouter.platform import arena, consts, ffi, mmsg, net
from bwrouter.platform.sodium import CryptoError
from bwrouter.relay.exit import CONSTANT, NONE, pad
from bwrouter.wire import cell
from bwrouter.wire import sizes as S
from bwrouter.wire.descriptor import Descriptor

from .circuit import Circuit, CircuitError, SlotView
from .meter import MeterError, TicketSource

_BATCH = 64
_STEP_TIMEOUT = 1.5  # seconds for one hop's handshake before it is tried again
_STEP_TRIES = 3
_SO_MARK = 36


@dataclass(frozen=True)
class Padding:
    """How sizes and times are hidden: mode NONE, BUCKETS, or CONSTANT with `rate` full cells a second each way."""

    mode: int = NONE
    rate: int = 50


class Tunnel:
    """Build with `build`, then call `run` (or `step` in a loop of one's own) and `close`.

    Raises CircuitError when a hop cannot be reached, MeterError when one cheats.
    """

    def __init__(
        self, source: TicketSource, port: int = 0, mark: int = 0, padding: Padding = Padding(), priority: int = 1
    ):
        if priority not in (1, 2, 4):
            raise ValueError(f"priority {priority} is not 1, 2 or 4")
        self.source = source
        self.padding = padding
        self.priority = priority.bit_length() - 1
        self._kept: deque[bytes] = deque(maxlen=64)
        self._pad_at = 0.0
        self.fd = net.udp_socket(port)
        net.buffers(self.fd, 4 << 20, 1 << 20)
        if mark:
            net.set_option(self.fd, consts.SOL_SOCKET, _SO_MARK, mark)
        self.obf_key = os.urandom(32)
        self._obf = arena.take(4096)
        ffi.poke(self._obf, self.obf_key)
        self.rx = mmsg.Receiver(self.fd, 256)
        self.tx = mmsg.Sender(self.fd, _BATCH)
        self._rx = [SlotView.at(self.rx.base + i * mmsg.SLOT) for i in range(256)]
        base = arena.take(_BATCH * mmsg.SLOT)
        self._tx = [SlotView.at(base + i * mmsg.SLOT) for i in range(_BATCH)]
        self._next = 0
        self.tun = -1
        self.poller = net.Poller([self.fd, -1])
        self.circuit: Circuit | None = None
        self.session: bytes = b""
        self.inner_v4 = ""
        self.inner_v6 = ""
        self.mtu = S.INNER_MTU
        self.setup_ms = 0.0
        self.stats: dict[str, int] = dict.fromkeys(
            ("packets_up", "packets_down", "inner_bytes_up", "inner_bytes_down", "wire_bytes_up", "wire_bytes_down"), 0
        )
        self._wanted: dict[tuple[int, int], bytes] = {}
        self._error: CircuitError | None = None
        self._paid_at = 0.0

    # -- building -----------------------------------------------------------------

    def build(self, path: list[Descriptor]) -> None:
        """A circuit through `path`, paid, with an exit session. Raises CircuitError."""
        start = time.monotonic()
        c = self.circuit = Circuit(path, self.source, self.obf_key, self.priority)
        self._attempt(0, lambda: net.sendto(self.fd, c.create(), c.sockaddr), lambda: c.hops[0].ready)
        self._pay()
        for i in range(1, len(path)):
            self._attempt(
                i,
                lambda i=i: self._control(i - 1, S.EXTEND, c.extend_payload(i)),  # type: ignore[misc]
                lambda i=i: c.hops[i].ready,  # type: ignore[misc]
            )
            self._pay()
        last = len(path) - 1
        self._attempt(
            last,
            lambda: self._control(last, S.RESUME, self._resume_payload()),
            lambda: bool(self.inner_v4),
        )
        self.setup_ms = (time.monotonic() - start) * 1000

    def _resume_payload(self) -> bytes:
        mode = self.padding.mode
        return (self.session or bytes(16)) + struct.pack("<BBH", mode, 0, self.padding.rate if mode == CONSTANT else 0)

    def _attempt(self, hop: int, send: Callable[[], Any], done: Callable[[], bool]) -> None:
        for _ in range(_STEP_TRIES):
            send()
            self._flush()
            until = time.monotonic() + _STEP_TIMEOUT
            while time.monotonic() < until:
                self.step(50)
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if done():
                    return
        raise CircuitError(hop, "no answer")

    # -- sending --------------------------------------------------------------------

    def _slot(self) -> int:
        if self._next == _BATCH:
            self._flush()
        i = self._next
        self._next = i + 1
        return i

    def _flush(self) -> None:
        self.tx.flush()
        self._next = 0

    def _seal(self, i: int, target: int, size: int, command: int) -> None:
        c = self.circuit
        assert c is not None
        v = self._tx[i]
        n = c.seal(target, v, size, command)
        self.tx.put(v.address, n, c.name)
        self.stats["wire_bytes_up"] += n

    def _control(self, target: int, command: int, payload: bytes) -> None:
        i = self._slot()
        ffi.poke(self._tx[i].address + 24, payload)
        self._seal(i, target, len(payload), command)

    def _pay(self) -> None:
        c = self.circuit
        if c is None:
            return
        for i, hop in enumerate(c.hops):
            if hop.ready:
                for payload in hop.meter.due():
                    self._control(i, S.PAY, payload)

    # -- the loop ---------------------------------------------------------------------

    def attach(self, tun_fd: int) -> None:
        """Move packets between this TUN and the circuit from now on."""
        self.tun = tun_fd
        self.poller.set(1, tun_fd)

    def detach(self) -> None:
        """Close the TUN: no packet enters the tunnel any more."""
        if self.tun >= 0:
            self.poller.set(1, -1)
            net.close(self.tun)
            self.tun = -1

    def step(self, timeout_ms: int = 100) -> None:
        """One turn: wait, receive, send, pay."""
        constant = self.padding.mode == CONSTANT
        n = self.poller.wait(min(timeout_ms, 5) if constant else timeout_ms)
        if n and self.poller.ready(0):
            self._receive()
        if n and self.tun >= 0 and self.poller.ready(1):
            self._from_tun()
        now = time.monotonic()
        if now - self._paid_at > 0.01:
            self._paid_at = now
            self._pay()
        if constant:
            self._constant(now)
        self._flush()

    def _from_tun(self) -> None:
        c = self.circuit
        assert c is not None
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
            self.stats["packets_up"] += 1
            self.stats["inner_bytes_up"] += size
            self._seal(i, last, pad(mode, a, size, self.mtu), S.DATA)

    def _constant(self, now: float) -> None:
        """One full cell whenever one is due, with a packet in it or none."""
        c = self.circuit
        if c is None or not self.inner_v4:
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
            self._seal(i, len(c.hops) - 1, pad(CONSTANT, a, len(packet), self.mtu), S.DATA if packet else S.PAD)

    def _receive(self) -> None:
        rx = self.rx
        messages = rx.receive(64)
        c = self.circuit
        for m in range(messages):
            count = rx.cells(m)
            size, last = rx.size, rx.last
            for j in range(count):
                if c is not None:
                    self._packet(c, self._rx[m * rx.per + j], size if j < count - 1 else last)
        rx.done()

    def _packet(self, c: Circuit, v: SlotView, n: int) -> None:
        if n < S.PACKET_MIN or n > S.PACKET_MAX:
            return c.count("size")
        cell.mask(v.address, n, self._obf)
        if (v.d[0], v.d[1]) != c.cid_words:
            cell.mask(v.address, n, self._obf)
            if not c.hops[0].ready and c.on_stray(ffi.peek(v.address, n)):
                net.sendto(self.fd, c.create(), c.sockaddr)
                return None
            return c.count("unknown-circuit")
        self.stats["wire_bytes_down"] += n
        if not c.hops[0].ready:
            c.on_created(ffi.peek(v.address, n))
            return None
        hop, command, size = c.open(v, n)
        if command == S.DATA:
            if hop == len(c.hops) - 1 and self.tun >= 0:
                self.stats["packets_down"] += 1
                self.stats["inner_bytes_down"] += size
                net.WRITE(self.tun, v.address + 24, size)
        elif hop >= 0:
            self._on_command(c, hop, command, ffi.peek(v.address + 24, size))
        return None

    def _on_command(self, c: Circuit, hop: int, command: int, payload: bytes) -> None:
        if command == S.CREDIT:
            c.hops[hop].meter.credit(payload)
        elif command == S.EXTENDED and hop + 1 < len(c.hops):
            try:
                c.on_extended(hop + 1, payload)
            except CryptoError:
                c.count("extended")
        elif command == S.RESUME and hop == len(c.hops) - 1 and len(payload) >= S.RESUME_BACKWARD:
            self.session = payload[:16]
            self.inner_v4 = net.ip_text(payload[16:20])
            self.inner_v6 = net.ip_text(payload[20:36])
            self.mtu = min(int.from_bytes(payload[36:38], "little"), S.INNER_MTU)
        elif command == S.PING:  # the hop wants to know whether we hear at the address that we speak from now
            self._control(hop, S.PONG, payload[:8])
        elif command == S.ERROR and len(payload) >= 2:
            # An old answer to a repeated EXTEND is no failure of the hop that has been reached since.
            if not (payload[1] == S.EXTEND and hop + 1 < len(c.hops) and c.hops[hop + 1].ready):
                self._error = CircuitError(hop, S.ERRORS.get(payload[0], f"error {payload[0]}"))
        elif command == S.DESTROY:
            self._error = CircuitError(hop, "closed by the hop: " + S.ERRORS.get(payload[0] if payload else 0, "?"))

    def run(self, until: Callable[[], bool]) -> None:
        """Move packets until `until()` is true. Raises CircuitError or MeterError."""
        while not until():
            self.step(100)
            if self._error is not None:
                error, self._error = self._error, None
                raise error

    # -- ending -----------------------------------------------------------------------

    def close(self, patience: float = 3.0) -> None:
        """Settle with every hop (wait until each confirmed what it was paid), tear the circuit down, close the
        socket."""
        c = self.circuit
        self.detach()
        if c is not None:
            until = time.monotonic() + patience
            ready = [h for h in c.hops if h.ready]
            try:
                while time.monotonic() < until and not all(h.meter.settled for h in ready):
                    self.step(20)
            except (MeterError, CircuitError):
                pass
            for i in range(len(ready) - 1, -1, -1):
                for _ in range(2):  # a lost one costs the relay two minutes of patience
                    self._control(i, S.DESTROY, b"\0")
            self._flush()
            c.close()
        net.close(self.fd)

    def status(self) -> dict[str, Any]:
        """Raw numbers for status files and tables."""
        c = self.circuit
        hops = [] if c is None else c.hops
        return {
            "hops": [
                {
                    "id": h.descriptor.relay.hex(), "address": "{}:{}".format(*h.endpoint), "region":
                    h.descriptor.region,
                    "exit": h.descriptor.exit, "paid_units": h.meter.paid_units, "acked_units": h.meter.acked_units,
                    "used_units": h.meter.used_units, "used_bytes": h.meter.used_bytes,
                    "tickets": len(h.meter.tickets), "ready": h.ready,
                }
                for h in hops
            ],
            "inner_v4": self.inner_v4, "inner_v6": self.inner_v6, "mtu": self.mtu, "setup_ms": round(self.setup_ms, 1),
            "drops": {} if c is None else c.drops, "refused": self.tx.refused, **self.stats,
        }  # fmt: skip
