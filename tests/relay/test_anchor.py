"""A router behind a provider's NAT and its anchor: real relay processes, and the agent's own code for the circuit
between them, on both runtimes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bwclient.circuit import CircuitError
from bwclient.tunnel import Tunnel
from bwrouter.agent import anchor as agent_anchor
from bwrouter.agent.anchor import Anchor
from bwrouter.agent.log import Log
from bwrouter.platform import net
from bwrouter.relay import anchors
from bwrouter.wire import descriptor as D
from bwrouter.wire import handshake
from bwrouter.wire import sizes as S

from .scene import RelayProcess, Scene, Source
from .test_relay import Pipe, echo_request

pytestmark = [pytest.mark.slow, pytest.mark.root]


@dataclass
class Keys:
    """What an agent signs by."""

    relay: bytes
    identity: bytes
    obf: bytes


class Home:
    """The agent's side of a router that nobody reaches: its circuit to an anchor, and its word to its own relay."""

    def __init__(self, relay: RelayProcess, deaf: bool = False) -> None:
        self.relay, self.deaf, self.introductions = relay, deaf, 0
        self.anchor = Anchor(Keys(relay.id, relay.secret, relay.obf), self.introduce, lambda: None, Log("test", "error"))

    def introduce(self, payload: bytes) -> None:
        self.introductions += 1
        if not self.deaf:
            self.relay._send({"t": "introduce", "introduction": payload.hex()})

    def turn(self) -> None:
        self.anchor.read()
        self.anchor.tick()

    def until(self, what: str, ready: Callable[[], object], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, f"{what}: {self.anchor.error}"
            self.turn()
            time.sleep(0.01)

    def descriptor(self, **fields: Any) -> D.Descriptor:
        """As it is published."""
        assert self.anchor.place is not None
        v4, port = self.anchor.place
        flags = D.flags(self.relay.exit, 1) | D.ANCHORED
        return self.relay.descriptor(v4=v4, port4=port, flags=flags, **fields)


def serve(relay: RelayProcess, **rules: Any) -> None:
    relay.rules = rules
    relay.hello()
    relay.fresh_stats()


@pytest.fixture(scope="module", params=["micropython", "cpython"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(4, runtime=request.param) as s:
        yield s


@contextlib.contextmanager
def at_home(scene: Scene, number: int) -> Iterator[Home]:
    """Relay `number` from 0, whose anchor is the first."""
    relay = scene.relays[number]
    serve(scene.relays[0], anchors=4)
    serve(relay, anchored=True)
    made = Home(relay)
    try:
        made.anchor.offer([scene.relays[0].descriptor().raw])
        made.until("anchor", lambda: made.anchor.place)
        yield made
    finally:
        made.anchor.close()
        until = time.monotonic() + 5
        while scene.relays[0].fresh_stats()["circuits"] and time.monotonic() < until:
            pass
        serve(relay)


@pytest.fixture
def home(scene: Scene) -> Iterator[Home]:
    """The last relay, an exit."""
    with at_home(scene, 3) as made:
        yield made


def build(home: Home, path: list[D.Descriptor]) -> Tunnel:
    """A circuit while the home's agent does its turns."""
    tunnel = Tunnel(Source())
    step = tunnel.step

    def both(*args: Any, **more: Any) -> Any:
        home.turn()
        return step(*args, **more)

    tunnel.step = both  # type: ignore[method-assign]
    tunnel.build(path)
    return tunnel


def test_who_extends_is_introduced_and_speaks_to_the_router_itself(scene: Scene, home: Home) -> None:
    anchor, before, middle, _ = scene.relays
    tunnel = build(home, [before.descriptor(), middle.descriptor(), home.descriptor()])
    pipe = Pipe(tunnel)
    passed = anchor.fresh_stats()["cells_in"]
    for number in range(40):
        pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", number, 1000))
        (answer,) = pipe.read(tunnel)
        assert answer[12:16] == net.ip_bytes("198.18.9.7")
    assert home.introductions == 1
    assert anchor.fresh_stats()["cells_in"] - passed < 10, "the anchor carries none of it"
    assert anchor.stats["introduced"] >= 1 and anchor.stats["anchored"] == 1
    tunnel.close()


def test_a_middle_hop_is_reached_too(scene: Scene) -> None:
    with at_home(scene, 2) as home:
        tunnel = build(home, [scene.relays[1].descriptor(), home.descriptor(), scene.relays[3].descriptor()])
        pipe = Pipe(tunnel)
        pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", 1))
        assert len(pipe.read(tunnel)) == 1 and home.introductions == 1
        tunnel.close()


def test_without_the_flag_the_answer_from_elsewhere_leads_nowhere(scene: Scene, home: Home) -> None:
    """The hop before goes on speaking to the anchor, for whom such cells are nothing."""
    d = home.descriptor()
    with pytest.raises(CircuitError):
        build(home, [scene.relays[1].descriptor(), home.relay.descriptor(v4=d.v4, port4=d.port4)])


def test_an_anchor_that_dies_is_replaced_and_one_that_refuses_passed_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_anchor, "PING_MS", 300)
    monkeypatch.setattr(agent_anchor, "AGAIN_MS", 200)
    monkeypatch.setattr(agent_anchor, "WAIT_MS", (300, 1000))
    one, two, no, relay = scene.relays
    serve(one, anchors=4)
    serve(two, anchors=4)
    serve(no)
    places: list[Any] = []
    home = Home(relay)
    home.anchor.changed = lambda: places.append(home.anchor.place)
    try:
        home.anchor.offer([no.descriptor().raw])
        home.until("refusal", lambda: "no anchor" in home.anchor.error)
        assert not places and no.fresh_stats()["drops"]["anchor-12"] >= 1
        home.anchor.offer([r.descriptor().raw for r in (one, two, no)])
        home.until("anchor", lambda: home.anchor.place)
        first = next(r for r in (one, two) if r.id.hex() == home.anchor.name)
        os.kill(first.process.pid, signal.SIGSTOP)
        try:
            other = two if first is one else one
            home.until("another", lambda: home.anchor.name == other.id.hex(), 15)
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        assert [p and p[1] for p in places] == [first.port, None, other.port]
        serve(other)  # its owner switches it off: the circuit ends
        home.until("and back", lambda: home.anchor.name == first.id.hex(), 15)
    finally:
        home.anchor.close()


def test_a_renewed_circuit_takes_the_place_of_the_old_one(
    scene: Scene, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_anchor, "RENEW_MS", 500)
    monkeypatch.setattr(agent_anchor, "OVERLAP_MS", 300)
    old = home.anchor._links[0]
    home.until("renewal", lambda: home.anchor._links[0] is not old and len(home.anchor._links) > 1)
    monkeypatch.setattr(agent_anchor, "RENEW_MS", 60_000)
    home.until("leave", lambda: len(home.anchor._links) == 1)
    assert home.anchor.place == (net.ip_bytes(scene.relays[0].ip), scene.relays[0].port)
    end = time.monotonic() + 5
    while scene.relays[0].fresh_stats()["circuits"] != 1 and time.monotonic() < end:
        home.turn()
    assert (scene.relays[0].stats["circuits"], scene.relays[0].stats["anchored"]) == (1, 1)
    tunnel = build(home, [scene.relays[1].descriptor(), home.descriptor()])
    tunnel.close()


def test_a_renewal_that_is_refused_is_not_tried_again_at_once(
    scene: Scene, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_anchor, "RENEW_MS", 200)
    monkeypatch.setattr(agent_anchor, "OVERLAP_MS", 100)
    begun: list[Any] = []
    begin = home.anchor._begin
    monkeypatch.setattr(home.anchor, "_begin", lambda up, now: (begun.append(up), begin(up, now)))
    relay = scene.relays[0]
    with monkeypatch.context() as m:
        m.setattr(agent_anchor.anchor, "pack", lambda *args: bytes(S.ANCHOR_SIZE))  # whose signature does not hold
        end = time.monotonic() + 3
        while time.monotonic() < end:
            home.turn()
            time.sleep(0.01)
    assert begun == [home.anchor._links[0]] and home.anchor.name == relay.id.hex(), "the old circuit stands"
    assert "descriptor signature" in home.anchor.error


def test_introductions_flooded_are_limited(scene: Scene) -> None:
    with at_home(scene, 3) as home:
        home.deaf = True
        assert home.anchor.place is not None
        where = (net.ip_text(home.anchor.place[0]), home.anchor.place[1])
        before = scene.relays[0].fresh_stats()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            end = time.monotonic() + 3
            sent = 0
            while time.monotonic() < end:
                s.sendto(handshake.create(home.relay.obf, os.urandom(8), os.urandom(S.NOISE1)), where)
                sent += 1
                home.turn()
                time.sleep(0.005)
        after = scene.relays[0].fresh_stats()
        assert sent > 200 and 0 < home.introductions <= anchors.EACH_MOST * 6
        assert after["drops"]["introduce-limit"] - before["drops"].get("introduce-limit", 0) > sent // 2
        assert home.anchor.place is not None, "the router stays"


def test_an_anchored_routers_idle_circuits_keep_its_nat_open(scene: Scene, home: Home) -> None:
    """A PAD after 20 s, which is the client's to ignore."""
    tunnel = build(home, [scene.relays[1].descriptor(), home.descriptor()])
    assert tunnel.circuit is not None
    end = time.monotonic() + 3
    while time.monotonic() < end:  # until all is answered that was asked at the beginning
        tunnel.step(50)
    before, end = tunnel.circuit.hops[-1].got, time.monotonic() + 26
    while time.monotonic() < end:  # nobody says anything: neither the client nor a ping of its own
        home.turn()
        time.sleep(0.05)
    for _ in range(3):
        tunnel.step(50)
    assert tunnel.circuit.hops[-1].got - before == 1
    tunnel.close()
