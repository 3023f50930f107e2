"""Re-route against real relay processes: whatever inner hop dies, the exit session goes on, in under a second."""

from __future__ import annotations

import os
import signal
import time

import pytest

from bwclient.circuit import Circuit
from bwclient.path import RELAXED, Wish, choose
from bwclient.steer import Steering
from bwclient.tunnel import Tunnel
from tests.relay.scene import Scene, Source
from tests.relay.test_relay import Pipe, echo_request

pytestmark = [pytest.mark.slow, pytest.mark.root]


class Book:
    """The relays of a scene as the directory would give them. All have one /24, so diversity is by relay only."""

    def __init__(self, scene: Scene, exits: int, inner: int = 9):
        self.all = scene.path()[:inner] + scene.path()[-exits:]
        self.exits = {d.relay for d in self.all[-exits:]}
        self.blamed: list[bytes] = []
        self.absolved: list[bytes] = []

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()):
        gone = self.blamed[-2:]
        inner = [d for d in self.all if d.relay not in self.exits and d.relay not in gone]
        inner = [d for d in inner if d.relay not in apart] + [d for d in inner if d.relay in apart]
        exit = next(d for d in self.all if d.relay == last) if last else next(d for d in self.all if d.exit)
        return [inner[0], inner[1], exit]

    def blame(self, relay: bytes) -> None:
        self.blamed.append(relay)

    def absolve(self, relay: bytes) -> None:
        self.absolved.append(relay)

    def learn(self, c: Circuit) -> None:
        pass

    def suspect(self, relay: bytes) -> None:
        pass

    def hurry(self) -> None:
        pass


@pytest.fixture(scope="module")
def scene():
    with Scene(count=6) as s:
        yield s


class Rig:
    def __init__(self, scene: Scene, inner: int = 9):
        self.scene = scene
        self.tunnel = Tunnel(Source())
        self.said: list[str] = []
        self.book = Book(scene, 1, inner)
        self.renewals = 0
        self.steering = Steering(
            self.tunnel, self.book, lambda state, why: self.said.append(f"{state} {why}"), self._renewed
        )
        self.steering.begin()
        self.pipe = Pipe(self.tunnel)
        self.number = 0
        self.answered: set[int] = set()
        self.worst_gap = 0.0

    def _renewed(self) -> None:
        self.renewals += 1

    def move(self, seconds: float, every: float = 0.02) -> int:
        """Echoes for so long; how many came back. Notes the longest time between two answers."""
        answers, end, at, last = 0, time.monotonic() + seconds, 0.0, time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= at:
                at = now + every
                self.number += 1
                self.pipe.near.send(echo_request(self.tunnel.inner_v4, "198.18.9.7", self.number & 0xFFFF))
            self.tunnel.step(5)
            self.steering.turn()
            got = self.pipe.take()
            if got:
                answers += len(got)
                self.answered |= {int.from_bytes(packet[26:28], "big") for packet in got}
                self.worst_gap = max(self.worst_gap, time.monotonic() - last)
                last = time.monotonic()
        self.worst_gap = max(self.worst_gap, time.monotonic() - last)
        return answers

    def until_spare(self) -> None:
        end = time.monotonic() + 5
        while self.steering.spare is None:
            assert time.monotonic() < end, self.said
            self.move(0.05)

    def process(self, place: int):
        wanted = self.tunnel.circuit.hops[place].descriptor.relay
        return next(r for r in self.scene.relays if r.id == wanted)


@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)], ids=["entry", "middle", "both"])
def test_session_goes_on_when_inner_hops_stop(scene, places):
    rig = Rig(scene)
    rig.until_spare()
    assert not {h.descriptor.relay for h in rig.steering.spare.hops[:-1]} & {
        h.descriptor.relay for h in rig.tunnel.circuit.hops[:-1]
    }
    inner = rig.tunnel.inner_v4
    assert rig.move(0.5) > 10
    stopped = [rig.process(p).process for p in places]
    rig.worst_gap = 0.0
    try:
        for p in stopped:
            os.kill(p.pid, signal.SIGSTOP)
        assert rig.move(1.5) > 20, rig.said
        assert rig.tunnel.inner_v4 == inner and rig.renewals == 0
        assert rig.tunnel.reroutes == 1 and rig.worst_gap < 1.0, (rig.worst_gap, rig.said)
    finally:
        for p in stopped:
            os.kill(p.pid, signal.SIGCONT)
        rig.tunnel.close(patience=0.3)


