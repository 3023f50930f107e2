"""Merkle-Patricia proofs as `eth_getProof` gives them (EIP-1186; yellow paper, appendix D).

The verifier takes only what a correct trie would hold: canonical RLP, the right hash or the right embedded node at each
step, compact paths with clean flags, no empty extension, no node left over. It proves presence and absence.
"""

from bwrouter.ledger import rlp
from bwrouter.ledger.keccak import keccak256

EMPTY_ROOT = keccak256(b"\x80")
EMPTY_CODE = keccak256(b"")


class ProofError(ValueError):
    """A proof that does not show what it should."""


def lookup(root, key, proof, keccak=keccak256):
    """The value under the hashed `key` (32 bytes) in the trie of `root`, or None where the proof shows its absence.

    `proof` is the list of RLP nodes (bytes) from the root downward; a server gives its own, faster `keccak`. Raises
    ProofError.
    """
    try:
        return _lookup(bytes(root), _nibbles(key), [bytes(node) for node in proof], keccak)
    except (rlp.RlpError, TypeError) as error:
        raise ProofError("malformed node: %s" % error)


def account(state_root, address, proof, keccak=keccak256):
    """(nonce, balance in wei, storage root, code hash) of a 20-byte address; None: no account. Raises ProofError."""
    if len(address) != 20:
        raise ProofError("an address of %d bytes, not 20" % len(address))
    value = lookup(state_root, keccak(address), proof, keccak)
    if value is None:
        return None
    try:
        fields = rlp.decode(value)
    except rlp.RlpError as error:
        raise ProofError("malformed account: %s" % error)
    if not isinstance(fields, list) or len(fields) != 4 or any([isinstance(field, list) for field in fields]):
        raise ProofError("an account has four fields")
    nonce, balance, storage, code = fields
    if len(storage) != 32 or len(code) != 32:
        raise ProofError("an account has two hashes of 32 bytes")
    return _integer(nonce), _integer(balance), storage, code


def storage(storage_root, slot, proof, keccak=keccak256):
    """The 256-bit integer in the 32-byte `slot`; 0 where the proof shows that nothing is stored. Raises ProofError."""
    if len(slot) != 32:
        raise ProofError("a slot of %d bytes, not 32" % len(slot))
    value = lookup(storage_root, keccak(slot), proof, keccak)
    if value is None:
        return 0
    try:
        number = rlp.decode(value)
    except rlp.RlpError as error:
        raise ProofError("malformed slot: %s" % error)
    if isinstance(number, list) or len(number) > 32:
        raise ProofError("a slot holds at most 32 bytes")
    # A chain keeps no zeros; anvil does in a state that it has loaded, and the root commits to them all the same.
    return _integer(number) if number else 0


def mapping_slot(key, base):
    """The slot of a Solidity mapping's entry: `key` padded on the left, `base` the mapping's slot (int or bytes)."""
    if isinstance(base, int):
        base = base.to_bytes(32, "big")
    return keccak256(bytes(32 - len(key)) + bytes(key) + base)


def offset_slot(slot, offset):
    """The 32-byte slot `offset` places after `slot`: a member of a struct."""
    return ((int.from_bytes(slot, "big") + offset) & ((1 << 256) - 1)).to_bytes(32, "big")


def _lookup(root, path, proof, keccak):
    if not proof:
        if root == EMPTY_ROOT:
            return None
        raise ProofError("the proof is empty")
    if root == EMPTY_ROOT:
        # Geth sends no node for an empty trie; others send the one that stands for it.
        if proof == [b"\x80"]:
            return None
        raise ProofError("nodes in an empty trie")
    if keccak(proof[0]) != root:
        raise ProofError("node 0 does not hash to the root")
    node, used = rlp.decode(proof[0]), 1
    while True:
        reference, taken, value = _step(node, path)
        after_extension = len(node) == 2
        if reference is None:
            if used != len(proof):
                raise ProofError("%d nodes more than the path" % (len(proof) - used))
            return value
        path = path[taken:]
        if isinstance(reference, list):
            node = reference
        else:
            if used == len(proof):
                raise ProofError("the proof ends before its path")
            if keccak(proof[used]) != reference:
                raise ProofError("node %d does not hash to its reference" % used)
            node = rlp.decode(proof[used])
            used += 1
        if after_extension and len(node) != 17:
            raise ProofError("no branch after an extension")


def _step(node, path):
    """(reference to the next node or None, nibbles taken, value or None) of one node for the rest of the path."""
    if not isinstance(node, list):
        raise ProofError("a node is no list")
    if len(node) == 17:
        for child in node[:16]:
            _reference(child, True)
        if isinstance(node[16], list) or node[16]:
            raise ProofError("a branch holds a value: no key of a hashed trie ends there")
        if not path:
            raise ProofError("the path ends at a branch")
        child = node[path[0]]
        return (child, 1, None) if child else (None, 0, None)
    if len(node) != 2:
        raise ProofError("a node of %d items" % len(node))
    leaf, part = _compact(node[0])
    if leaf:
        if len(part) != len(path):
            raise ProofError("a leaf of the wrong depth")
        if isinstance(node[1], list) or not node[1]:
            raise ProofError("a leaf without a value")
        return None, 0, node[1] if part == path else None
    _reference(node[1], False)
    if not part or len(part) >= len(path):
        raise ProofError("an extension of the wrong length")
    if path[: len(part)] != part:
        return None, 0, None
    return node[1], len(part), None


def _reference(child, may_be_empty):
    """Raise ProofError unless `child` is a hash, an embedded node of under 32 bytes, or empty where it may be."""
    if isinstance(child, list):
        if len(rlp.encode(child)) >= 32:
            raise ProofError("an embedded node of 32 bytes or more")
    elif len(child) != 32 and (child or not may_be_empty):
        raise ProofError("a reference of %d bytes" % len(child))


def _compact(encoded):
    """(is a leaf, nibbles) of a hex-prefix path."""
    if isinstance(encoded, list) or not encoded:
        raise ProofError("a path is missing")
    flag = encoded[0] >> 4
    if flag > 3 or (not flag & 1 and encoded[0] & 15):
        raise ProofError("a path with flags %02x" % encoded[0])
    nibbles = _nibbles(encoded)
    return flag >= 2, nibbles[1 if flag & 1 else 2 :]


def _nibbles(key):
    out = bytearray(2 * len(key))
    for i in range(len(key)):
        out[2 * i] = key[i] >> 4
        out[2 * i + 1] = key[i] & 15
    return bytes(out)


def _integer(data):
    if data and data[0] == 0:
        raise ProofError("an integer with a leading zero")
    return int.from_bytes(data, "big")
