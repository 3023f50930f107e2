"""Proofs of OpenZeppelin's StandardMerkleTree: a leaf is keccak(keccak(abi.encode(values))), pairs are sorted."""

from bwrouter.ledger.keccak import keccak256

DEPTH_LIMIT = 64  # no tree that fits a machine is deeper


def leaf(encoded):
    """The 32-byte leaf hash of ABI-encoded values."""
    return keccak256(keccak256(encoded))


def root_of(node, proof):
    """The root above the leaf hash `node` by `proof`, 32-byte siblings from the leaf upward. Raises ValueError."""
    if len(proof) > DEPTH_LIMIT:
        raise ValueError("a proof of %d siblings is longer than %d" % (len(proof), DEPTH_LIMIT))
    if len(node) != 32:
        raise ValueError("a node of %d bytes, not 32" % len(node))
    for sibling in proof:
        if len(sibling) != 32:
            raise ValueError("a sibling of %d bytes, not 32" % len(sibling))
        node = keccak256(node + sibling if node < sibling else sibling + node)
    return node


def holds(root, encoded, proof):
    """Whether `proof` shows that the ABI-encoded values are a leaf under the 32-byte `root`; malformed: it does not."""
    try:
        return root_of(leaf(encoded), proof) == bytes(root)
    except (TypeError, ValueError):
        return False
