"""One measurement: an ordinary paid circuit to a relay, a burst of keystream, what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bwclient.circuit import Circuit, CircuitError
from bwclient.meter import AHEAD_MIN, NoTicket, TicketSource
from bwclient.tunnel import Tunnel
from bwrouter.platform import ffi, mmsg, sodium
from bwrouter.wire import proof
from bwrouter.wire import sizes as S
from bwrouter.wire.descriptor import Descriptor

from .slots import median_rate

LATE_SECONDS = 0.5  # a chunk that comes later than this after the duration does not count
CLOSE_SECONDS = 3.0  # how long the signed statement is waited for
START_TRIES = 3
DEFER_MS = 1000  # bursts up to this are opened only when they are over
QUIET_SECONDS = 0.15
UNITS_MOST = 2000  # paid ahead at most
PINGS = 5
PING_SECONDS = 1.0
SETTLE_SECONDS = 1.0
LINK_OVERHEAD = 42  # Ethernet 14, IPv4 20, UDP 8
CELL = S.HEADER + S.LAYER + S.PROVE_PAYLOAD


@dataclass
class Measurement:
    """What one proof has shown. `reason` is a code of BandwidthProof.Reason; rates in kbit/s."""

    relay: bytes
    seed: bytes
    reason: int = 2
    kbps: int = 0
    rate_said: int = 0  # at which the relay said it may send
    latency_ms: int = 0
    loss_bps: int = 0
    carried_kbps: int = 0  # of other cells, as the relay's signed statement says: nobody can check it
    chunks: int = 0
    wrong: int = 0  # chunks with other bytes than the seed's
    late: int = 0
    elsewhere: int = 0  # datagrams from another address than the first hop's
    occupied: bool = False  # another proof was under way: it says nothing of the relay
    place: int = 0  # of the relay in the circuit
    seconds: float = 0.0
    failed_hop: int = -1  # where the circuit broke
    broke: str = ""  # and how
    close: bytes = b""  # the relay's signed statement; empty when none came
    path: list[str] = field(default_factory=list)


GOOD, SLOW, UNREACHABLE, BUSY, CORRUPT = range(5)


class Stopped(RuntimeError):
    """A measurement was broken off."""


class Probe(Tunnel):
    """A tunnel whose circuit asks one hop for a proof."""

    def __init__(self, source: TicketSource) -> None:
        super().__init__(source)
        self._target = -1
        self._begun: tuple[int, int, bytes] | None = None
        self._chunks: list[tuple[float, bytes]] = []
        self._close = b""
        self._pongs: dict[bytes, float] = {}
        self._kept_raw: list[tuple[float, bytes]] | None = None  # while not None, datagrams are only kept
        self._came = 0.0  # when the datagram that is looked at came
        self._from = b""  # the first hop's sockaddr
        self.elsewhere = 0
        self._used = False
        self.stopped: Callable[[], bool] = lambda: False
        """Asked again and again while a measurement lasts."""

    def _receive(self) -> None:
        """While a burst runs, note only what came when: opening it takes longer than a fast line takes to send it.

        What another address sends does not count, whoever made it: a fast line elsewhere could answer for a slow one.
        """
        kept, rx = self._kept_raw, self.rx
        messages = rx.receive(64)
        self._came = now = time.monotonic()
        for m in range(messages):
            count = rx.cells(m)
            size, last = rx.size, rx.last
            if self._from and ffi.peek(rx.names + m * mmsg.NAME, len(self._from)) != self._from:
                self.elsewhere += count
                continue
            for j in range(count):
                v, n = self._rx[m * rx.per + j], size if j < count - 1 else last
                if kept is None:
                    self._packet(v, n)
                else:
                    kept.append((now, ffi.peek(v.address, n)))
        rx.done()

    def _open_kept(self) -> None:
        """Open what has been kept."""
        kept, self._kept_raw = self._kept_raw or [], None
        v = self._rx[0]
        for self._came, raw in kept:
            ffi.poke(v.address, raw)
            self._packet(v, len(raw))

    def _on_command(self, c: Circuit, hop: int, command: int, payload: bytes) -> None:
        if command == S.PROVE and hop == self._target and payload:
            if payload[0] == S.PROVE_CHUNK:
                self._chunks.append((self._came, payload))
            elif payload[0] == S.PROVE_ANSWER and len(payload) >= S.PROVE_ANSWER_SIZE:
                self._begun = proof.parse_begun(payload)
            elif payload[0] == S.PROVE_CLOSE:
                self._close = payload
        elif command == S.PONG:
            self._pongs[payload[:8]] = self._came
        else:
            super()._on_command(c, hop, command, payload)

    def measure(self, path: list[Descriptor], target: int, ms: int, expect_kbps: int = 0) -> Measurement:
        """Prove hop `target` of a fresh circuit through `path` for `ms` milliseconds.

        `expect_kbps` sets what is paid ahead.
        Never raises for a relay's fault: `reason` says UNREACHABLE, BUSY or CORRUPT. The circuit is ended. Raises
        NoTicket when there is no money to measure with, Stopped.
        """
        m = Measurement(path[target].relay, os.urandom(32), path=[d.relay.hex() for d in path], place=target)
        c: Circuit | None = None
        if self._used:
            self.move()  # another port and key for each measurement
        self._used = True
        self.elsewhere, self._from = 0, b""
        self._pongs.clear()
        try:
            c = self.open(path)
            self._target = target
            self._from = c.sockaddr
            self._prepay(c, ms, expect_kbps or path[target].rate)
            m.latency_ms, m.loss_bps = self._ping(c, target)
            self._prove(c, m, ms)
            self._judge(m, ms)
        except CircuitError as e:
            m.reason, m.failed_hop, m.broke = UNREACHABLE, e.hop, str(e)
        finally:
            if c is not None and c.block:
                self._settle(c)
        m.elsewhere = self.elsewhere
        return m

    def _settle(self, c: Circuit) -> None:
        """End the circuit once its hops have confirmed what they were paid."""
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until and not c.settled and c.error is None:
            self.step(20)
        self._end(c)
        self.circuit = None

    def _prepay(self, c: Circuit, ms: int, kbps: int) -> None:
        """Pay for the burst before it begins, so that it is the line that is measured and not the payments."""
        units = min(UNITS_MOST, AHEAD_MIN + int(kbps * min(ms, DEFER_MS) * 1.1 / 8 / S.UNIT) + 1)
        for hop in c.hops:
            hop.meter.ahead = units
            hop.meter._rate_at = time.monotonic() + 1  # the need is known: it is not learnt from an idle circuit
        until = time.monotonic() + 5
        while time.monotonic() < until:
            self.step(20)
            self._check(c)
            if all(h.meter.settled and h.meter.paid_units * 4 >= units * 3 for h in c.hops):
                return
        mute = [i for i, h in enumerate(c.hops) if not h.meter.settled]
        raise CircuitError(mute[0] if mute else self._target, "the payment is not confirmed")

    def _ping(self, c: Circuit, target: int) -> tuple[int, int]:
        """(median round trip in ms, loss in basis points) of some PINGs."""
        times: list[float] = []
        for _ in range(PINGS):
            name = os.urandom(8)
            at = time.monotonic()
            self._control(c, target, S.PING, name)
            self._flush()
            while name not in self._pongs and time.monotonic() < at + PING_SECONDS:
                self.step(10)
            if name in self._pongs:
                times.append(self._pongs.pop(name) - at)
        if not times:
            raise CircuitError(target, "no answer")
        return int(sorted(times)[len(times) // 2] * 1000), (PINGS - len(times)) * 10000 // PINGS

    def _prove(self, c: Circuit, m: Measurement, ms: int) -> None:
        start = proof.pack_start(ms, m.seed)
        self._begun, self._close = None, b""
        self._chunks.clear()
        name = proof.proof_id(m.seed)
        for _ in range(START_TRIES):
            at = self._burst(c, start, ms)
            if self._begun or self._chunks:
                break
        else:
            raise CircuitError(self._target, "no answer to PROVE")
        end = at + ms / 1000 + LATE_SECONDS
        patience = max(end, time.monotonic()) + CLOSE_SECONDS
        while time.monotonic() < patience and not self._close:
            if self._begun and (self._begun[0] != S.PROVE_BEGUN or self._begun[2] != name):
                break
            self._step(c)
        m.seconds = time.monotonic() - at
        self._deadline = end
        if self._begun and self._begun[2] == name:
            m.rate_said = self._begun[1]

    def _burst(self, c: Circuit, start: bytes, ms: int) -> float:
        """Send START and take what comes in its time; returns when it was sent. A long test is opened as it comes."""
        self._kept_raw = [] if ms <= DEFER_MS else None
        self._control(c, self._target, S.PROVE, start)
        self._flush()
        at = now = time.monotonic()
        self._came = 0.0
        while now < at + ms / 1000 + LATE_SECONDS:
            self._step(c)
            now = time.monotonic()
            if self._came > at and now > max(at + ms / 1000, self._came) + QUIET_SECONDS:
                break
        self._open_kept()
        return at

    def _step(self, c: Circuit) -> None:
        self.step(5)
        self._check(c)

    def _check(self, c: Circuit) -> None:
        if self.stopped():
            raise Stopped
        if c.error is not None:
            raise c.error
        if c.starved:
            raise NoTicket(c.starved)

    def _judge(self, m: Measurement, ms: int) -> None:
        """Bytes count by their content and their time."""
        if self._begun and self._begun[0] == S.PROVE_BUSY:
            m.reason = BUSY
            return
        if self._begun and self._begun[0] == S.PROVE_OCCUPIED:
            m.reason, m.occupied = UNREACHABLE, True
            return
        seen: set[int] = set()
        arrivals: list[float] = []
        head = proof.proof_id(m.seed)[:8]
        empty = bytes(S.PROVE_BYTES)
        for at, payload in self._chunks:
            index = payload[4:8]
            number = int.from_bytes(index, "little")
            good = (
                len(payload) == S.PROVE_PAYLOAD
                and payload[8:] == sodium.stream_xor(m.seed, index + head, empty)
                and number not in seen
            )
            if not good:
                m.wrong += 1
            elif at > self._deadline:
                m.late += 1
            else:
                seen.add(number)
                arrivals.append(at)
        m.chunks = len(arrivals)
        m.kbps = int(median_rate(arrivals, CELL + LINK_OVERHEAD))
        m.reason = GOOD
        if m.wrong:
            m.reason = CORRUPT
            return
        sent = 0
        try:
            fields = proof.verify(m.relay, self._close)
            if fields[1] == proof.proof_id(m.seed):
                m.close, sent = self._close[: S.PROVE_CLOSE_SIZE], fields[2]
                m.carried_kbps = fields[5] * 8192 // max(1, fields[0])
        except proof.Malformed:
            m.close = b""
        if sent:
            m.loss_bps = max(0, (sent - m.chunks) * 10000 // sent)
