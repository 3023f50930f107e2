"""Every attack of the fuzzer on live relays, a few times; and what it has found, one test each."""

from __future__ import annotations

import os
import time

import pytest

from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T
from tests.relay.scene import Scene

from .attacker import Attacked, Foothold, Peer, Sink, create, enter, pay_for, unmask
from .attacks import WEIGHTS
from .world import World

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_every_attack(runtime):
    with Scene(count=3, runtime=runtime) as scene:
        world = World(scene, seed=7)
        for attack in list(WEIGHTS) * 3:
            world.one(attack)
        result = world.report()
        world.close()
    # its memory is judged in a longer run: the heap has not been touched everywhere yet
    good = not result["crashes"] and not result["forwarded"] and result["answered_bytes_per_received_byte"] <= 1
    assert good and world.delivered >= world.expected, (result, world.details)
    # the attacks have met what they are for
    met = {"tag", "replay", "counter", "unknown-circuit", "link-mac", "size", "policy", "inner-source", "inner-length"}
    met |= {"create-replayed", "create-noise", "create-version", "create-time", "extend-1", "extend-2", "extend-3"}
    assert met <= set(world.details["drops"]), world.details["drops"]


@pytest.fixture(scope="module")
def scene():
    with Scene(count=1) as s:
        yield s


@pytest.fixture
def foothold(scene):
    sink, client = Sink(scene), Peer()
    f = enter(scene.relays[0], client, sink)
    f.sink = sink
    yield f
    client.send(f.seal(S.DESTROY, b"\0"), f.where)
    f.close()
    client.close()
    sink.peer.close()


def at_sink(f: Foothold, cell: bytes, seconds: float = 0.2) -> int:
    """How many datagrams reach the next hop when the client sends `cell`."""
    f.client.send(cell, f.where)
    return len(f.sink.peer.wait(seconds))


def test_no_bit_of_a_header_may_be_changed(foothold):
    """Circuit id and the empty MAC field of a forward cell are not under its tag; changed, it passed."""
    good = foothold.seal(S.DATA, b"x" * 50, 1)
    for at in range(24):
        for bit in (0, 5):
            spoiled = bytearray(good)
            spoiled[at] ^= 1 << bit
            foothold.client.send(bytes(spoiled), foothold.where)
    assert not foothold.sink.peer.wait(0.3)
    assert at_sink(foothold, good, 1.0) == 1


def test_no_packet_leaves_that_is_too_short_for_a_cell(foothold):
    """RELAY around less than a layer was sent on, shorter than any cell, its mask nonce inside its own header."""
    for size in range(17):
        foothold.client.send(foothold.seal(S.RELAY, os.urandom(size)), foothold.where)
    assert not foothold.sink.peer.wait(0.3)
    assert at_sink(foothold, foothold.legitimate(), 1.0) == 1


def test_an_address_must_answer_before_it_is_followed(scene, foothold):
    """Who could send from a victim's address could have a circuit's traffic sent there."""
    f, victim = foothold, Peer()
    victim.send(f.seal(S.PING, b"12345678"), f.where)
    asked = victim.wait(1.0)
    assert len(asked) == 1 and victim.got <= victim.sent
    assert [f.open(raw)[1] for raw, _ in f.client.wait(1.0)].count(S.PONG) == 1  # the answer goes where it went before
    _, command, value = f.open(asked[0][0])
    assert command == S.PING and len(value) == 8
    victim.send(f.seal(S.PONG, b"guessed!"), f.where)
    f.client.send(f.seal(S.PONG, value), f.where)  # the right answer from the wrong place
    f.client.send(f.seal(S.PING, b"abcdefgh"), f.where)
    assert f.client.wait(1.0)
    victim.take()
    victim.send(f.seal(S.PONG, value), f.where)
    victim.send(f.seal(S.PING, b"abcdefgh"), f.where)
    got = [f.open(raw) for raw, _ in victim.wait(1.0)]
    # A relay says once a second what is paid, unasked, while little is left.
    assert [c for _, c, _ in got if c != S.CREDIT] == [S.PONG]
    victim.close()


