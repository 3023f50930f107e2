"""Keeps a tunnel on a path that works: a spare stays ready, and takes over when the path dies or gets bad.

One turn after each step of the tunnel. Nothing here waits: circuits are built in steps, between packets.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from bwrouter.wire.descriptor import Descriptor

from .circuit import Circuit, CircuitError
from .path import PathError
from .tunnel import STEP_TRIES, Tunnel

IDLE_SECONDS = 5.0  # between questions on an idle circuit
SPARE_SECONDS = 1.0  # and on the spare
MEASURE_SECONDS = 1.0  # between questions on a circuit in use
REBUILD_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # between tries to get a spare
LOSS_BAD = 0.05
DELAY_BAD = 0.15  # seconds over the spare's round trip, and twice it
BAD_SECONDS = 3.0  # how long it must be bad
CALM_SECONDS = 20.0  # between two moves that are no emergency
SPARE_LIFE = 1200.0
IMPROVE_SECONDS = 5.0  # between looks for a better spare, while the one at hand shares a hop with the path
STARVE_SECONDS = 10.0  # how long there may be no ticket to be had when none can be bought any more
RESUME_LEAST = 0.1  # seconds of the first try of RESUME, or 2.5 round trips of the spare path
HURRY_LEAST = 0.25  # seconds for one hop's handshake before it is tried again, while packets wait
# A hop that was given up for its silence and speaks after all was slow, not dead: on lines that stutter and machines
# that are full every path would be given up in turn, each for money. So from then on we wait longer, for a while.
REVIEW_SECONDS = 3.0  # after which a hop that was given up is dead
REVIEW_ASKS = 0.15  # seconds after it was given up that it is asked once more
SLACK_MOST = 8.0
SLACK_SECONDS = 20.0  # without such a mistake, until patience is halved again
SPARE_SLACK = 4.0  # at least: nothing waits for a spare

Job = Generator[None, None, None]


class Chooser(Protocol):
    """Gives paths and takes what was learnt (Relays)."""

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]: ...
    def blame(self, relay: bytes) -> None: ...
    def suspect(self, relay: bytes) -> None: ...
    def absolve(self, relay: bytes) -> None: ...
    def learn(self, c: Circuit) -> None: ...
    def hurry(self) -> None: ...


class Lost(RuntimeError):
    """No path could be had for long; the text says why."""


class Steering:
    """Of one tunnel. `say(state, reason)` tells the user; `renewed()` is called when the exit session is a new one,
    with other inner addresses; `endpoints` when first hops come or go."""

    def __init__(
        self, tunnel: Tunnel, relays: Chooser, say: Callable[[str, str], None], renewed: Callable[[], None],
        endpoints: Callable[[list[tuple[str, int]]], None] = lambda found: None, spare: bool = True,
        give_up: float = 120.0,
    ) -> None:  # fmt: skip
        self.tunnel, self.relays, self.say, self.renewed = tunnel, relays, say, renewed
        self.endpoints, self.want_spare, self.give_up = endpoints, spare, give_up
        tunnel.endpoints_changed = self._tell_endpoints
        self.spare: Circuit | None = None
        self.gaps_ms: list[float] = []
        self.moves = 0
        self.new_exits = 0
        self._inside: tuple[bytes, str, str] | None = None  # exit and inner addresses that `renewed` has told of
        self._job: Iterator[None] | None = None
        self._job_is = ""  # "spare" or "path"
        self._building: list[Descriptor] = []
        self._tries = {"spare": 0, "path": 0}  # that failed, one after the other
        self._spare_at = 0.0
        self._bad_since = self._moved_at = self._measured_at = 0.0
        self._mourned: Circuit | None = None
        self._silent: list[bytes] = []  # inner hops of it that may be dead
        self._lost_at = 0.0
        self._begun = False
        self.slack = 1.0
        self.mistakes = 0
        self._slack_at = 0.0
        self._given_up: list[tuple[Circuit, int, float]] = []  # for the silence of that hop, and when
        self._asked_again = 0.0

    # -- the first path ----------------------------------------------------------------

    def begin(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Build the first path. Raises Lost."""
        self._lost_at = time.monotonic()
        self._start("path", self._fresh(None))
        while self._job is not None and not stopped():
            self.tunnel.step(20)
            self._advance(time.monotonic())
        self._begun = True

    # -- a turn --------------------------------------------------------------------------

    def turn(self) -> None:
        """After each step of the tunnel. Raises Lost."""
        now = time.monotonic()
        if self._job is not None:
            self._advance(now)
        self._review(now)
        c = self.tunnel.circuit
        if c is None or self._job_is == "path":
            return
        self._watch(c, now)
        if self._job_is == "path":
            return
        self._watch_spare(now)
        if self.want_spare and self._job is None and now >= self._spare_at and not self._apart(c):
            self._start("spare", self._get_spare(c))
        self._measure(c, now)

    @property
    def timeout_ms(self) -> int:
        """How long the tunnel may wait for packets in its next step."""
        c = self.tunnel.circuit
        if self._job is not None or (c is not None and c.health.asked_since):
            return 10
        return 20 if c is not None and time.monotonic() - c.data_at < 2 else 100

    @property
    def _starve_seconds(self) -> float:
        """How long there may be no ticket. A purchase that fails now is repeated; where a limit is reached, none is."""
        return STARVE_SECONDS if getattr(self.tunnel.source, "spent_up", True) else self.give_up

    def _watch(self, c: Circuit, now: float) -> None:
        if c.starved and now - c.starved_at > self._starve_seconds:
            raise Lost(c.starved)
        if c.error is not None:
            return self._dead(c, str(c.error), c.error.hop, now)
        s = self.spare
        beside = s.exit_heard if s is not None else 0.0
        ask, dead = c.health.check(now, c.exit_heard, c.data_at, IDLE_SECONDS, beside, self.slack)
        if ask:
            for i in range(len(c.hops)):
                self.tunnel.ping(c, i)
            if s is not None:  # should our own address have changed, its first hop learns of it here
                self.tunnel.ping(s, 0)
                self.tunnel.ping(s, len(s.hops) - 1)
        if dead:
            hop = c.health.blame(now)
            self._given_up.append((c, hop, now))
            self._dead(c, f"hop {hop + 1} is silent", hop, now)
        elif c.stale:
            self._move(c, "keys are renewed", now)
        return None

    def _review(self, now: float) -> None:
        """See whether a hop that was given up speaks after all; circuits stay for some seconds after they were left."""
        left = []
        for c, hop, at in self._given_up:
            if c.health.answered[hop] > at:
                self.mistakes += 1
                self.slack, self._slack_at = min(SLACK_MOST, 2 * self.slack), now
                self.relays.absolve(c.hops[hop].descriptor.relay)
            elif c.block and now - at < REVIEW_SECONDS:
                left.append((c, hop, at))
                if now - at > REVIEW_ASKS > self._asked_again - at:
                    self._asked_again = now
                    self.tunnel.ping(c, hop)
        self._given_up = left
        if self.slack > 1 and now - self._slack_at > SLACK_SECONDS:
            self.slack, self._slack_at = self.slack / 2, now

    def _dead(self, c: Circuit, reason: str, hop: int, now: float) -> None:
        self.say("rerouting", reason)
        self._lost_at = c.exit_heard
        self._mourned = c
        last = c.hops[-1].descriptor.relay
        if hop < len(c.hops) - 1:
            self.relays.blame(c.hops[hop].descriptor.relay)
            for behind in c.hops[hop + 1 : -1]:
                self.relays.suspect(behind.descriptor.relay)
        self._silent = [h.descriptor.relay for h in c.hops[hop:-1]]
        self.tunnel.hold(True)
        on_its_way = self._job_is == "spare" and self.spare is None and self._job is not None
        if on_its_way and not any(d.relay in _inner(c) for d in self._building[:-1]):
            assert self._job is not None
            self._job_is = "path"
            self._job = self._then_resume(self._job)
            return
        self._drop_job()
        self._start("path", self._over_spare(last))

    def _move(self, c: Circuit, reason: str, now: float) -> None:
        """Not an emergency: the old path carries on until the other one has the session."""
        if self.spare is not None and self._job is None:
            self.say("moving", reason)
            self.moves += 1
            self._moved_at = self._lost_at = now
            self._start("path", self._over_spare(c.hops[-1].descriptor.relay))
        elif self._job is None:
            self._spare_at = now
            self.want_spare = True

    # -- jobs ----------------------------------------------------------------------------

    def _start(self, kind: str, job: Iterator[None]) -> None:
        self._job, self._job_is = job, kind

    def _drop_job(self) -> None:
        if self._job is not None:
            self._job.close()  # type: ignore[attr-defined]
        self._job, self._job_is = None, ""

    def _advance(self, now: float) -> None:
        assert self._job is not None
        kind = self._job_is
        try:
            next(self._job)
            return
        except StopIteration:
            self._job, self._job_is, self._tries[kind] = None, "", 0
            if kind == "path":
                self._arrived()
        except (CircuitError, PathError) as e:
            self._job, self._job_is = None, ""
            self._failed(kind, e, now)
        self._tell_endpoints()

    def _tell_inside(self, c: Circuit) -> None:
        """Two exits may give the same inner addresses, and an exit that was restarted gives others, over whichever path
        it is resumed; the answer to a try that was given up has set them too."""
        exit = c.hops[-1].descriptor.relay
        inside, before = (exit, self.tunnel.inner_v4, self.tunnel.inner_v6), self._inside
        self._inside = inside
        if before is not None and before != inside:
            self.new_exits += 1
            self.say("new exit", f"{exit.hex()[:8]}; connections through the old one are lost")
            self.renewed()

    def _arrived(self) -> None:
        dead, c = self._mourned, self.tunnel.circuit
        if c is not None:
            self._tell_inside(c)
        if dead is not None:
            self.gaps_ms.append((time.monotonic() - self._lost_at) * 1000)
            if c is not None and c.hops[-1].descriptor.relay == dead.hops[-1].descriptor.relay:
                self.tunnel.repeat(dead.exit_heard - dead.health.whole.smooth)
        self._mourned, self._lost_at, self._bad_since, self._spare_at = None, 0.0, 0.0, 0.0
        self.tunnel.hold(False)
        if c is not None and not c.health.whole.smooth:  # without its round trip death would be seen late
            for i in range(len(c.hops)):
                self.tunnel.ping(c, i)
        if self._begun:  # of the first path the caller tells, once packets go through it
            self.say("up", "")

    def _failed(self, kind: str, error: CircuitError | PathError, now: float) -> None:
        if isinstance(error, CircuitError) and error.hop < len(self._building):
            self.relays.blame(self._building[error.hop].relay)
        tries = self._tries[kind] = self._tries[kind] + 1
        if tries > 3:
            self.relays.hurry()
        if kind == "spare":
            self._spare_at = now + REBUILD_SECONDS[min(tries, len(REBUILD_SECONDS)) - 1]
            return
        if now - self._lost_at > self.give_up:
            raise Lost(f"no path could be had in {self.give_up:.0f} s: {error}")
        self.say("rerouting", f"{error}; trying another path")
        pause = 0.0 if tries < 3 else min(5.0, 0.25 * tries)
        # An exit is given up when it is silent over two paths, or when it can't be reached in some tries.
        inner = isinstance(error, CircuitError) and error.hop < len(self._building) - 1
        exit = self._building[-1].relay if tries < (4 if inner else 2) and self.tunnel.inner_v4 else None
        self._start("path", self._fresh(exit, pause))

    def _path(self, last: bytes | None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        self._building = self.relays.choose(last, apart)
        return self._building

    def _get_spare(self, c: Circuit) -> Job:
        """A second circuit to the same exit, apart from the first one where there are relays enough; it replaces one
        that is not."""
        inner = _inner(c)
        self._spare_at = time.monotonic() + IMPROVE_SECONDS
        path = self._path(c.hops[-1].descriptor.relay, inner)
        if self.spare is not None and any(d.relay in inner for d in path[:-1]):
            return  # no better than the one at hand
        spare = yield from self.tunnel.opening(path, warm=True)
        spare.data_at = 0.0
        worse, self.spare = self.spare, spare
        if worse is not None:
            self.tunnel.end(worse)

    def _apart(self, c: Circuit) -> bool:
        """Whether there is a spare that shares no inner hop with the path."""
        return self.spare is not None and not _inner(self.spare) & _inner(c)

    def _then_resume(self, job: Iterator[None]) -> Job:
        yield from job
        assert self.spare is not None
        c, self.spare = self.spare, None
        yield from self._take_over(c)

    def _over_spare(self, exit: bytes) -> Job:
        """The session to the spare path; without one to a fresh path to the same exit, and at last to another exit."""
        dead, c, self.spare = self._mourned, self.spare, None
        if c is not None and dead is not None and _inner(c) & frozenset(self._silent):
            self.tunnel.end(c)  # it shares a hop with what has just died
        elif c is not None:
            yield from self._take_over(c)
            return
        yield from self._fresh(exit)

    def _take_over(self, c: Circuit) -> Job:
        self._building = [h.descriptor for h in c.hops]
        began = time.monotonic()
        for i in range(len(c.hops)):
            self.tunnel.ping(c, i)
        try:
            least = max(min(STEP_TRIES[0], self.slack * RESUME_LEAST), 2.5 * c.health.whole.smooth)
            yield from self.tunnel.resuming(c, (least, least, 1.5 * least))
        except CircuitError as e:
            silent = [i for i, at in enumerate(c.health.answered) if at < began]
            raise CircuitError(silent[0] if silent else len(c.hops) - 1, e.text) from e

    def _fresh(self, exit: bytes | None, pause: float = 0.0) -> Job:
        until = time.monotonic() + pause
        while time.monotonic() < until:
            yield
        dead = self._mourned
        path = self._path(exit, _inner(dead) if dead is not None else frozenset())
        yield from self.tunnel.building(path, _hurry(dead, self.slack) if dead is not None else STEP_TRIES)

    # -- watching --------------------------------------------------------------------------

    def _watch_spare(self, now: float) -> None:
        s = self.spare
        if s is None:
            return
        ask, dead = s.health.check(now, s.exit_heard, 0.0, SPARE_SECONDS, slack=max(SPARE_SLACK, self.slack))
        if ask:
            for i in range(len(s.hops)):
                self.tunnel.ping(s, i)
        c = self.tunnel.circuit
        moved = c is not None and c.hops[-1].descriptor.relay != s.hops[-1].descriptor.relay
        if dead and s.error is None:
            hop = s.health.blame(now)
            if hop < len(s.hops) - 1:
                self.relays.blame(s.hops[hop].descriptor.relay)
        if dead or moved or s.error is not None or s.stale or now - s.born > SPARE_LIFE:
            self.spare = None
            self.tunnel.end(s)
            self._spare_at = now
            self._tell_endpoints()

    def _measure(self, c: Circuit, now: float) -> None:
        """Round trips and loss of a circuit in use; away from a path that is bad for long while the spare is better."""
        exit = c.hops[-1]
        c.health.count(now, exit.got, exit.top)
        if now - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = now + secrets.randbelow(200) / 1000
        if now - c.data_at > 10:
            self._bad_since = 0.0
            return
        for i in range(len(c.hops)):
            self.tunnel.ping(c, i)
        self.relays.learn(c)
        s = self.spare
        if s is None or not s.health.whole.smooth:
            return
        delay, other = c.health.whole.smooth, s.health.whole.smooth
        slow = delay > other + DELAY_BAD and delay > 2 * other
        if not slow and c.health.loss < LOSS_BAD:
            self._bad_since = 0.0
        elif not self._bad_since:
            self._bad_since = now
        elif now - self._bad_since > BAD_SECONDS and now - self._moved_at > CALM_SECONDS:
            worst = max(range(len(c.hops) - 1), key=lambda i: self._step_delay(c, i), default=-1)
            if worst >= 0:
                self.relays.blame(c.hops[worst].descriptor.relay)
            what = f"{delay * 1000:.0f} ms round trip" if slow else f"{c.health.loss * 100:.0f} % loss"
            self._move(c, what, now)

    @staticmethod
    def _step_delay(c: Circuit, i: int) -> float:
        """How much hop `i` adds over the least that it ever added."""
        now, least = c.health.rtt[i].smooth, c.health.rtt[i].least
        before = c.health.rtt[i - 1] if i else None
        return (now - least) - ((before.smooth - before.least) if before else 0.0)

    def status(self) -> dict[str, object]:
        """Raw numbers: milliseconds, counts."""
        c, spare = self.tunnel.circuit, self.spare
        return {
            "spare": [h.descriptor.relay.hex() for h in spare.hops] if spare is not None else [],
            "rtt_ms": [round(r.smooth * 1000, 1) for r in c.health.rtt] if c is not None else [],
            "steps_ms": [round(x, 1) for x in c.steps_ms] if c is not None else [],
            "loss_pct": round(c.health.loss * 100, 2) if c is not None else 0.0,
            "gaps_ms": [round(x) for x in self.gaps_ms[-100:]], "moves": self.moves, "new_exits": self.new_exits,
            "mistakes": self.mistakes, "slack": self.slack,
        }  # fmt: skip

    def _tell_endpoints(self) -> None:
        self.endpoints(self.tunnel.endpoints())


def _hurry(dead: Circuit, slack: float) -> tuple[float, ...]:
    """Seconds for one hop's handshake, while packets wait: by the round trip of the path that died."""
    least = min(STEP_TRIES[0], slack * HURRY_LEAST)
    least = max(least, 2 * dead.health.whole.smooth)
    return (least, 1.5 * least, 2 * least)


def _inner(c: Circuit) -> frozenset[bytes]:
    """Relays of a circuit before its exit."""
    return frozenset(h.descriptor.relay for h in c.hops[:-1])
