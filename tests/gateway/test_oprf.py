"""The client's VOPRF against RFC 9497's vectors and against the mint's library."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest
from voprf.ristretto import BlindedInput, Evaluator

from bwclient import oprf
from bwgateway.mint import BadBlinded, MintKey, MintKeys

# RFC 9497, appendix A.1.2 (ristretto255-SHA512, VOPRF mode).
SEED, INFO = bytes.fromhex("a3" * 32), b"test key"
PUBLIC = bytes.fromhex("c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e")
BLIND = int.from_bytes(bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"), "little")
BLINDED = bytes.fromhex("863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945")
OUTPUT = bytes.fromhex(
    "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d"
    "a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
)


def test_rfc_9497_vector() -> None:
    mint = Evaluator.from_seed(SEED, INFO)
    assert mint.public_key.serialize() == PUBLIC
    assert oprf.blind(b"\0", BLIND) == BLINDED
    raw = mint.evaluate_batch([BlindedInput.deserialize(BLINDED)]).serialize()
    oprf.verify(PUBLIC, [BLINDED], [raw[64:]], raw[:64])
    assert oprf.finalise(b"\0", BLIND, raw[64:]) == OUTPUT


def key(seed: bytes = b"\1" * 32) -> MintKey:
    found = MintKeys(seed, [1], 3600, 3600).at(1, 64, 1_000_000.0)
    assert found is not None
    return found


@pytest.mark.parametrize("count", [1, 2, 33])
def test_a_batch_unblinds_to_what_the_mint_verifies(count: int) -> None:
    mint = key()
    anchors = [os.urandom(32) for _ in range(count)]
    inputs = [sha256(a).digest() for a in anchors]
    blinds = [oprf.scalar(os.urandom(32)) for _ in inputs]
    blinded = [oprf.blind(i, r) for i, r in zip(inputs, blinds)]
    evaluated, proof = mint.evaluate(blinded)
    oprf.verify(mint.public, blinded, evaluated, proof)
    outputs = [oprf.finalise(i, r, e) for i, r, e in zip(inputs, blinds, evaluated)]
    assert all(mint.verify(a, o) for a, o in zip(anchors, outputs))
    assert not any(key(b"\2" * 32).verify(a, o) for a, o in zip(anchors, outputs))


def test_a_marked_ticket_is_noticed() -> None:
    """One element evaluated under another key, a proof of another batch, a swapped pair: none passes."""
    mint, other = key(), key(b"\2" * 32)
    blinded = [oprf.blind(os.urandom(32), oprf.scalar(os.urandom(32))) for _ in range(4)]
    evaluated, proof = mint.evaluate(blinded)
    marked, _ = other.evaluate(blinded)
    foreign = mint.evaluate(blinded[:3])[1]
    for elements, shown in (
        ([*evaluated[:3], marked[3]], proof),
        (evaluated, foreign),
        ([evaluated[1], evaluated[0], *evaluated[2:]], proof),
        (evaluated[:3], proof),
        (evaluated, bytes(64)),
        (evaluated, b"\xff" * 64),
    ):
        with pytest.raises(oprf.BadProof):
            oprf.verify(mint.public, blinded, elements, shown)
    with pytest.raises(oprf.BadProof):
        oprf.verify(other.public, blinded, evaluated, proof)


@pytest.mark.parametrize("element", [bytes(32), b"\xff" * 32, b"\1" + bytes(31), b""])
def test_malformed_elements(element: bytes) -> None:
    with pytest.raises(BadBlinded):
        key().evaluate([element])
    with pytest.raises(oprf.BadElement):
        oprf.finalise(b"x", 5, element)


def test_keys_differ_by_region_units_and_epoch_and_are_derived() -> None:
    def keys() -> MintKeys:
        return MintKeys(b"\3" * 32, [1, 2], 100, 250)

    mint, now = keys(), 10_050.0
    alive = mint.alive(now)
    assert len({k.id for k in alive}) == len(alive) == 2 * 2 * 3  # regions, denominations, this period and two before
    assert [k.id for k in keys().alive(now)] == [k.id for k in alive]
    oldest = alive[-1]
    assert oldest.epoch == 98 and oldest.expires == 99 * 100 + 250
    assert mint.find(oldest.id, 10_149.0) == oldest
    assert mint.find(oldest.id, 10_150.0) is None and mint.find(bytes(8), now) is None
    assert mint.at(3, 64, now) is None and mint.at(1, 65, now) is None
