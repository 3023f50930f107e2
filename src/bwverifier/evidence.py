"""What a verifier keeps of its measurements, so that it can show later what its report stood on.

An epoch's records are the leaves of a Merkle tree as RFC 6962 section 2.1 builds it; the verifier's key signs the root.
Bursts are published with their audit paths. Covert audits stay leaves that nobody has seen: a list of them would teach
relays what they look like; they are shown in a dispute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from .probe import Measurement


def canonical(fields: dict[str, Any]) -> bytes:
    """JSON with sorted keys and without spaces; bytes as hex."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def record(m: Measurement, epoch: int, unix: int) -> bytes:
    """A measurement as canonical JSON: seed and the relay's signed statement let anybody recompute the keystream."""
    return canonical({**asdict(m), "epoch": epoch, "time": unix})


def _leaf(raw: bytes) -> bytes:
    return hashlib.sha256(b"\0" + raw).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _half(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def root(records: Sequence[bytes]) -> bytes:
    """Merkle tree hash (32) of the records in their order; of none: H of nothing."""
    if not records:
        return hashlib.sha256(b"").digest()
    if len(records) == 1:
        return _leaf(records[0])
    half = _half(len(records))
    return _node(root(records[:half]), root(records[half:]))


def path(records: Sequence[bytes], index: int) -> list[tuple[bool, bytes]]:
    """The audit path of a record (RFC 6962 section 2.1.1) from the leaf upwards: (whether the sibling is on the left,
    the sibling)."""
    if len(records) <= 1:
        return []
    half = _half(len(records))
    if index < half:
        return [*path(records[:half], index), (False, root(records[half:]))]
    return [*path(records[half:], index - half), (True, root(records[:half]))]


def leads_to(raw: bytes, siblings: Sequence[tuple[bool, bytes]]) -> bytes:
    """The root to which an audit path leads."""
    here = _leaf(raw)
    for left, sibling in siblings:
        here = _node(sibling, here) if left else _node(here, sibling)
    return here


def _text(epoch: int, value: bytes) -> str:
    return f"bwrouter/1 evidence {epoch} {value.hex()}"


def sign_root(account: LocalAccount, epoch: int, value: bytes) -> bytes:
    """The verifier's signature (65, EIP-191) of an epoch's root."""
    return bytes(account.sign_message(encode_defunct(text=_text(epoch, value))).signature)


def signer(epoch: int, value: bytes, signature: bytes) -> str:
    """The address that signed an epoch's root. Raises ValueError."""
    try:
        return str(Account.recover_message(encode_defunct(text=_text(epoch, value)), signature=signature))
    except Exception as e:  # eth_keys raises several unrelated types
        raise ValueError("not a recoverable signature") from e
