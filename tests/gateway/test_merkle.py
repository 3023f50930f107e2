"""The tree against npm's @openzeppelin/merkle-tree, leaf by leaf."""

from __future__ import annotations

import json
import os
import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwgateway import merkle
from bwgateway.merkle import Tree, leaf, verify
from tests.gateway.rig import ROOT

ORACLE = """
const {StandardMerkleTree} = require('@openzeppelin/merkle-tree');
const values = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const tree = StandardMerkleTree.of(values, ['address', 'uint256']);
console.log(JSON.stringify({root: tree.root, proofs: values.map((_, i) => tree.getProof(i))}));
"""


def oracle(values: list[tuple[str, str]]) -> dict[str, object]:
    run = subprocess.run(
        ["node", "-e", ORACLE],
        input=json.dumps(values).encode(),
        capture_output=True,
        check=True,
        env={"NODE_PATH": str(ROOT / "build" / "node" / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    answer: dict[str, object] = json.loads(run.stdout)
    return answer


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 64, 101])
def test_same_root_and_proofs_as_openzeppelin(count: int) -> None:
    rng = random.Random(count)
    values = [("0x" + rng.randbytes(20).hex(), str(rng.getrandbits(rng.choice([1, 64, 256])))) for _ in range(count)]
    hashes = [leaf(bytes.fromhex(a[2:]), int(w)) for a, w in values]
    tree, expected = Tree(hashes), oracle(values)
    assert "0x" + tree.root.hex() == expected["root"]
    assert [["0x" + p.hex() for p in tree.proof(h)] for h in hashes] == expected["proofs"]


@given(st.dictionaries(st.binary(min_size=20, max_size=20), st.integers(0, 2**256 - 1), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_leaf_is_proved_and_no_other(sums: dict[bytes, int]) -> None:
    hashes = {a: leaf(a, w) for a, w in sums.items()}
    tree = Tree(hashes.values())
    for account, amount in sums.items():
        proof = tree.proof(hashes[account])
        assert verify(tree.root, hashes[account], proof)
        more = (amount + 1) % 2**256
        assert not verify(tree.root, leaf(account, more), proof)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 9, 100, 127, 128, 129, 1000])
@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_workers_grow_the_same_tree(count: int, workers: int) -> None:
    hashes = [random.Random(i).randbytes(32) for i in range(count)]
    assert Tree(hashes, workers)._nodes == Tree(hashes)._nodes


def test_a_large_tree_is_hashed_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {random.Random(i).randbytes(20): i for i in range(300)}
    alone = Tree.of(sums)
    monkeypatch.setattr(merkle, "PARALLEL", 100)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert Tree.of(sums).root == alone.root == Tree([leaf(a, w) for a, w in sums.items()]).root


def test_leaves_that_begin_alike_are_in_order() -> None:
    rng = random.Random(1)
    hashes = [bytes(8) + rng.randbytes(24) for _ in range(20)] + [rng.randbytes(32) for _ in range(20)]
    tree = Tree(hashes)
    assert [tree._at(i) for i in range(39, 79)] == sorted(hashes, reverse=True)


def test_an_empty_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves"):
        Tree([])
