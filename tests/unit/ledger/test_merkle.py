"""Proofs of a StandardMerkleTree; npm's own trees are compared in tests/interop."""

from bwrouter.ledger import merkle
from bwrouter.ledger.keccak import keccak256


def pair(a, b):
    return keccak256(a + b) if a < b else keccak256(b + a)


def tree():
    values = [bytes([i]) * 64 for i in range(5)]
    a, b, c, d, e = [merkle.leaf(value) for value in values]
    left, right = pair(pair(a, b), e), pair(c, d)
    return values, pair(left, right), [[b, e, right], [a, e, right], [d, left], [c, left], [pair(a, b), right]]


def test_every_leaf():
    values, root, proofs = tree()
    for value, proof in zip(values, proofs):
        assert merkle.holds(root, value, proof)


def test_any_change_is_refused():
    values, root, proofs = tree()
    assert not merkle.holds(root, values[0], proofs[1])
    assert not merkle.holds(root, values[0], proofs[0][:-1])
    assert not merkle.holds(root, values[0], proofs[0] + [bytes(32)])
    assert not merkle.holds(root, values[0][:-1] + b"\x01", proofs[0])
    assert not merkle.holds(keccak256(root), values[0], proofs[0])
    assert not merkle.holds(root, values[0], [node[:31] for node in proofs[0]])
    assert not merkle.holds(root, values[0], [None])
    assert not merkle.holds(root, values[0], [bytes(32)] * (merkle.DEPTH_LIMIT + 1))


def test_an_inner_node_is_no_leaf():
    # A leaf is hashed twice, so 64 bytes that are two nodes cannot pass for a leaf.
    values, root, proofs = tree()
    a, b = sorted([merkle.leaf(values[0]), merkle.leaf(values[1])])
    assert not merkle.holds(root, a + b, proofs[4][1:])
    assert not merkle.holds(root, a + b, proofs[0][1:])
