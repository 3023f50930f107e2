"""BLS signatures of many keys on one message (draft-irtf-cfrg-bls-signature, proof of possession, keys in G1).

Ciphersuite BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_. The keys' proofs of possession were checked by the chain when
their validators deposited.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from py_arkworks_bls12381 import GT, G1Point, G2Point

_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"


@lru_cache(maxsize=4 * 512)
def _key(raw: bytes) -> G1Point:
    """A public key; raises ValueError for one that is not in the group, or its identity (KeyValidate)."""
    point = G1Point.from_compressed_bytes(raw)
    if point == G1Point.identity():
        raise ValueError("the identity is no key")
    return point


def fast_aggregate_verify(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether `signature` (96 bytes) is the sum of these keys' (48 bytes each) signatures on the message."""
    try:
        points = [_key(key) for key in keys]
        given = G2Point.from_compressed_bytes(signature)
    except ValueError:
        return False
    if not points:
        return False
    total = points[0]
    for point in points[1:]:
        total += point
    return bool(GT.pairing_check([total, -G1Point()], [G2Point.hash_to_curve(message, _DST), given]))
