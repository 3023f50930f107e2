"""ECDSA against libsecp256k1's signatures, and that blinding changes nothing but the way there."""

import json

from harness import raises

from bwrouter.ledger import secp256k1
from bwrouter.ledger.hmac256 import hmac_sha256

VECTORS = __file__[: __file__.rfind("test_")] + "vectors.json"
BLINDS = (b"", bytes(40), b"\xff" * 40, bytes(range(40)))


def load():
    with open(VECTORS) as file:
        return [[bytes.fromhex(part) for part in row] for row in json.load(file)["sign"]]


def test_hmac_rfc_4231():
    assert hmac_sha256(b"Jefe", b"what do ya want ", b"for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    assert hmac_sha256(b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First").hex() == (
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    )


def test_keys_addresses_and_signatures():
    rows = load()
    assert len(rows) == 10
    for i in range(len(rows)):
        secret, digest, public, signed, address = rows[i]
        blind = BLINDS[i % len(BLINDS)]
        assert secp256k1.public_key(secret, blind) == public
        assert secp256k1.address(public) == address
        r, s, v = secp256k1.sign(digest, secret, blind)
        assert r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v]) == signed
        assert s <= secp256k1.N // 2
        assert secp256k1.signature(digest, secret, blind) == signed[:64] + bytes([27 + signed[64]])


def test_blinding_does_not_change_the_signature():
    secret, digest, _, _, _ = load()[-1]
    assert len({secp256k1.sign(digest, secret, blind) for blind in BLINDS}) == 1


def test_the_digest_is_reduced():
    secret = load()[-1][0]
    high = b"\xff" * 32
    low = (int.from_bytes(high, "big") - secp256k1.N).to_bytes(32, "big")
    assert secp256k1.sign(high, secret) == secp256k1.sign(low, secret)


def test_inverse():
    for value in (1, 2, 3, secp256k1.N - 1, secp256k1.N + 5, 1 << 200):
        assert secp256k1.inverse(value, secp256k1.N) * value % secp256k1.N == 1
    raises(ValueError, secp256k1.inverse, 0, secp256k1.P)
    raises(ValueError, secp256k1.inverse, secp256k1.P, secp256k1.P)


def test_bad_keys_are_refused():
    order = secp256k1.N.to_bytes(32, "big")
    for secret in (b"", bytes(31), bytes(32), bytes(33), order, b"\xff" * 32):
        raises(ValueError, secp256k1.sign, bytes(32), secret)
        raises(ValueError, secp256k1.public_key, secret)
    raises(ValueError, secp256k1.sign, bytes(31), b"\x01" * 32)
    raises(ValueError, secp256k1.address, bytes(65))


def test_who_signed():
    for secret, digest, public, signed, _ in load():
        signature = signed[:64] + bytes([27 + signed[64]])
        assert secp256k1.recover(digest, signature) == public
        assert secp256k1.recover(bytes(31) + b"\1", signature) != public


def test_no_signature_that_the_chain_would_refuse():
    _, digest, _, signed, _ = load()[0]
    right = signed[:64] + bytes([27 + signed[64]])
    high = (secp256k1.N - int.from_bytes(right[32:64], "big")).to_bytes(32, "big")
    mirrored = right[:32] + high + bytes([27 + 28 - right[64]])
    no_point = (5).to_bytes(32, "big") + right[32:]  # 5^3 + 7 is no square
    for wrong in (signed, right[:64], mirrored, bytes(32) + right[32:], right[:32] + bytes(32) + right[64:], no_point):
        raises(ValueError, secp256k1.recover, digest, wrong)
    raises(ValueError, secp256k1.recover, digest[:31], right)
