"""PayWord chains: w_(i-1) = H(w_i), H = SHA-256, w_0 is the anchor (docs/protocol.md section 6)."""

from __future__ import annotations

from hashlib import sha256

LONGEST = 1024


def walk(preimage: bytes, steps: int) -> bytes:
    """H applied `steps` times (0..1024) to a 32-byte preimage."""
    if not 0 <= steps <= LONGEST:
        raise ValueError(f"steps: {steps} is outside 0..{LONGEST}")
    for _ in range(steps):
        preimage = sha256(preimage).digest()
    return preimage


def ticket_id(anchor: bytes) -> bytes:
    """H(w_0): names the ticket between relay and gateway, and is the mint's input."""
    return sha256(anchor).digest()
