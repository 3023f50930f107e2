"""Noise NK between our two sides; the oracle is in tests/interop."""

from harness import raises

from bwrouter.platform import sodium
from bwrouter.platform.sodium import CryptoError
from bwrouter.wire import noise

SECRET = bytes(range(32))
PUBLIC = sodium.x25519_public(SECRET)


def test_both_sides_agree():
    a = noise.Initiator(PUBLIC)
    b = noise.Responder(SECRET, PUBLIC)
    one = a.write(b"hello relay")
    assert len(one) == 32 + 11 + 16
    assert b.read(one) == b"hello relay"
    two = b.write(b"hello client")
    assert a.read(two) == b"hello client"
    assert a.keys == b.keys
    assert len(a.keys[0]) == 32 and a.keys[0] != a.keys[1]


def test_every_flipped_byte_is_found():
    one = bytearray(noise.Initiator(PUBLIC).write(b"x" * 8))
    for at in range(len(one)):
        if at == 31:  # X25519 ignores the top bit of a public key, the transcript hash does not
            continue
        bad = bytearray(one)
        bad[at] ^= 1
        raises(CryptoError, noise.Responder(SECRET, PUBLIC).read, bytes(bad))
    one[31] ^= 0x80
    raises(CryptoError, noise.Responder(SECRET, PUBLIC).read, bytes(one))


def test_wrong_static_key_and_short_messages():
    a = noise.Initiator(sodium.x25519_public(bytes(range(1, 33))))
    raises(CryptoError, noise.Responder(SECRET, PUBLIC).read, a.write(b""))
    for n in (0, 1, 31, 47):
        raises(CryptoError, noise.Responder(SECRET, PUBLIC).read, bytes(n))
        raises(CryptoError, noise.Initiator(PUBLIC).read, bytes(n))


def test_small_order_points_are_refused():
    raises(CryptoError, noise.Responder(SECRET, PUBLIC).read, bytes(80))
    raises(CryptoError, noise.Initiator(bytes(32)).write, b"")