def test_an_exit_that_forgot_the_session_is_noticed_over_the_spare_path_too(scene):
    """The exit gives other inner addresses then; a TUN that kept the old ones would carry nothing any more."""
    rig = Rig(scene)
    rig.until_spare()
    inner, exit = rig.tunnel.inner_v4, rig.tunnel.circuit.hops[-1].descriptor.relay
    rig.tunnel._sessions[exit] = os.urandom(16)  # what the exit does not know, as after its restart
    stopped = rig.process(0).process
    try:
        os.kill(stopped.pid, signal.SIGSTOP)
        rig.move(1.5)
        assert rig.tunnel.reroutes == 1, rig.said
        assert rig.tunnel.inner_v4 != inner and rig.renewals == 1, rig.said
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
        rig.tunnel.close(patience=0.3)


def test_what_was_lost_with_a_path_is_sent_again(scene):
    """A TCP that finds out for itself waits 0.2 s, then 0.4, then 0.8."""
    rig = Rig(scene)
    rig.until_spare()
    rig.move(0.5)
    first = rig.number + 1
    stopped = rig.process(1).process
    try:
        os.kill(stopped.pid, signal.SIGSTOP)
        rig.move(1.0)
        last = rig.number
        rig.move(0.5)
        assert rig.tunnel.reroutes == 1, rig.said
        assert set(range(first, last + 1)) <= rig.answered
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
        rig.tunnel.close(patience=0.3)


def test_a_spare_that_shares_the_dead_hop_is_not_waited_for(scene):
    """Three inner relays: the spare must share one with the path, and is of no use when that one dies."""
    rig = Rig(scene, inner=3)
    rig.until_spare()
    active, spare = ([h.descriptor.relay for h in c.hops[:-1]] for c in (rig.tunnel.circuit, rig.steering.spare))
    shared = next(i for i, relay in enumerate(active) if relay in spare)
    assert rig.move(0.5) > 10
    stopped = rig.process(shared).process
    inner, rig.worst_gap = rig.tunnel.inner_v4, 0.0
    try:
        os.kill(stopped.pid, signal.SIGSTOP)
        assert rig.move(1.5) > 20, rig.said
        assert rig.tunnel.inner_v4 == inner and rig.renewals == 0
        assert rig.worst_gap < 0.6, (rig.worst_gap, rig.said)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
        rig.tunnel.close(patience=0.3)


def test_nothing_moves_while_all_is_well(scene):
    rig = Rig(scene)
    rig.until_spare()
    rig.move(3.0)
    assert rig.tunnel.reroutes == 0 and rig.steering.moves == 0, rig.said
    loss = rig.tunnel.circuit.health.loss
    assert loss == 0.0 and rig.tunnel.circuit.health.whole.smooth > 0
    rig.tunnel.close(patience=0.3)


def test_a_line_that_stutters_is_waited_for(scene):
    """Hops that are silent for 0.2 s again and again are slow, not dead: few paths are given up before that is learnt."""
    rig = Rig(scene)
    rig.until_spare()
    rig.move(0.5)
    stutters = 12
    for _ in range(stutters):
        rig.until_spare()
        stopped = rig.process(1).process
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            rig.move(0.2)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        rig.move(0.4)
    assert 1 <= rig.tunnel.reroutes <= 5, rig.said
    status = rig.steering.status()
    assert 1 <= status["mistakes"] <= 4 and status["slack"] > 1 and rig.book.absolved
    assert set(rig.book.absolved) <= set(rig.book.blamed)
    rig.until_spare()
    rig.tunnel.close(patience=0.3)


def test_patience_that_was_learnt_is_forgotten_again(scene, monkeypatch):
    monkeypatch.setattr("bwclient.steer.SLACK_SECONDS", 0.5)
    rig = Rig(scene)
    rig.steering.slack = 8.0
    rig.until_spare()
    rig.move(2.5)
    assert rig.steering.slack == 1.0
    rig.tunnel.close(patience=0.3)


def test_spare_is_paid_only_what_keeps_it_open(scene):
    rig = Rig(scene)
    rig.until_spare()
    rig.move(1.0)
    assert max(h.meter.paid_units for h in rig.steering.spare.hops) <= 4
    rig.tunnel.close(patience=0.3)


def test_paths_of_the_scene_need_relaxed_networks(scene):
    assert len(choose(scene.path(), 1, wish=Wish(hops=1, diversity=RELAXED))) == 1
