"""OpenZeppelin's StandardMerkleTree over `[address, uint256]` leaves.

Leaf = keccak(keccak(abi.encode(address, uint256))), leaves sorted, a node = keccak of its two children in order; the
tree is the array form of `@openzeppelin/merkle-tree` 1.0.8: node i has the children 2i+1 and 2i+2, the root is node 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from sha3 import keccak_256


def leaf(account: bytes, amount: int) -> bytes:
    """Hash of one leaf: account 20 bytes, amount uint256."""
    encoded = b"\0" * 12 + account + amount.to_bytes(32, "big")
    return bytes(keccak_256(keccak_256(encoded).digest()).digest())


def node(a: bytes, b: bytes) -> bytes:
    """Hash of two siblings, whichever way round."""
    return bytes(keccak_256(a + b if a < b else b + a).digest())


class Tree:
    """The tree of a set of leaf hashes (not empty)."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        ordered = sorted(leaves)
        if not ordered:
            raise ValueError("leaves: a tree needs one at least")
        count = len(ordered)
        keccak = keccak_256
        nodes = [b""] * (count - 1)
        nodes.extend(reversed(ordered))
        for i in range(count - 2, -1, -1):
            a, b = nodes[2 * i + 1], nodes[2 * i + 2]
            nodes[i] = keccak(a + b if a < b else b + a).digest()
        self._nodes = nodes
        self._at = {nodes[i]: i for i in range(count - 1, 2 * count - 1)}

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._nodes[0]

    def proof(self, leaf_hash: bytes) -> list[bytes]:
        """Siblings from the leaf up to the root. Raises KeyError for a leaf that is not in the tree."""
        i = self._at[leaf_hash]
        path = []
        while i > 0:
            path.append(self._nodes[i + 1 if i % 2 else i - 1])
            i = (i - 1) // 2
        return path


def verify(root: bytes, leaf_hash: bytes, proof: Iterable[bytes]) -> bool:
    """Whether `proof` leads from `leaf_hash` to `root`."""
    for sibling in proof:
        leaf_hash = node(leaf_hash, sibling)
    return leaf_hash == root