@pytest.mark.parametrize("index", [5, 65])
def test_a_false_preimage_ends_the_circuit(scene, index):
    """Each try costs the relay up to 1024 hashes, and the buyer nothing."""
    client = Peer()
    f = enter(scene.relays[0], client, None, pay=0)
    chain = T.Chain(os.urandom(32), 64)
    client.send(f.seal(S.PAY, T.pack_pay(0, index, bytes(32), (b"k" * 8, chain.anchor, bytes(64), 64))), f.where)
    got = [f.open(raw)[1:] for raw, _ in client.wait(1.0)]
    assert (S.DESTROY, bytes([S.E_TICKET])) in got
    client.send(f.seal(S.PING, b"12345678"), f.where)
    assert not client.wait(0.3)
    f.close()
    client.close()


def test_a_pay_that_skips_a_serial_harms_nobody(scene):
    """The PAY before it may be lost; it was answered with an ERROR, on which a client gives the circuit up."""
    client = Peer()
    f = enter(scene.relays[0], client, None, pay=0)
    client.send(f.seal(S.PAY, pay_for(0, serial=1)), f.where)
    assert not client.wait(0.3)
    for serial in (0, 1):
        client.send(f.seal(S.PAY, pay_for(1, serial=serial)), f.where)
    time.sleep(0.3)
    credits = [T.parse_credit(p) for _, c, p in (f.open(raw) for raw, _ in client.take()) if c == S.CREDIT]
    assert max(c[1] for c in credits) == 2 and credits[-1][2] == 3
    f.close()
    client.close()


def test_tickets_without_end_do_not_end_the_relay(scene):
    """Tickets that no gateway knows, on many circuits: the relay ran out of memory and died."""
    relay, client = scene.relays[0], Peer()
    relay.verdict = lambda m: False if m["key"] == b"refused!".hex() else None if m["key"] == b"silence!".hex() else True
    for i in range(60):
        try:
            f = enter(relay, client, None, pay=0)
        except Attacked:
            break
        for serial in range(64):
            client.send(f.seal(S.PAY, pay_for(0, (b"silence!", b"refused!")[i % 2], serial)), f.where)
            if serial % 8 == 7:
                time.sleep(0.01)
        client.take()
        f.close()
    assert relay.process.poll() is None
    assert relay.fresh_stats()["drops"]["pay-waiting"] > 0


def test_more_circuits_than_memory_do_not_end_the_relay():
    """The table may be larger than the heap; housekeeping then found no memory for a copy of it."""
    with Scene(count=1, max_circuits=4096) as scene:
        relay, strangers = scene.relays[0], [Peer() for _ in range(4)]
        client = Peer()
        f = enter(relay, client, None)
        until = time.monotonic() + 40
        full = 0
        while time.monotonic() < until and not full:
            for p in strangers:
                for _ in range(25):
                    p.send(create(relay, p.obf), (relay.ip, relay.port))
            time.sleep(0.1)
            full = relay.stats.get("drops", {}).get("memory", 0) or relay.stats["circuits"] >= 4096
        assert full, relay.stats
        time.sleep(2.5)  # two rounds of housekeeping
        assert relay.process.poll() is None
        client.take()
        client.send(f.seal(S.PING, b"12345678"), f.where)
        assert S.PONG in [f.open(raw)[1] for raw, _ in client.wait(1.0)]
        f.close()


def test_answers_are_masked_like_everything(scene):
    """The helper itself: what a stranger gets opens only under a key that he chose."""
    client = Peer()
    f = enter(scene.relays[0], client, None, pay=0)
    client.send(f.seal(S.PING, b"12345678"), f.where)
    (raw, _), *_ = client.wait(1.0)
    assert unmask(raw, client.obf)[:8] == f.circuit.cid != raw[:8]
    f.close()
    client.close()
