"""What one hop is owed and what it has been paid: the buyer's side of protocol section 6."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T

# What a hop forwards now is counted here a round trip later, and a TCP that starts doubles its rate in each. So what
# is needed is a multiple of what a round trip carries at the rate seen last.
AHEAD_MIN = 16  # units paid ahead of use, at least
AHEAD_WARM = 1  # and so many on a spare circuit, which carries no data yet
AHEAD_MAX = 512
AHEAD_SECONDS = 0.25  # and for so long at the rate of now
AHEAD_RTTS = 4  # and for so many round trips more
AHEAD_SECONDS_MOST = 1.5
RATE_SECONDS = 0.1  # over which the rate is taken
FLOWS_BYTES = 2 * S.UNIT  # from so much on a circuit counts as one that carries data,
RESERVE = 64  # and the next ticket is opened when so many units are left: a start may outrun the opening
ASK_SECONDS = 0.5  # until a ticket is asked for again after there was none
RETRY = 0.4  # seconds until an unacknowledged PAY is said again
DRIFT_SHARE = 0.03  # a relay may count so much more than we do (cells lost on their way to us)
DRIFT_UNITS = 6


class TicketLike(Protocol):
    """A paid ticket: what the wallet hands out."""

    @property
    def key_id(self) -> bytes: ...
    @property
    def output(self) -> bytes: ...
    @property
    def units(self) -> int: ...
    @property
    def top(self) -> bytes: ...


class TicketSource(Protocol):
    """Hands out tickets of a region. Raises NoTicket when the buyer's money or limit is used up."""

    def take(self, region: int) -> TicketLike: ...


class SmallTicketSource(TicketSource, Protocol):
    """A source that also hands out the smallest tickets it has: a circuit may end before it has used a large one."""

    def take_small(self, region: int) -> TicketLike: ...


class ReturningSource(TicketSource, Protocol):
    """A source that takes back what a circuit that has ended did not use up."""

    def give_back(self, ticket: TicketLike) -> None: ...


class NoTicket(RuntimeError):
    """A ticket source has none to give: money or a limit is used up; the text says which."""


class MeterError(RuntimeError):
    """The hop counts more than it can have carried, or refused a ticket: the circuit must be given up."""


@dataclass
class _Paying:
    ticket: TicketLike
    chain: T.Chain
    index: int = 0
    opened: bool = False


@dataclass
class HopMeter:
    """Counts charged bytes of one hop and says which PAY is due."""

    region: int
    source: TicketSource
    used_bytes: int = 0
    acked_units: int = 0  # paid units that the hop confirmed
    relay_used: int = 0  # units that the hop says were used
    ahead: int = AHEAD_MIN
    least: int = AHEAD_MIN  # of `ahead`
    rtt: float = 0.0  # seconds, to this hop
    lack: str = ""  # why the last ticket wanted could not be had
    _asked: float = 0.0
    tickets: list[_Paying] = field(default_factory=list)
    _said: float = 0.0
    _rate_at: float = 0.0
    _rate_bytes: int = 0

    @property
    def paid_units(self) -> int:
        return sum(t.index for t in self.tickets)

    @property
    def capacity(self) -> int:
        return sum(t.ticket.units for t in self.tickets)

    @property
    def used_units(self) -> int:
        return max(self.relay_used, -(-self.used_bytes // S.UNIT))

    def _add_ticket(self) -> None:
        if len(self.tickets) >= 32:
            raise MeterError("32 tickets are used up on one circuit: build a new one")
        small = getattr(self.source, "take_small", None)
        ticket = small(self.region) if small is not None and not self.tickets else self.source.take(self.region)
        self.tickets.append(_Paying(ticket, T.Chain(ticket.top, ticket.units)))

    def end(self) -> None:
        """The circuit has ended: what is left of its tickets goes back to their source, where it takes them."""
        give_back = getattr(self.source, "give_back", None)
        if give_back is not None:
            for t in self.tickets:
                give_back(t.ticket)

    def _adapt(self, now: float) -> None:
        if now - self._rate_at >= RATE_SECONDS:
            rate = (self.used_bytes - self._rate_bytes) / (now - self._rate_at) / S.UNIT
            self._rate_at, self._rate_bytes = now, self.used_bytes
            span = min(AHEAD_SECONDS_MOST, AHEAD_SECONDS + AHEAD_RTTS * self.rtt)
            self.ahead = min(AHEAD_MAX, max(self.least, int(rate * span), self.ahead * 7 // 8))

    def warm(self, yes: bool) -> None:
        """Pay a spare circuit's hop only what keeps it open, until it takes over."""
        self.least = AHEAD_WARM if yes else AHEAD_MIN
        self.ahead = self.least

    def due(self) -> list[bytes]:
        """PAY payloads to send now: none when the hop is paid far enough ahead and has said so."""
        now = time.monotonic()
        self._adapt(now)
        want = self.used_units + self.ahead
        reserve = RESERVE if self.used_bytes > FLOWS_BYTES else 0
        if self.capacity - want < max(2 * self.ahead, reserve) and now - self._asked > ASK_SECONDS:
            # Opening costs a round trip to the gateway: the next ticket is on its way before this one ends.
            try:
                self._add_ticket()
                self.lack = ""
            except NoTicket as e:  # what is left of those at hand is paid all the same
                self.lack, self._asked = str(e), now
        out: list[bytes] = []
        grow = want - self.paid_units
        late = now - self._said > RETRY
        for serial, t in enumerate(self.tickets):
            step = min(t.ticket.units - t.index, max(grow, 0))
            moved = step > 0 and (step >= self.ahead // 8 or step == t.ticket.units - t.index)
            if moved:
                t.index += step
            grow -= step
            unacknowledged = late and (not t.opened or (self.acked_units < self.paid_units and t.index > 0))
            if moved or unacknowledged or (not t.opened and self._said == 0.0):
                out.append(self._pay(serial, t))
        if out:
            self._said = now
        return out

    def _pay(self, serial: int, t: _Paying) -> bytes:
        full = None if t.opened else (t.ticket.key_id, t.chain.anchor, t.ticket.output, t.ticket.units)
        return bytes(T.pack_pay(serial, t.index, t.chain.word(t.index), full))

    def credit(self, payload: bytes) -> None:
        """A CREDIT of this hop. Raises MeterError when it is beyond belief or refuses a ticket."""
        used, paid, opened, refused = T.parse_credit(payload)
        if refused:
            raise MeterError("the hop's gateway refused a ticket")
        if paid > self.paid_units:
            raise MeterError(f"the hop claims {paid} paid units of {self.paid_units}")
        own = -(-self.used_bytes // S.UNIT)
        if used > own * (1 + DRIFT_SHARE) + DRIFT_UNITS:
            raise MeterError(f"the hop counts {used} units where {own} were used")
        self.acked_units = max(self.acked_units, paid)
        self.relay_used = max(self.relay_used, used)
        for serial, t in enumerate(self.tickets):
            if opened >> serial & 1:
                t.opened = True

    @property
    def starving(self) -> bool:
        """Whether all tickets are paid up and no other one could be had; `lack` says why."""
        return bool(self.lack) and self.paid_units >= self.capacity

    @property
    def settled(self) -> bool:
        """Whether the hop has confirmed all that was paid."""
        return self.acked_units == self.paid_units
