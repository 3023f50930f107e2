"""Every size that docs/protocol.md states, held against the code."""

from bwrouter.platform import sodium
from bwrouter.wire import anchor, descriptor, handshake, ticket
from bwrouter.wire import sizes as S


def text():
    path = __file__.rpartition("tests/")[0] + "docs/protocol.md"
    with open(path) as f:
        return f.read()


def test_sizes_of_the_document():
    t = text()
    assert S.HEADER == 24 and "The first 24 bytes are XORed" in t
    assert S.LAYER == 17 and "A layer costs 17 bytes, the header 24: 3 hops cost 75 bytes" in t
    assert S.overhead(3) == 75
    assert S.PACKET_MIN == 41 and S.PACKET_MAX == 1472 and "Minimum 41" in t and "maximum 1472" in t
    assert S.NOISE1 == 108 and "32 + 60 + 16 = 108" in t
    assert S.NOISE2 == 72 and "32 + 24 + 16 = 72" in t
    assert S.DESCRIPTOR == 286 and "## 5. Descriptor (286 bytes)" in t
    assert S.EXTEND_SIZE == 286 + 16 + 108
    assert S.UNIT == 65536 and "65,536 charged bytes" in t
    assert S.INNER_MTU == 1368 and S.INNER_MTU >= 1280
    assert S.INNER_MTU + S.overhead(3) + 48 <= 1492
    assert 100 * (S.overhead(3) + 28) / (S.INNER_MTU + S.overhead(3) + 28) <= 8


def test_codes_of_the_document():
    t = text()
    names = ("RELAY", "DATA", "EXTEND", "EXTENDED", "PAY", "CREDIT", "PROVE", "RESUME", "DESTROY", "PAD", "ERROR")
    names += ("ANCHOR", "INTRODUCE")
    for name in names:
        assert "| %s | 0x%02x |" % (name, getattr(S, name)) in t, name
    for code in S.ERRORS:
        assert "%d %s" % (code, S.ERRORS[code]) in t, code


def test_packed_sizes():
    assert len(handshake.payload1(1, bytes(16), bytes(32), 0)) == S.PAYLOAD1
    assert len(handshake.payload2(0)) == S.PAYLOAD2
    assert len(ticket.pack_pay(0, 0, bytes(32))) == S.PAY_SHORT
    assert len(ticket.pack_pay(0, 0, bytes(32), (bytes(8), bytes(32), bytes(64), 64))) == S.PAY_FULL
    secret = sodium.ed25519_keypair(bytes(32))[1]
    assert len(anchor.pack(bytes(32), secret, bytes(32), bytes(32), bytes(16), 0)) == S.ANCHOR_SIZE == 132
    assert len(anchor.introduction(bytes(28), bytes(S.CREATE_MAX))) == S.INTRODUCE_MAX
    assert S.INTRODUCE_MAX + S.overhead(1) <= S.INNER_MTU, "an introduction fits into any line's packets"
    assert len(ticket.pack_credit(1, 2, 3, 4)) == S.CREDIT_SIZE
    d = descriptor.Descriptor(bytes(32), bytes(32), bytes(32))
    assert len(d.pack()) + 64 == S.DESCRIPTOR_RELAY_PART
    assert len(handshake.create(bytes(32), bytes(8), bytes(S.NOISE1), pad=b"")) == S.CREATE_MIN
    assert len(handshake.created(bytes(32), bytes(8), bytes(8), bytes(16), bytes(S.NOISE2), 0)) == S.CREATED_MIN
    assert S.CREATED_MIN <= S.CREATE_MIN


def test_inner_addresses_of_workers_do_not_meet():
    seen = set()
    for worker in range(S.WORKERS_MAX):
        first, last = S.inner_range(worker, S.WORKERS_MAX)
        numbers = set(range(first, last + 1))
        assert not numbers & seen and first >> 12 == last >> 12 == worker and last < 65536
        seen |= numbers
    assert S.inner_range(0, 1) == (2, 65533)
