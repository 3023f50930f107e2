"""The tunnel: one UDP socket, one TUN, one circuit; pays every hop while it moves packets."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from bwrouter.platform import net
from bwrouter.platform.sodium import CryptoError
from bwrouter.relay.exit import CONSTANT
from bwrouter.wire import sizes as S
from bwrouter.wire.descriptor import Descriptor
from bwrouter.wire.ticket import BadPayment

from .circuit import Circuit, CircuitError
from .datapath import NO_PADDING, DataPath, Padding
from .meter import MeterError, TicketSource

STEP_TRIES = (1.0, 1.5, 1.5)  # seconds for one hop's handshake before it is tried again
_INNER_MTU_LEAST = 1280  # IPv6 has no smaller one
_RETIRE_SECONDS = 5.0  # an old circuit's late packets and last payments


def place(address: str, port: int) -> str:
    """Address and port in one text (RFC 5952, section 6)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Tunnel(DataPath):
    """Build with `build`, then call `run` (or `step` in a loop of one's own) and `close`.

    Raises CircuitError when a hop cannot be reached, MeterError when one cheats.
    """

    def __init__(
        self, source: TicketSource, port: int = 0, mark: int = 0, padding: Padding = NO_PADDING, priority: int = 1
    ):
        if priority not in (1, 2, 4):
            raise ValueError(f"priority {priority} is not 1, 2 or 4")
        super().__init__(port, mark, padding)
        self.source = source
        self.priority = priority.bit_length() - 1
        self.session: bytes = b""
        self.inner_v4 = ""
        self.inner_v6 = ""
        self.setup_ms = 0.0
        self.reroutes = 0
        self._sessions: dict[bytes, bytes] = {}  # by exit
        self._paid_at = 0.0
        self._paid_before: dict[str, int] = {}  # units by relay, of circuits that ended

    def move(self) -> None:
        """End all circuits and go on at another port, under another key, without a session: nobody can tell that it is
        the same client. The buffers stay, which are never given back."""
        for c in list(self._circuits.values()):
            self._end(c)
        self._renew_socket()
        self.circuit, self.session, self.inner_v4, self.inner_v6 = None, b"", "", ""
        self._sessions.clear()

    # -- building -----------------------------------------------------------------

    def build(self, path: list[Descriptor]) -> None:
        """A circuit through `path`, paid, with an exit session, which carries the data from now on.

        Where one did before, it is kept until the new one stands, settled and ended: nothing inside the tunnel notices
        when the exit is the same. Raises CircuitError; then the old circuit, if any, goes on.
        """
        self._drive(self.building(path))

    def building(self, path: list[Descriptor], tries: Sequence[float] = STEP_TRIES) -> Iterator[None]:
        """`build` in steps: advance it after each `step` until it is exhausted."""
        start = time.monotonic()
        c = yield from self.opening(path, tries=tries)
        yield from self.resuming(c)
        self.setup_ms = (time.monotonic() - start) * 1000

    def opening(
        self, path: list[Descriptor], warm: bool = False, tries: Sequence[float] = STEP_TRIES
    ) -> Generator[None, None, Circuit]:
        """A circuit with all its hops ready and paid, which carries nothing yet; in steps. `warm`: paid only as much as
        keeps it open. `tries`: seconds for a hop's handshake until it is said again. Raises CircuitError."""
        c = self._circuit(path)
        try:
            for hop in c.hops:
                hop.meter.warm(warm)
            yield from self._attempt(
                c, 0, lambda: net.sendto(self.fd, c.create(), c.sockaddr), lambda: c.hops[0].ready, tries
            )
            self._pay(c)
            for i in range(1, len(path)):
                payload = c.extend_payload(i)  # a repeated EXTEND must be the same one: the hop may have answered it
                yield from self._attempt(
                    c,
                    i,
                    lambda i=i, payload=payload: self._control(c, i - 1, S.EXTEND, payload),  # type: ignore[misc]
                    lambda i=i: c.hops[i].ready,  # type: ignore[misc]
                    tries,
                )
                self._pay(c)
        except (CircuitError, GeneratorExit):
            self._end(c)
            raise
        return c

    def resuming(self, c: Circuit, tries: Sequence[float] = STEP_TRIES) -> Iterator[None]:
        """The exit session over an open circuit, which carries the data from then on; in steps. Raises CircuitError;
        the circuit is ended then."""
        last = len(c.hops) - 1
        for hop in c.hops:
            hop.meter.warm(False)
        try:
            yield from self._attempt(
                c, last, lambda: self._control(c, last, S.RESUME, self._resume_payload(c)), lambda: c.resumed, tries
            )
        except (CircuitError, GeneratorExit):
            self._end(c)
            raise
        old, self.circuit = self.circuit, c
        if old is not None and old is not c:
            self.reroutes += 1
            old.retire_at = time.monotonic() + _RETIRE_SECONDS
        self._pay(c)

    def _circuit(self, path: list[Descriptor]) -> Circuit:
        # The process of the exit that has the session, when the exit is the same.
        last = self.circuit.hops[-1] if self.circuit is not None else None
        same = last is not None and last.descriptor.relay == path[-1].relay
        c = Circuit(path, self.source, self.obf_key, self.priority, last.worker if last is not None and same else None)
        self._circuits[c.cid_words] = c
        if self.circuit is None:
            self.circuit = c  # shown by `status` while it is being built
        self.endpoints_changed()
        return c

    def _resume_payload(self, c: Circuit) -> bytes:
        mode = self.padding.mode
        # An exit is told no session key but its own: another one's would tell it who came.
        key = self._sessions.get(c.hops[-1].descriptor.relay, b"") if self._sessions else self.session
        return (key or bytes(16)) + struct.pack("<BBH", mode, 0, self.padding.rate if mode == CONSTANT else 0)

    def _attempt(
        self, c: Circuit, hop: int, send: Callable[[], Any], done: Callable[[], bool],
        tries: Sequence[float] = STEP_TRIES,
    ) -> Iterator[None]:  # fmt: skip
        for seconds in tries:
            began = time.monotonic()
            send()
            self._flush()
            while time.monotonic() - began < seconds:
                yield
                if c.error is not None:
                    raise c.error
                if done():
                    if seconds == tries[0]:
                        c.steps_ms[hop] = (time.monotonic() - began) * 1000
                        c.hops[hop].meter.rtt = time.monotonic() - began
                    return
        raise CircuitError(hop, "no answer")

    def open(self, path: list[Descriptor]) -> Circuit:
        """`opening`, done. Raises CircuitError."""
        job = self.opening(path)
        while True:
            try:
                next(job)
            except StopIteration as done:
                circuit: Circuit = done.value
                return circuit
            self.step(50)

    def _drive(self, job: Iterator[None]) -> None:
        for _ in job:
            self.step(50)

    def ping(self, c: Circuit, hop: int) -> None:
        """Ask a hop whether it is there; the answer goes into the circuit's health."""
        self._control(c, hop, S.PING, c.health.ping(hop, time.monotonic()))

    def end(self, c: Circuit) -> None:
        """Tear down a circuit that carries no data (a spare)."""
        if c.block:
            self._end(c)

    @property
    def stale(self) -> bool:
        """Whether the circuit's keys have served long enough (bytes, time, or tickets): `build` another one."""
        c = self.circuit
        return c is not None and c.stale

    # -- sending --------------------------------------------------------------------

    def _pay(self, c: Circuit) -> None:
        starved = ""
        for i, hop in enumerate(c.hops):
            if hop.ready and c.error is None:
                try:
                    payloads = hop.meter.due()
                except MeterError as e:
                    c.error = CircuitError(i, str(e))
                    return
                for payload in payloads:
                    self._control(c, i, S.PAY, payload)
                if hop.meter.starving:
                    starved = hop.meter.lack
        if not starved:
            c.starved_at = 0.0
        elif not c.starved_at:
            c.starved_at = time.monotonic()
        c.starved = starved

    # -- the loop ---------------------------------------------------------------------

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
            for c in list(self._circuits.values()):
                self._pay(c)
                if c.retire_at and (now > c.retire_at or (c.settled and now > c.retire_at - _RETIRE_SECONDS + 0.5)):
                    self._end(c)
        if constant:
            self._constant(now)
        self._flush()

    def _on_command(self, c: Circuit, hop: int, command: int, payload: bytes) -> None:
        if command == S.CREDIT:
            try:
                c.hops[hop].meter.credit(payload)
            except (MeterError, BadPayment) as e:
                c.error = CircuitError(hop, str(e))
        elif command == S.EXTENDED and hop + 1 < len(c.hops):
            try:
                c.on_extended(hop + 1, payload)
            except CryptoError:
                c.count("extended")
        elif command == S.RESUME and hop == len(c.hops) - 1 and len(payload) >= S.RESUME_BACKWARD:
            self.session = self._sessions[c.hops[hop].descriptor.relay] = payload[:16]
            self.inner_v4 = net.ip_text(payload[16:20])
            self.inner_v6 = net.ip_text(payload[20:36])
            self.mtu = max(_INNER_MTU_LEAST, min(int.from_bytes(payload[36:38], "little"), S.INNER_MTU))
            c.resumed = True
        elif command == S.PING:  # the hop wants to know whether we hear at the address that we speak from now
            self._control(c, hop, S.PONG, payload[:8])
        elif command == S.PONG:
            c.health.pong(hop, payload[:8], c.heard)
            c.hops[hop].meter.rtt = c.health.rtt[hop].smooth
        elif command == S.ERROR and len(payload) >= 2:
            # An old answer to a repeated EXTEND is no failure of the hop that has been reached since.
            if not (payload[1] == S.EXTEND and hop + 1 < len(c.hops) and c.hops[hop + 1].ready):
                silent = payload[0] == 4 and payload[1] == S.EXTEND and hop + 1 < len(c.hops)  # then the next one is
                c.error = CircuitError(hop + silent, S.ERRORS.get(payload[0], f"error {payload[0]}"))
        elif command == S.DESTROY:
            c.error = CircuitError(hop, "closed by the hop: " + S.ERRORS.get(payload[0] if payload else 0, "?"))

    def run(self, until: Callable[[], bool]) -> None:
        """Move packets until `until()` is true. Raises CircuitError when the circuit fails; `build` then mends it."""
        while not until():
            self.step(100)
            c = self.circuit
            if c is not None and c.error is not None:
                raise c.error

    # -- ending -----------------------------------------------------------------------

    def _end(self, c: Circuit) -> None:
        """Tear a circuit down."""
        for i in range(c.built - 1, -1, -1):
            for _ in range(2):  # a lost one costs the relay two minutes of patience
                self._control(c, i, S.DESTROY, b"\0")
        self._flush()
        if self._circuits.pop(c.cid_words, None) is not None:
            self._count_paid(c, self._paid_before)
            for hop in c.hops:
                hop.meter.end()
        c.close()

    @staticmethod
    def _count_paid(c: Circuit, paid: dict[str, int]) -> None:
        for h in c.hops:
            relay = h.descriptor.relay.hex()
            paid[relay] = paid.get(relay, 0) + h.meter.paid_units

    def paid(self) -> dict[str, int]:
        """Units paid to each relay (by id, hex) in all circuits of this tunnel: spares and those that ended too."""
        paid = dict(self._paid_before)
        for c in self._circuits.values():
            self._count_paid(c, paid)
        return paid

    def close(self, patience: float = 3.0) -> None:
        """Settle with every hop (wait until each confirmed what it was paid), tear all circuits down, close the
        socket."""
        if self.fd < 0:
            return
        self.detach()
        until = time.monotonic() + patience
        while time.monotonic() < until and not all(c.settled or c.error for c in self._circuits.values()):
            self.step(20)
        for c in list(self._circuits.values()):
            self._end(c)
        net.close(self.fd)
        self.fd = -1

    def status(self) -> dict[str, Any]:
        """Raw numbers for status files and tables."""
        c = self.circuit
        hops = [] if c is None else c.hops
        return {
            "hops": [
                {
                    "id": h.descriptor.relay.hex(), "address": place(*h.endpoint), "region":
                    h.descriptor.region,
                    "exit": h.descriptor.exit, "paid_units": h.meter.paid_units, "acked_units": h.meter.acked_units,
                    "used_units": h.meter.used_units, "used_bytes": h.meter.used_bytes,
                    "tickets": len(h.meter.tickets), "ready": h.ready,
                }
                for h in hops
            ],
            "paid": self.paid(),
            "inner_v4": self.inner_v4, "inner_v6": self.inner_v6, "mtu": self.mtu, "setup_ms": round(self.setup_ms, 1),
            "reroutes": self.reroutes, "refused": self.tx.refused, **self.stats,
            "drops": self.drops | ({} if c is None else c.drops),
        }  # fmt: skip
