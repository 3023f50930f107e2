"""The ticket mint: RFC 9497 VOPRF (ristretto255-SHA512) keys, one for each region, denomination and key epoch.

    seed(region, units, epoch) -> DeriveKeyPair            `MintKeys.at`
    BlindEvaluate over a batch, one DLEQ proof              `MintKey.evaluate`
    Evaluate at opening: output ?= Evaluate(H(w_0))         `MintKey.verify`

The input of a ticket is H(w_0) (docs/protocol.md section 6); the mint sees it only when a relay opens the ticket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from hmac import compare_digest

from voprf.ristretto import BlindedInput, Evaluator

DENOMINATIONS = (1024, 64)
"""Units in a ticket: 64 MiB and 4 MiB."""
UNIT_WEI = 10**18 // 16_384
"""One unit in wei of the region's token: 1 token is 1 GiB through one hop."""
PROOF_SIZE = 64
EPOCHS_BACK = 400
"""Key periods that a refund looks back at most: each costs a derivation."""


class BadBlinded(ValueError):
    """An element that a client sent is not a valid ristretto255 encoding."""


@dataclass(frozen=True)
class MintKey:
    """One VOPRF key. `epoch` counts key periods since 1970; `expires` is unix seconds; `generation` counts how often
    all keys were replaced."""

    region: int
    units: int
    epoch: int
    expires: int
    seed: bytes
    generation: int = 0

    @cached_property
    def _evaluator(self) -> Evaluator:
        name = f"bwrouter/1 mint {self.region} {self.units} {self.epoch}"
        return Evaluator.from_seed(self.seed, (f"{name} {self.generation}" if self.generation else name).encode())

    @cached_property
    def public(self) -> bytes:
        """Public key, 32 bytes."""
        return self._evaluator.public_key.serialize()

    @cached_property
    def id(self) -> bytes:
        """First 8 bytes of SHA-256 of the public key."""
        return sha256(self.public).digest()[:8]

    def evaluate(self, blinded: Sequence[bytes]) -> tuple[list[bytes], bytes]:
        """Evaluate blinded elements (32 bytes each): the evaluated elements and one proof for all (64 bytes).

        Raises BadBlinded when an element is malformed.
        """
        try:
            elements = [BlindedInput.deserialize(b) for b in blinded]
        except Exception as e:
            raise BadBlinded("blinded: an element is not a ristretto255 point") from e
        raw = self._evaluator.evaluate_batch(elements).serialize()
        body = raw[PROOF_SIZE:]
        return [body[i : i + 32] for i in range(0, len(body), 32)], raw[:PROOF_SIZE]

    def verify(self, anchor: bytes, output: bytes) -> bool:
        """Whether `output` (64 bytes) is this key's signature on the chain with that anchor (32 bytes)."""
        return compare_digest(self._evaluator.evaluate_known_input(sha256(anchor).digest()), output)


class MintKeys:
    """Derives the keys of all epochs from one master seed; nothing but the seed is stored."""

    def __init__(
        self,
        seed: bytes,
        regions: Sequence[int],
        key_seconds: int,
        open_seconds: int,
        refund_seconds: int = 0,
        generation: int = 0,
    ) -> None:
        self.generation = generation
        self.regions = tuple(regions)
        self.refund_seconds = refund_seconds
        self.key_seconds = key_seconds
        self.open_seconds = open_seconds
        self._seed = seed
        self._derive = lru_cache(maxsize=4096)(self._make)

    def epoch(self, now: float) -> int:
        """Number of the key period at unix time `now`."""
        return int(now) // self.key_seconds

    def at(self, region: int, units: int, now: float) -> MintKey | None:
        """The key that issues now, or None for an unknown region or denomination."""
        if region not in self.regions or units not in DENOMINATIONS:
            return None
        return self._derive(region, units, self.epoch(now))

    def alive(self, now: float) -> list[MintKey]:
        """All keys whose tickets can still be opened, the issuing ones first."""
        latest = self.epoch(now)
        oldest = max(0, (int(now) - self.open_seconds) // self.key_seconds)
        return [
            self._derive(region, units, epoch)
            for epoch in range(latest, oldest - 1, -1)
            for region in self.regions
            for units in DENOMINATIONS
            if self._derive(region, units, epoch).expires > now
        ]

    def find(self, key_id: bytes, now: float) -> MintKey | None:
        """The living key with that id, or None."""
        key = self._index(self.epoch(now), int(now) // 60).get(key_id)
        return key if key is not None and key.expires > now else None

    def refundable(self, key_id: bytes, region: int, units: int, now: float) -> MintKey | None:
        """The key of a ticket that nobody opened, for `refund_seconds` after it could be; None: it is none of ours."""
        latest, back = self.epoch(now), self.open_seconds + self.refund_seconds
        oldest = max(0, (int(now) - back) // self.key_seconds, latest - EPOCHS_BACK)
        for epoch in range(latest, oldest - 1, -1):
            if region in self.regions and units in DENOMINATIONS:
                key = self._derive(region, units, epoch)
                if key.id == key_id:
                    return key if key.expires + self.refund_seconds > now else None
        return None

    def _make(self, region: int, units: int, epoch: int) -> MintKey:
        expires = (epoch + 1) * self.key_seconds + self.open_seconds
        return MintKey(region, units, epoch, expires, self._seed, self.generation)

    _cached: tuple[int, int, dict[bytes, MintKey]] = (-1, -1, {})

    def _index(self, epoch: int, minute: int) -> dict[bytes, MintKey]:
        if self._cached[:2] != (epoch, minute):
            self._cached = (epoch, minute, {k.id: k for k in self.alive(minute * 60)})
        return self._cached[2]
