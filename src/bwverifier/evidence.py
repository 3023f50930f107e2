"""What a verifier keeps of its measurements, so that it can show later what its report stood on.

An epoch's records are the leaves of a Merkle tree as RFC 6962 section 2.1 builds it; the verifier's key signs the root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from .probe import Measurement


def record(m: Measurement, epoch: int, unix: int) -> bytes:
    """A measurement as canonical JSON: seed and the relay's signed statement let anybody recompute the keystream."""
    fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in asdict(m).items()}
    return json.dumps({**fields, "epoch": epoch, "time": unix}, sort_keys=True, separators=(",", ":")).encode()


def root(records: Sequence[bytes]) -> bytes:
    """Merkle tree hash (32) of the records in their order; of none: H of nothing."""
    if not records:
        return hashlib.sha256(b"").digest()
    if len(records) == 1:
        return hashlib.sha256(b"\0" + records[0]).digest()
    half = 1 << (len(records) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(records[:half]) + root(records[half:])).digest()


def sign_root(account: LocalAccount, epoch: int, value: bytes) -> bytes:
    """The verifier's signature (65, EIP-191) of an epoch's root."""
    text = f"bwrouter/1 evidence {epoch} {value.hex()}"
    return bytes(account.sign_message(encode_defunct(text=text)).signature)
