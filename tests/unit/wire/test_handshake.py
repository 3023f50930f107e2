"""CREATE and CREATED as datagrams."""

import os

from harness import raises

from bwrouter.platform import sodium
from bwrouter.wire import handshake
from bwrouter.wire import sizes as S

OBF = bytes(range(100, 132))


def unmask_header(packet, obf):
    return sodium.stream_xor(obf, packet[-12:], packet[:24]) + packet[24:]


def test_create_round_trip():
    noise1 = os.urandom(S.NOISE1)
    cid = os.urandom(8)
    for _ in range(20):
        packet = handshake.create(OBF, cid, noise1, b"c" * 16)
        assert S.CREATE_MIN <= len(packet) <= S.CREATE_MIN + S.PAD_MAX
        clear = unmask_header(packet, OBF)
        assert clear[:8] == bytes(8) and clear[8:16] == cid
        assert sodium.shorthash(handshake.create_mac_key(OBF), clear[:16]) == clear[16:24]
        assert handshake.parse_create(handshake.unmask_body(clear, OBF)) == (b"c" * 16, noise1)


def test_created_round_trip_and_no_amplification():
    link = os.urandom(16)
    noise2 = os.urandom(S.NOISE2)
    for most in (S.CREATE_MIN, 200, 400):
        packet = handshake.created(OBF, b"initiato", b"relaycid", link, noise2, most)
        assert len(packet) <= most
        clear = unmask_header(packet, OBF)
        assert clear[:16] == b"initiatorelaycid"
        assert sodium.shorthash(handshake.backward_mac_key(link), clear[:16]) == clear[16:24]
        assert handshake.parse_reply(handshake.unmask_body(clear, OBF)) == ("created", noise2)


def test_refused_round_trip_and_no_amplification():
    link = os.urandom(16)
    for most in (S.CREATE_MIN, 200, 400):
        packet = handshake.refused(OBF, b"initiato", link, S.E_TABLE_FULL, most)
        assert len(packet) <= most
        clear = unmask_header(packet, OBF)
        assert clear[:16] == b"initiato" + bytes(8)
        assert sodium.shorthash(handshake.backward_mac_key(link), clear[:16]) == clear[16:24]
        assert handshake.parse_reply(handshake.unmask_body(clear, OBF)) == ("refused", 5)


def test_cookie_round_trip():
    clear = unmask_header(handshake.cookie(OBF, b"initiato", b"k" * 16, 167), OBF)
    assert handshake.parse_reply(handshake.unmask_body(clear, OBF)) == ("cookie", b"k" * 16)
    assert handshake.open_cookie(clear, OBF) == b"k" * 16
    assert handshake.open_cookie(clear, bytes(32)) is None
    assert handshake.open_cookie(clear[:-1] + b"x", OBF) is None or clear[-1:] == b"x"


def test_lengths_vary():
    seen = {}
    for _ in range(200):
        seen[len(handshake.create(OBF, bytes(8), bytes(S.NOISE1)))] = 1
    assert len(seen) > 60


def test_malformed():
    raises(handshake.Malformed, handshake.parse_create, b"")
    raises(handshake.Malformed, handshake.parse_create, bytes(300))
    raises(handshake.Malformed, handshake.parse_create, b"\x01" + bytes(16) + b"\xff\xff" + bytes(300))
    raises(handshake.Malformed, handshake.parse_reply, b"\x02")
    raises(handshake.Malformed, handshake.unmask_body, bytes(39), OBF)
    raises(handshake.Malformed, handshake.parse_payload1, bytes(60))
    raises(handshake.Malformed, handshake.parse_payload1, bytes(59))
    good = handshake.payload1(7, b"l" * 16, b"o" * 32, 12345, 3)
    assert handshake.parse_payload1(good) == (7, 3, 12345, b"l" * 16, b"o" * 32)
    raises(handshake.Malformed, handshake.parse_payload1, b"\x02" + good[1:])
    raises(handshake.Malformed, handshake.parse_payload1, b"\x01\x08" + good[2:])
