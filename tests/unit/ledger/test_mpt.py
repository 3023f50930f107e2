"""Account and storage proofs of tries built by PyPI `trie`, every way to break them, and hand-made malformed nodes."""

import json

from harness import raises

from bwrouter.ledger import mpt, rlp
from bwrouter.ledger.keccak import keccak256

VECTORS = __file__[: __file__.rfind("test_")] + "vectors.json"


def load(name):
    with open(VECTORS) as file:
        return json.load(file)[name]


def unhex(nodes):
    return [bytes.fromhex(node) for node in nodes]


def refused(function, *arguments):
    return raises(mpt.ProofError, function, *arguments) is not None


def test_presence_and_absence():
    trie = load("trie")
    root, found = bytes.fromhex(trie["root"]), 0
    for key, value, proof in trie["proofs"]:
        got = mpt.lookup(root, keccak256(bytes.fromhex(key)), unhex(proof))
        assert got == (None if value is None else bytes.fromhex(value))
        found += got is not None
    assert found == 6 and len(trie["proofs"]) == 12


def test_a_tampered_node_is_refused():
    trie = load("trie")
    root = bytes.fromhex(trie["root"])
    key, _, proof = trie["proofs"][0]
    key, nodes = keccak256(bytes.fromhex(key)), unhex(proof)
    for i in range(len(nodes)):
        for place in (0, len(nodes[i]) // 2, len(nodes[i]) - 1):
            changed = bytearray(nodes[i])
            changed[place] ^= 1
            assert refused(mpt.lookup, root, key, nodes[:i] + [bytes(changed)] + nodes[i + 1 :])
        assert refused(mpt.lookup, root, key, nodes[:i] + nodes[i + 1 :])
        assert refused(mpt.lookup, root, key, nodes[: i + 1] + nodes[i:])
    assert refused(mpt.lookup, root, key, nodes[::-1])
    assert refused(mpt.lookup, bytes(32), key, nodes)
    assert refused(mpt.lookup, root, key, [])
    assert refused(mpt.lookup, root, key, nodes + [b"\x80"])


def test_another_keys_proof_shows_nothing():
    trie = load("trie")
    root = bytes.fromhex(trie["root"])
    first, second = trie["proofs"][0], trie["proofs"][1]
    try:
        assert mpt.lookup(root, keccak256(bytes.fromhex(first[0])), unhex(second[2])) is None
    except mpt.ProofError:
        pass


def test_account_and_slot():
    row = load("account")
    root, address, proof = bytes.fromhex(row["root"]), bytes.fromhex(row["address"]), unhex(row["proof"])
    nonce, balance, storage, code = mpt.account(root, address, proof)
    assert (nonce, balance, code.hex()) == (row["nonce"], int(row["balance"]), row["code"])
    slot, slot_proof = bytes.fromhex(row["slot"]), unhex(row["slot_proof"])
    assert mpt.storage(storage, slot, slot_proof) == int(row["value"])
    assert refused(mpt.storage, storage, slot, slot_proof[:-1])
    assert refused(mpt.storage, root, slot, slot_proof)
    assert refused(mpt.account, root, address[:19], proof)
    assert refused(mpt.storage, storage, slot[:31], slot_proof)


def test_empty_trie():
    key = bytes(32)
    assert mpt.EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert mpt.lookup(mpt.EMPTY_ROOT, key, []) is None
    assert mpt.lookup(mpt.EMPTY_ROOT, key, [b"\x80"]) is None
    assert refused(mpt.lookup, mpt.EMPTY_ROOT, key, [b"\xc0"])


def test_solidity_slots():
    # The allowance of the ERC-20 standard layout: keccak(key . slot), then keccak(key2 . that).
    key = b"\x11" * 20
    assert mpt.mapping_slot(key, 3) == keccak256(bytes(12) + key + bytes(31) + b"\x03")
    assert mpt.mapping_slot(key, mpt.mapping_slot(key, 3)) == keccak256(bytes(12) + key + mpt.mapping_slot(key, 3))
    assert mpt.offset_slot(b"\xff" * 32, 2) == bytes(31) + b"\x01"
    assert mpt.offset_slot(bytes(32), 258) == bytes(30) + b"\x01\x02"


KEY = bytes(range(32))
BRANCH_PATH = b"\x20" + KEY[1:]  # 62 nibbles: what is left after two


def single(node, key=KEY):
    encoded = rlp.encode(node)
    return mpt.lookup(keccak256(encoded), key, [encoded])


def test_single_leaf():
    assert single([b"\x20" + KEY, b"v"]) == b"v"
    assert single([b"\x20" + KEY[:31] + b"\xff", b"v"]) is None


def test_embedded_nodes():
    # A node shorter than 32 bytes stands in its parent: an extension of 62 nibbles, a branch, two leaves of one nibble.
    branch = [b""] * 17
    branch[KEY[31] >> 4] = [bytes([0x30 | KEY[31] & 15]), b"v"]
    branch[9] = [b"\x31", b"w"]
    encoded = rlp.encode(branch)
    top = rlp.encode([b"\x00" + KEY[:31], branch if len(encoded) < 32 else keccak256(encoded)])
    proof = [top] if len(encoded) < 32 else [top, encoded]
    assert len(encoded) < 32
    assert mpt.lookup(keccak256(top), KEY, proof) == b"v"
    assert mpt.lookup(keccak256(top), KEY[:31] + b"\x91", proof) == b"w"
    assert mpt.lookup(keccak256(top), KEY[:31] + b"\x92", proof) is None
    assert mpt.lookup(keccak256(top), KEY[:31] + b"\x72", proof) is None
    assert refused(mpt.lookup, keccak256(top), KEY, proof + [encoded])


def test_malformed_nodes_are_refused():
    hash_ = bytes(range(100, 132))
    other = [b""] * 17
    other[3] = hash_
    for node in (
        b"abc",
        [],
        [b"\x20" + KEY],
        [b"\x20" + KEY, b"v", b""],
        [b"\x20" + KEY, b""],  # no value
        [b"\x20" + KEY, [b"v"]],
        [b"\x21" + KEY, b"v"],  # an even path with a low nibble
        [b"\x40" + KEY, b"v"],  # an unknown flag
        [b"", b"v"],
        [[b"\x20"], b"v"],
        [b"\x20" + KEY[:31], b"v"],  # too short a leaf
        [b"\x20" + KEY + b"\x00", b"v"],
        [b"\x00", hash_],  # an empty extension
        [b"\x00" + KEY, hash_],  # an extension to the very end
        [b"\x00" + KEY[:1], hash_[:31]],
        [b"\x00" + KEY[:1], b""],
        [b"\x00" + KEY[:1], [b"\x20" + KEY[1:], b"v"]],  # an embedded node that is too long
        [b"\x00" + KEY[:31], [b"\x32", b"v"]],  # no branch after an extension
        other[:16],
        other + [b""],
        other[:16] + [b"v"],  # a value in a branch
        other[:16] + [[]],
        other[:5] + [b"short"] + other[6:],
        other[:5] + [[b"\x20" + KEY, b"v"]] + other[6:],
    ):
        assert refused(single, node), node


def test_a_zero_that_a_node_keeps_is_a_zero():
    """anvil keeps slots that are zero once it has loaded a state; their proofs are of inclusion."""
    slot = bytes(31) + b"\x07"
    path = b"\x20" + keccak256(slot)
    for value, wanted in ((b"\x80", 0), (b"\x05", 5), (b"\x82\x01\x00", 256)):
        leaf = rlp.encode([path, value])
        assert mpt.storage(keccak256(leaf), slot, [leaf]) == wanted
    for value in (b"", b"\xc0", b"\xa1" + bytes(33), b"\x81\x05"):
        leaf = rlp.encode([path, value])
        assert refused(mpt.storage, keccak256(leaf), slot, [leaf]), value
