"""A router behind a provider's NAT and its anchor: real relay processes, and the agent's own code for the circuit
between them, on both runtimes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bwclient.circuit import CircuitError
from bwclient.tunnel import Tunnel
from bwrouter.agent import anchor as agent_anchor
from bwrouter.agent.anchor import Anchor
from bwrouter.agent.link import Link
from bwrouter.agent.log import Log
from bwrouter.platform import net
from bwrouter.relay import anchors
from bwrouter.wire import anchor as A
from bwrouter.wire import descriptor as D
from bwrouter.wire import handshake, noise
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
