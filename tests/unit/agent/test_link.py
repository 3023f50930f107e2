"""The agent's own circuit of one hop, against the relay's side of the handshake and of cells."""

import os
import struct

from bwrouter.agent.link import Link
from bwrouter.platform import clock, net, sodium
from bwrouter.wire import cell, handshake, noise
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S

SECRET, OBF = bytes(range(32)), bytes(range(32, 64))


class Relay:
    """Answers as a relay does."""

    def __init__(self, workers=1):
        self.d = D.Descriptor(
            b"r" * 32, sodium.x25519_public(SECRET), OBF, b"\xc6\x12\x01\x02", 4000, flags=D.flags(False, workers)
        )
        self.cid = b"relays\0\0"

    def created(self, packet, take=True):
        head = sodium.stream_xor(OBF, packet[-12:], packet[:24])
        assert head[:8] == bytes(8) and sodium.shorthash(handshake.create_mac_key(OBF), head[:16]) == head[16:]
        self.theirs = head[8:16]
        self.cookie, noise1 = handshake.parse_create(handshake.unmask_body(head + packet[24:], OBF))
        self.worker = D.worker(noise1, self.d.workers)
        responder = noise.Responder(SECRET, self.d.static)
        self.origin, _, when, self.link_key, self.obf = handshake.parse_payload1(responder.read(noise1))
        assert abs(when - clock.unix()) < 5
        noise2 = responder.write(handshake.payload2(clock.unix()))
        if take:
            self.keys = responder.keys
        return handshake.created(self.obf, self.theirs, self.cid, self.link_key, noise2, len(packet))

    def open(self, packet):
        """(counter, command, payload) of a forward cell."""
        head = sodium.stream_xor(OBF, packet[-12:], packet[:24])
        assert head[:8] == self.cid and head[16:] == bytes(8)
        text = sodium.aead_open(self.keys[0], bytes(4) + head[8:16], head[8:16] + bytes([cell.FORWARD]), packet[24:])
        return struct.unpack("<II", head[8:16])[0], text[-1], text[:-1]

    def cell(self, number, command, payload, origin=None, key=None):
        counter = struct.pack("<II", number, (self.origin if origin is None else origin) << 29)
        body = sodium.aead_seal(key or self.keys[1], bytes(4) + counter, counter + bytes([cell.BACKWARD]),
                                payload + bytes([command]))  # fmt: skip
        head = self.theirs + counter
        head += sodium.shorthash(handshake.backward_mac_key(self.link_key), head)
        return sodium.stream_xor(self.obf, body[-12:], head) + body


def stand():
    relay = Relay()
    link = Link(relay.d)
    assert link.take(relay.created(link.create())) == (S.CREATED, b"")
    return relay, link


def test_cells_go_both_ways():
    relay, link = stand()
    for number in range(3):
        assert relay.open(link.seal(S.PING, b"12345678")) == (number, S.PING, b"12345678")
        assert link.take(relay.cell(number, S.PONG, b"12345678")) == (S.PONG, b"12345678")
    assert relay.open(link.seal(S.DESTROY)) == (3, S.DESTROY, b"")


def test_what_is_not_the_relays_says_nothing():
    relay, link = stand()
    good = relay.cell(5, S.PONG, b"x")
    for i in (0, 9, 20, 25, len(good) - 1):
        assert link.take(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :]) is None, i
    assert link.take(relay.cell(5, S.PONG, b"x", origin=relay.origin ^ 1)) is None
    assert link.take(relay.cell(5, S.PONG, b"x", key=bytes(32))) is None
    assert link.take(relay.cell(S.COUNTER_LIMIT, S.PONG, b"x")) is None
    assert link.take(good) == (S.PONG, b"x")
    assert link.take(good) is None, "a copy"
    assert link.take(relay.cell(4, S.PONG, b"x")) is None, "and what is older"
    for size in (0, 1, 40, 41, 200):
        assert link.take(os.urandom(size)) is None


def test_a_create_is_repeated_with_the_cookie_of_a_busy_relay():
    relay = Relay()
    link = Link(relay.d)
    first = link.create()
    relay.created(first, take=False)
    assert relay.cookie == bytes(16)
    assert link.take(handshake.cookie(b"z" * 32, link.cid, b"c" * 16, 300)) is None
    assert link.take(handshake.cookie(OBF, link.cid, b"c" * 16, 300)) == (S.COOKIE, b"")
    again = link.create()
    assert again != first
    answer = relay.created(again)
    assert relay.cookie == b"c" * 16 and link.take(answer) == (S.CREATED, b"")
    assert link.take(answer) is None


def test_a_full_relay_says_so():
    relay = Relay()
    link = Link(relay.d)
    relay.created(link.create(), take=False)
    reply = handshake.refused(relay.obf, link.cid, relay.link_key, S.E_TABLE_FULL, 300)
    assert link.take(reply) == (S.REFUSED, bytes([S.E_TABLE_FULL]))


def test_it_goes_to_the_worker_that_its_key_names():
    for _ in range(4):
        relay = Relay(workers=4)
        link = Link(relay.d)
        relay.created(link.create(), take=False)
        assert link.port == 4000 + relay.worker and net.unpack_addr(link.where) == (relay.d.v4, link.port)
