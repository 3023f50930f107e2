"""Hashing of a large Merkle tree, in bulk over flat bytes; `python -m bwgateway.keccaks leaves|subtree` is a worker.

Imports nothing but keccak, so that a worker starts at once; `bwgateway.merkle` says what is hashed.
"""

from __future__ import annotations

import sys

from sha3 import keccak_256

_PAD = bytes(12)


def leaves(flat: bytes) -> bytes:
    """Leaf hashes of entries of 52 bytes (account 20, amount 32, big-endian), 32 bytes each, sorted."""
    keccak = keccak_256
    hashes = [keccak(keccak(_PAD + flat[i : i + 52]).digest()).digest() for i in range(0, len(flat), 52)]
    hashes.sort()
    return b"".join(hashes)


def parents(flat: bytes) -> bytes:
    """Hashes of neighbouring pairs of 32-byte nodes, each pair in order."""
    keccak = keccak_256
    hashes = []
    for i in range(0, len(flat), 64):
        a, b = flat[i : i + 32], flat[i + 32 : i + 64]
        hashes.append(keccak(a + b if a < b else b + a).digest())
    return b"".join(hashes)


def subtree(pairs: bytes, rest: bytes) -> list[bytes]:
    """Levels of a perfect subtree, the lowest first: that is the parents of `pairs`, then `rest`."""
    levels = [parents(pairs) + rest]
    while len(levels[-1]) > 32:
        levels.append(parents(levels[-1]))
    return levels


def _work(kind: str, payload: bytes) -> bytes:
    if kind == "leaves":
        return leaves(payload)
    size = int.from_bytes(payload[:8], "little")
    return b"".join(subtree(payload[8 : 8 + size], payload[8 + size :]))


if __name__ == "__main__":
    sys.stdout.buffer.write(_work(sys.argv[1], sys.stdin.buffer.read()))
