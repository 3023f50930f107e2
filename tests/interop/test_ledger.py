"""ledger/ against independent implementations, on random inputs; committed vectors carry them to MicroPython."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import coincurve
import pytest
import rlp as reference_rlp
import sha3
from eth_abi import encode as abi_encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from trie import HexaryTrie

from bwrouter.ledger import eip712, merkle, mpt, rlp, secp256k1
from bwrouter.ledger.keccak import keccak256
from tests.interop import ledger_vectors

EDGES = (0, 1, 0x7F, 0x80, 0x81, 0xB7, 0xB8, 0xC0, 0xC1, 0xF8)
ROOT = Path(__file__).resolve().parents[2]
MERKLE_PROGRAM = """
const { StandardMerkleTree } = require('@openzeppelin/merkle-tree');
let text = ''; process.stdin.on('data', d => text += d).on('end', () => {
  const tree = StandardMerkleTree.of(JSON.parse(text), ['address', 'uint256']);
  const proofs = []; for (const [i, value] of tree.entries()) proofs.push([value, tree.getProof(i)]);
  console.log(JSON.stringify({ root: tree.root, proofs }));
});
"""


@pytest.fixture
def rng() -> random.Random:
    return random.Random(os.environ.get("SEED", "ledger"))


def test_committed_vectors_are_what_the_oracles_say() -> None:
    assert json.loads((ROOT / "tests/unit/ledger/vectors.json").read_text()) == ledger_vectors.make()


def test_keccak(rng: random.Random) -> None:
    for size in [*range(130, 142), *(rng.randrange(600) for _ in range(50))]:
        message = rng.randbytes(size)
        assert keccak256(message) == sha3.keccak_256(message).digest()


def test_sign_and_keys(rng: random.Random) -> None:
    for _ in range(200):
        secret, digest, blind = rng.randbytes(32), rng.randbytes(32), rng.randbytes(rng.choice((0, 40)))
        key = coincurve.PrivateKey(secret)
        assert secp256k1.public_key(secret, blind) == key.public_key.format(compressed=False)[1:]
        r, s, v = secp256k1.sign(digest, secret, blind)
        assert r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v]) == key.sign_recoverable(digest, hasher=None)


def test_address_and_recovery(rng: random.Random) -> None:
    for _ in range(20):
        secret, digest = rng.randbytes(32), rng.randbytes(32)
        address = secp256k1.address(secp256k1.public_key(secret))
        assert "0x" + address.hex() == Account.from_key(secret).address.lower()
        r, s, v = secp256k1.sign(digest, secret)
        assert Account._recover_hash(digest, vrs=(27 + v, r, s)).lower() == "0x" + address.hex()


def test_typed_data_of_every_known_type(rng: random.Random) -> None:
    fields = "address who,bool yes,uint16 region,uint256 amount,bytes32 id,bytes4 tag,string text,bytes blob"
    kind = ("Everything", tuple((f.split()[0], f.split()[1]) for f in fields.split(",")))
    types = {"Everything": [{"type": t, "name": n} for t, n in kind[1]]}
    for i in range(20):
        values = {
            "who": rng.randbytes(20),
            "yes": bool(i & 1),
            "region": rng.randrange(1 << 16),
            "amount": rng.randrange(1 << 256),
            "id": rng.randbytes(32),
            "tag": rng.randbytes(4),
            "text": f"Müller {i}",
            "blob": rng.randbytes(i),
        }
        domain = {"name": "D", "version": "2", "chainId": 31337, "verifyingContract": "0x" + rng.randbytes(20).hex()}
        separator = eip712.domain_separator("D", "2", 31337, bytes.fromhex(domain["verifyingContract"][2:]))
        signed = Account.sign_message(encode_typed_data(domain, types, values), bytes(31) + b"\x07")
        assert eip712.digest(separator, kind, values) == signed.message_hash


def nested(rng: random.Random, depth: int) -> bytes | list:
    if depth and rng.random() < 0.5:
        return [nested(rng, depth - 1) for _ in range(rng.randrange(6))]
    return rng.randbytes(rng.choice((0, 1, 2, 55, 56, 80)))


def test_rlp_both_ways(rng: random.Random) -> None:
    for _ in range(300):
        item = nested(rng, 4)
        encoded = reference_rlp.encode(item)
        assert rlp.encode(item) == encoded
        assert rlp.decode(encoded) == item


def test_rlp_takes_exactly_what_the_reference_takes(rng: random.Random) -> None:
    taken = 0
    for _ in range(3000):
        data = bytearray(reference_rlp.encode(nested(rng, 3)))
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.choice((*EDGES, rng.randrange(256)))
        try:
            expected = reference_rlp.decode(bytes(data), strict=True)
        except (reference_rlp.DecodingError, IndexError):
            with pytest.raises(rlp.RlpError):
                rlp.decode(data)
        else:
            taken += 1
            assert rlp.decode(data) == expected
    assert 500 < taken < 2900


def test_proofs_of_random_tries(rng: random.Random) -> None:
    for size in (1, 2, 17, 400):
        trie = HexaryTrie({})
        slots = {rng.randbytes(32): rng.randrange(1, 1 << rng.choice((4, 8, 160, 256))) for _ in range(size)}
        for slot, number in slots.items():
            trie[sha3.keccak_256(slot).digest()] = reference_rlp.encode(number)
        for slot in [*list(slots)[:40], *(rng.randbytes(32) for _ in range(40))]:
            proof = ledger_vectors.proof_vector(trie, slot, None)[2]
            assert mpt.storage(trie.root_hash, slot, [bytes.fromhex(n) for n in proof]) == slots.get(slot, 0)


def test_no_random_damage_passes(rng: random.Random) -> None:
    trie = HexaryTrie({})
    slots = {rng.randbytes(32): rng.randrange(1, 1 << 256) for _ in range(100)}
    for slot, number in slots.items():
        trie[sha3.keccak_256(slot).digest()] = reference_rlp.encode(number)
    for slot in list(slots)[:50]:
        nodes = [bytes.fromhex(n) for n in ledger_vectors.proof_vector(trie, slot, None)[2]]
        i = rng.randrange(len(nodes))
        broken = bytearray(nodes[i])
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        with pytest.raises(mpt.ProofError):
            mpt.storage(trie.root_hash, slot, [*nodes[:i], bytes(broken), *nodes[i + 1 :]])


@pytest.mark.parametrize("leaves", [1, 2, 3, 50])
def test_openzeppelin_trees(rng: random.Random, leaves: int) -> None:
    node, modules = shutil.which("node"), ROOT / "build/node/node_modules"
    assert node, "node is missing: make setup"
    assert (modules / "@openzeppelin/merkle-tree").is_dir(), "@openzeppelin/merkle-tree is missing: make setup"
    values = [["0x" + rng.randbytes(20).hex(), str(rng.randrange(1 << 256))] for _ in range(leaves)]
    run = subprocess.run(
        [node, "-e", MERKLE_PROGRAM],
        input=json.dumps(values),
        env={**os.environ, "NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    tree = json.loads(run.stdout)
    root = bytes.fromhex(tree["root"][2:])
    assert len(tree["proofs"]) == leaves
    for (account, amount), proof in tree["proofs"]:
        siblings = [bytes.fromhex(sibling[2:]) for sibling in proof]
        encoded = abi_encode(["address", "uint256"], [account, int(amount)])
        words = eip712.word("address", bytes.fromhex(account[2:]), "a"), eip712.word("uint256", int(amount), "b")
        assert encoded == b"".join(words)
        assert merkle.holds(root, encoded, siblings)
        assert not merkle.holds(root, encoded[:-1] + bytes([encoded[-1] ^ 1]), siblings)


def test_keccak_of_a_big_message() -> None:
    message = bytes(range(256)) * 40
    assert keccak256(message) == sha3.keccak_256(message).digest()
