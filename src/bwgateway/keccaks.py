"""Hashing of a large Merkle tree, in bulk over flat bytes; `python -m bwgateway.keccaks leaves|subtree` is a worker.

Imports nothing but keccak, so that a worker starts at once; `bwgateway.merkle` says what is hashed.
"""

from __future__ import annotations

import sys
from struct import iter_unpack

from sha3 import keccak_256

PAD = bytes(12)


def leaves(flat: bytes) -> bytes:
    """Leaf hashes of entries of 64 bytes (12 zeros, account 20, amount 32, big-endian), 32 bytes each."""
    keccak = keccak_256
    return b"".join([keccak(keccak(entry).digest()).digest() for (entry,) in iter_unpack("64s", flat)])


def parents(flat: bytes) -> bytes:
    """Hashes of neighbouring pairs of 32-byte nodes, each pair in order."""
    keccak = keccak_256
    return b"".join([keccak(a + b if a < b else b + a).digest() for a, b in iter_unpack("32s32s", flat)])


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
