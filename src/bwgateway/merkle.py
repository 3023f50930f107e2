"""OpenZeppelin's StandardMerkleTree over `[address, uint256]` leaves.

Leaf = keccak(keccak(abi.encode(address, uint256))), leaves sorted, a node = keccak of its two children in order; the
tree is the array form of `@openzeppelin/merkle-tree` 1.0.8: node i has the children 2i+1 and 2i+2, the root is node 0,
the leaves are the last nodes, largest first. Nodes lie in one flat buffer. A large tree is hashed by worker processes,
one a core.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from sha3 import keccak_256

from bwgateway import keccaks

PARALLEL = 50_000
"""Leaves from which workers are worth their start."""


def leaf(account: bytes, amount: int) -> bytes:
    """Hash of one leaf: account 20 bytes, amount uint256."""
    return keccaks.leaves(keccaks.PAD + account + amount.to_bytes(32, "big"))


def node(a: bytes, b: bytes) -> bytes:
    """Hash of two siblings, whichever way round."""
    return bytes(keccak_256(a + b if a < b else b + a).digest())


class Tree:
    """The tree of a set of leaf hashes (not empty)."""

    def __init__(self, leaves: Iterable[bytes], workers: int = 1) -> None:
        flat = b"".join(leaves)
        if not flat:
            raise ValueError("leaves: a tree needs one at least")
        self._count = len(flat) // 32
        self._nodes = _grow(_largest_first(flat), workers)

    @classmethod
    def of(cls, sums: Mapping[bytes, int]) -> Tree:
        """The tree of accounts (20 bytes) and their amounts."""
        workers = min(os.cpu_count() or 1, 8) if len(sums) >= PARALLEL else 1
        share = -(-len(sums) // workers)
        entries = iter(sums.items())
        chunks = (_flat(islice(entries, share)) for _ in range(workers))
        return cls(_each("leaves", workers, chunks) if workers > 1 else map(keccaks.leaves, chunks), workers)

    def _at(self, i: int) -> bytes:
        return self._nodes[32 * i : 32 * i + 32]

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._at(0)

    def _position(self, leaf_hash: bytes) -> int:
        low, high = self._count - 1, 2 * self._count - 1
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) > leaf_hash:
                low = middle + 1
            else:
                high = middle
        if low == 2 * self._count - 1 or self._at(low) != leaf_hash:
            raise KeyError(leaf_hash.hex())
        return low

    def proof(self, leaf_hash: bytes) -> list[bytes]:
        """Siblings from the leaf up to the root. Raises KeyError for a leaf that is not in the tree."""
        i = self._position(leaf_hash)
        path = []
        while i > 0:
            path.append(self._at(i + 1 if i % 2 else i - 1))
            i = (i - 1) // 2
        return path


def _flat(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """Entries as `keccaks.leaves` takes them."""
    joined = keccaks.PAD.join([account + amount.to_bytes(32, "big") for account, amount in entries])
    return keccaks.PAD + joined if joined else b""


def _largest_first(flat: bytes) -> bytes:
    """Hashes of 32 bytes in falling order."""
    rows = np.frombuffer(flat, dtype=np.uint8).reshape(-1, 32)
    keys = rows[:, :8].copy().view(">u8").ravel().astype(np.uint64)  # the first eight bytes decide, but for a chance
    order = np.argsort(keys)[::-1]
    sorted_keys = keys[order]
    if bool((sorted_keys[1:] == sorted_keys[:-1]).any()):
        return b"".join(sorted((flat[i : i + 32] for i in range(0, len(flat), 32)), reverse=True))
    return rows[order].tobytes()


def _grow(leaves: bytes, workers: int) -> bytes:
    """All nodes of the tree over leaves that are sorted, largest first."""
    count = len(leaves) // 32
    if count == 1:
        return leaves
    # The last level begins at node 2^h - 1; the level above it is full, from its first leaf on with leaves.
    last = (1 << (2 * count - 1).bit_length() - 1) - 1
    deepest = 32 * (2 * count - 1 - last)
    pairs, rest = leaves[len(leaves) - deepest :], leaves[: len(leaves) - deepest]
    width = (last + 1) // 2
    if workers == 1 or width < 2:
        return _join([keccaks.subtree(pairs, rest)]) + pairs
    parts = 1 << (min(workers, width).bit_length() - 1)
    share = 32 * (width // parts)
    payloads = []
    for i in range(parts):
        mine = pairs[2 * i * share : 2 * (i + 1) * share]
        filled = len(mine) // 2
        start = max(0, i * share - len(pairs) // 2)
        payloads.append(len(mine).to_bytes(8, "little") + mine + rest[start : start + share - filled])
    grown = [_levels(flat, share) for flat in _each("subtree", parts, payloads)]
    top = [b"".join(levels[-1] for levels in grown)]
    while len(top[-1]) > 32:
        top.append(keccaks.parents(top[-1]))
    return b"".join(reversed(top[1:])) + _join(grown) + pairs


def _levels(flat: bytes, size: int) -> list[bytes]:
    """Split a worker's answer: the lowest level of `size` bytes first, each half of the one before."""
    levels, at = [], 0
    while size >= 32:
        levels.append(flat[at : at + size])
        at, size = at + size, size // 2
    return levels


def _join(subtrees: list[list[bytes]]) -> bytes:
    """The levels of neighbouring subtrees, the highest first."""
    depth = len(subtrees[0])
    return b"".join(b"".join(levels[k] for levels in subtrees) for k in range(depth - 1, -1, -1))


def _each(kind: str, count: int, payloads: Iterable[bytes]) -> list[bytes]:
    """One worker process for each of `count` payloads; a payload is made while those before it are worked on."""
    command = [sys.executable, "-m", "bwgateway.keccaks", kind]
    path = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": path}

    def run(worker: subprocess.Popen[bytes], payload: bytes) -> bytes:
        out, _ = worker.communicate(payload)
        if worker.returncode:
            raise subprocess.CalledProcessError(worker.returncode, command)
        return out

    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) for _ in range(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(run, worker, payload) for worker, payload in zip(workers, payloads, strict=True)]
        return [done.result() for done in running]


def verify(root: bytes, leaf_hash: bytes, proof: Iterable[bytes]) -> bool:
    """Whether `proof` leads from `leaf_hash` to `root`."""
    for sibling in proof:
        leaf_hash = node(leaf_hash, sibling)
    return leaf_hash == root
