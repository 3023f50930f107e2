"""A client whose hop is hostile: whatever it says, the client gives the circuit up at worst, and names the hop."""

from __future__ import annotations

import os
import random
import struct
import threading
import time

import pytest

from bwclient.circuit import CircuitError
from bwclient.tunnel import Tunnel
from bwrouter.platform import sodium
from bwrouter.wire import handshake, noise
from bwrouter.wire import sizes as S
from tests.relay.scene import Namespace, Source

from .attacker import Sink

pytestmark = [pytest.mark.slow, pytest.mark.root]
SESSION = b"s" * 16 + b"\x0a\xd5\0\x02" + S.INNER_V6 + b"\0\x02" + struct.pack("<HH", S.INNER_MTU, 1)


class Gateway:
    """Who endorses descriptors."""

    gateway_key, gateway_secret = sodium.ed25519_keypair(b"g" * 32)


class Hop(Sink):
    """Does what a good exit does until told otherwise."""

    def __init__(self) -> None:
        super().__init__(Gateway())  # type: ignore[arg-type]
        self.resume = SESSION
        self.done = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @property
    def link(self):
        return list(self.links.values())[-1]

    def run(self) -> None:
        while not self.done:
            for packet in self.serve():
                link = next((x for x in self.links.values() if x.own_cid == packet[:8]), None)
                if link is not None and self.hear(link, packet)[0] == S.RESUME:
                    self.speak(link, S.RESUME, self.resume)
            time.sleep(0.002)

    def stop(self) -> None:
        self.done = True
        self.thread.join()


@pytest.fixture
def hop():
    with Namespace():
        h = Hop()
        yield h
        h.stop()
        h.peer.close()


def test_nothing_a_hop_says_breaks_the_client(hop):
    t = Tunnel(Source())
    t.build([hop.descriptor()])
    hop.stop()
    rng = random.Random(3)
    link, c = hop.link, t.circuit
    errors = set()
    for _ in range(3000):
        command = rng.choice((*range(2, 14), 0, 1, 255))
        size = rng.choice((0, 1, 2, 7, 8, 15, 16, 17, 39, 40, 41, 48, 71, 72, 100, 1400))
        hop.speak(link, command, rng.choice((bytes(size), os.urandom(size), b"\xff" * size)))
        t.step(0)
        if c.error is not None:
            assert isinstance(c.error, CircuitError) and c.error.hop == 0
            errors.add(str(c.error))
            c.error = None
        assert 1280 <= t.mtu <= S.INNER_MTU
    assert len(errors) > 5, errors  # it was heard
    t.close(patience=0)


@pytest.mark.parametrize("size", [0, 1, 23, 25])
def test_a_next_hop_with_a_strange_handshake(hop, size):
    """A Noise message 2 that holds, around a payload of the wrong size."""
    t = Tunnel(Source())
    t.build([hop.descriptor()])
    hop.stop()
    c = t.circuit
    static = os.urandom(32)
    next_hop = hop.descriptor(static=sodium.x25519_public(static))
    c.hops += type(c)([hop.descriptor(), next_hop], Source(), os.urandom(32)).hops[1:]
    message1 = c.extend_payload(1)[-S.NOISE1 :]
    responder = noise.Responder(static, sodium.x25519_public(static))
    handshake.parse_payload1(responder.read(message1))
    hop.speak(hop.link, S.EXTENDED, responder.write(bytes(size)))
    for _ in range(5):
        t.step(5)
    assert not c.hops[1].ready and c.drops.get("extended") == 1 or c.error is not None
    t.close(patience=0)
