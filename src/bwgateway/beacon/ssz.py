"""SSZ hash tree roots of the few containers that a light client sees (consensus-specs, ssz/simple-serialize.md)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

ZERO = bytes(32)


def _pair(a: bytes, b: bytes) -> bytes:
    return sha256(a + b).digest()


def u64(value: int) -> bytes:
    """Chunk of a uint64 (or any unsigned integer up to 256 bits)."""
    return value.to_bytes(32, "little")


def padded(value: bytes) -> bytes:
    """Chunk of up to 32 bytes."""
    return value.ljust(32, b"\0")


def merkleize(chunks: Sequence[bytes], width: int) -> bytes:
    """Root of chunks (32 bytes each) padded with zero chunks to `width`, a power of two."""
    layer, zero = list(chunks), ZERO
    while width > 1:
        if len(layer) % 2:
            layer.append(zero)
        layer = [_pair(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
        zero, width = _pair(zero, zero), width // 2
    return layer[0]


def byte_vector(value: bytes) -> bytes:
    """Root of a ByteVector whose chunks are a power of two in number."""
    chunks = [padded(value[i : i + 32]) for i in range(0, len(value), 32)]
    return merkleize(chunks, len(chunks))


def short_list(value: bytes) -> bytes:
    """Root of a ByteList[32]."""
    return _pair(padded(value), u64(len(value)))


def branch_holds(leaf: bytes, branch: Sequence[bytes], gindex: int, root: bytes) -> bool:
    """Whether `branch`, from the leaf upward, leads from a leaf at a generalised index to `root`."""
    if len(branch) != gindex.bit_length() - 1:
        return False
    for sibling in branch:
        leaf = _pair(sibling, leaf) if gindex & 1 else _pair(leaf, sibling)
        gindex >>= 1
    return leaf == root
