"""Keccak-256 against published digests and safe-pysha3's."""

import json

from bwrouter.ledger.keccak import RATE, keccak256

VECTORS = __file__[: __file__.rfind("test_")] + "vectors.json"


def load(name):
    with open(VECTORS) as file:
        return json.load(file)[name]


def test_published():
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


def test_oracle_at_the_edges_of_the_rate():
    vectors = load("keccak")
    assert {len(message) // 2 for message, _ in vectors} >= {0, RATE - 1, RATE, RATE + 1}
    for message, digest in vectors:
        assert keccak256(bytes.fromhex(message)).hex() == digest


def test_any_bytes_like():
    message = bytes(range(200))
    assert keccak256(bytearray(message)) == keccak256(memoryview(message)) == keccak256(message)
