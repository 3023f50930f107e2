"""How a circuit does: round trips to each hop, silence, loss. Pure bookkeeping; the caller gives the time (monotonic).

Death is detected by data: whoever moves packets and hears nothing for a little longer than a round trip asks every hop
(PING); the first hop that stays silent is the one to blame. An idle circuit is asked seldom.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field

SILENCE_LEAST = 0.08  # seconds without a cell, while packets move, after which the hops are asked
PATIENCE_LEAST = 0.16  # seconds that an asked circuit may stay silent before it counts as dead
PATIENCE_MOST = 0.8
SLOW_MOST = 2.5  # and at most, however patient we have become
PATIENCE_BESIDE = 0.05  # the same at least, once another circuit to the same exit has answered meanwhile
ASK_AGAIN = 0.06
ACTIVE_SECONDS = 1.5  # so long after the last inner packet a circuit counts as in use
LOSS_SPAN = 2.0  # seconds over which loss is counted
LOSS_LEAST_CELLS = 100


@dataclass
class Rtt:
    """Smoothed round trip and its deviation (RFC 6298), and the least seen, in seconds. 0: none yet."""

    smooth: float = 0.0
    deviation: float = 0.0
    least: float = 0.0

    def add(self, sample: float) -> None:
        if not self.smooth:
            self.smooth, self.deviation, self.least = sample, sample / 2, sample
            return
        self.deviation += (abs(self.smooth - sample) - self.deviation) / 4
        self.smooth += (sample - self.smooth) / 8
        self.least = min(self.least, sample)


@dataclass
class Health:
    """Of one circuit of `hops` hops."""

    hops: int
    born: float = 0.0
    rtt: list[Rtt] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    """When each hop gave its last PONG."""
    asked_since: float = 0.0
    """Since when the circuit has been asked without any cell coming; 0 while it is not suspected."""
    _asked: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    _asked_at: float = 0.0
    _doubt: float = SILENCE_LEAST
    _marks: deque[tuple[float, int, int]] = field(default_factory=deque)
    loss: float = 0.0
    """Share of the exit's cells that did not arrive in the last LOSS_SPAN seconds."""

    def __post_init__(self) -> None:
        self.rtt = [Rtt() for _ in range(self.hops)]
        self.answered = [self.born] * self.hops

    # -- asking --------------------------------------------------------------------

    def ping(self, hop: int, now: float) -> bytes:
        """8 bytes for a PING to `hop`."""
        token = os.urandom(8)
        if len(self._asked) > 256:
            self._asked.clear()
        self._asked[token] = (hop, now)
        self._asked_at = now
        return token

    def pong(self, hop: int, token: bytes, now: float) -> None:
        """A PONG of `hop`. One that nobody asked for says nothing."""
        asked = self._asked.pop(token, None)
        if asked is not None and asked[0] == hop:
            self.rtt[hop].add(now - asked[1])
            self.answered[hop] = now

    @property
    def whole(self) -> Rtt:
        """The round trip to the exit."""
        return self.rtt[-1]

    @property
    def patience(self) -> float:
        """Seconds of silence after asking that mean death."""
        r = self.whole
        return min(PATIENCE_MOST, max(PATIENCE_LEAST, 1.5 * r.smooth + 4 * r.deviation if r.smooth else 0.6))

    @property
    def hurry(self) -> float:
        """The same while another circuit is heard: what is slow is not the exit, nor this machine."""
        r = self.whole
        wait = 1.25 * r.smooth + 2 * r.deviation if r.smooth else PATIENCE_MOST
        return min(self.patience, max(PATIENCE_BESIDE, wait))

    def check(
        self, now: float, heard: float, data_at: float, idle: float, beside: float = 0.0, slack: float = 1.0
    ) -> tuple[bool, bool]:
        """(whether to ask all hops now, whether the circuit is dead).

        `heard`: when a cell of the exit came last; `data_at`: when an inner packet moved last; `idle`: seconds between
        questions when none moves; `beside`: when the same exit was last heard over another circuit; `slack`: how many
        times as patient as round trips suggest.
        """
        if self.asked_since and heard > self.asked_since:
            self.asked_since = 0.0
            self._doubt = min(self._doubt * 2, idle) if data_at < heard - 0.2 else SILENCE_LEAST
        active = now - data_at < ACTIVE_SECONDS
        if active and data_at > heard - 0.05:
            self._doubt = SILENCE_LEAST
        if self.asked_since:
            patience = min(SLOW_MOST, slack * (self.hurry if beside > self.asked_since else self.patience))
            dead = now - self.asked_since > patience
            return not dead and now - self._asked_at > slack * ASK_AGAIN, dead
        doubt = max(self._doubt, 1.5 * self.whole.smooth) if active else idle
        suspect = now - heard > doubt
        if suspect:
            self.asked_since = now
        return suspect, False

    def blame(self, now: float) -> int:
        """The first hop that did not answer since the circuit has been asked; the last if all did."""
        for i, at in enumerate(self.answered):
            if at < self.asked_since:
                return i
        return self.hops - 1

    # -- loss ----------------------------------------------------------------------

    def count(self, now: float, got: int, top: int) -> float:
        """Loss of the exit's cells, by their numbers: `got` came, `top` is the highest number."""
        marks = self._marks
        if not marks or now - marks[-1][0] > 0.2:
            marks.append((now, got, top))
        while len(marks) > 2 and now - marks[0][0] > LOSS_SPAN:
            marks.popleft()
        sent = top - marks[0][2]
        self.loss = max(0.0, 1 - (got - marks[0][1]) / sent) if sent >= LOSS_LEAST_CELLS else 0.0
        return self.loss
