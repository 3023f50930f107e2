"""What makes one beacon chain differ from another: genesis, forks, and what a signature of its committee covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from bwgateway.beacon import ssz

FORKS = ("phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu")
"""In their order. Fulu changes nothing that a light client sees."""
COMMITTEE = 512
SLOTS_PER_EPOCH = 32
PERIOD_SLOTS = 256 * SLOTS_PER_EPOCH
"""Slots for which one sync committee serves."""
_DOMAIN_SYNC_COMMITTEE = bytes((7, 0, 0, 0))


@dataclass(frozen=True)
class Network:
    """`forks`: name -> (version 4 bytes, first epoch); one that is not there never happened or is to come."""

    genesis_time: int
    genesis_validators_root: bytes
    forks: Mapping[str, tuple[bytes, int]]
    seconds_per_slot: int = 12

    def slot(self, now: float) -> int:
        """The slot at unix time `now`."""
        return max(0, int(now - self.genesis_time) // self.seconds_per_slot)

    def fork(self, slot: int) -> str:
        """Name of the fork that a slot belongs to."""
        epoch = slot // SLOTS_PER_EPOCH
        return next(name for name in reversed(FORKS) if name in self.forks and self.forks[name][1] <= epoch)

    def at_least(self, slot: int, name: str) -> bool:
        """Whether a slot lies in fork `name` or a later one."""
        return FORKS.index(self.fork(slot)) >= FORKS.index(name)

    def signing_root(self, object_root: bytes, signature_slot: int) -> bytes:
        """What the committee signs at a slot: it uses the fork of the slot before."""
        version = self.forks[self.fork(max(signature_slot, 1) - 1)][0]
        fork_data = sha256(ssz.padded(version) + self.genesis_validators_root).digest()
        domain = _DOMAIN_SYNC_COMMITTEE + fork_data[:28]
        return sha256(object_root + domain).digest()


def _forks(*entries: tuple[str, int]) -> dict[str, tuple[bytes, int]]:
    return {name: (bytes.fromhex(version), epoch) for name, (version, epoch) in zip(FORKS, entries, strict=True)}


NETWORKS = {
    "mainnet": Network(
        1_606_824_023,
        bytes.fromhex("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"),
        _forks(
            ("00000000", 0), ("01000000", 74_240), ("02000000", 144_896), ("03000000", 194_048),
            ("04000000", 269_568), ("05000000", 364_032), ("06000000", 411_392),
        ),
    ),
    "sepolia": Network(
        1_655_733_600,
        bytes.fromhex("d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078"),
        _forks(
            ("90000069", 0), ("90000070", 50), ("90000071", 100), ("90000072", 56_832),
            ("90000073", 132_608), ("90000074", 222_464), ("90000075", 272_640),
        ),
    ),
}  # fmt: skip
