"""What the chain answers, as plain values, and the two ways in which it may not."""

from __future__ import annotations

from dataclasses import dataclass


class ChainError(Exception):
    """The chain gave no usable answer; what was asked may be asked again later."""


class Reverted(Exception):
    """A contract refuses a call; the message is its reason."""


@dataclass(frozen=True)
class Stake:
    """A relay's entry in StakeRegistry. `rate` is kbit/s, `stake` wei of BWT; `state` is a word."""

    relay: bytes
    owner: str
    payout: str
    region: int
    rate: int
    stake: int
    state: str

    @property
    def active(self) -> bool:
        """Registered, staked and neither suspended nor leaving."""
        return self.state == "active"

    @property
    def reachable(self) -> bool:
        """Active, or suspended: verifiers come to judge it, over circuits that are paid as all are."""
        return self.state in ("active", "suspended")


@dataclass(frozen=True)
class Standing:
    """What audits have found of a relay. `kbps`: median of the last conclusive verdict, 0 before the first; `score` in
    basis points."""

    score: int
    kbps: int
    strikes: int
    audits: int


@dataclass(frozen=True)
class Verdict:
    """One audit's verdict. `reason` is a word of REASONS; latency (ms) and loss (basis points) are medians of the
    reports, None when none was revealed. `claimed_kbps`: what the relay's stake said then; `time`: unix seconds."""

    relay: bytes
    epoch: int
    reason: str
    kbps: int
    reveals: int
    votes: int
    strikes: int
    block: int
    latency_ms: int | None
    loss_bps: int | None
    claimed_kbps: int
    time: int


REASONS = ("good", "slow", "unreachable", "busy", "corrupt", "inconclusive")
"""BandwidthProof.Reason."""


@dataclass(frozen=True)
class Deposit:
    """A buyer's account in Settlement at a block, wei: deposited less withdrawn, spent by vouchers, under notice."""

    block: int
    paid_in: int
    spent: int
    leaving: int


@dataclass(frozen=True)
class Challenge:
    """A challenge of a pending root: for whom, what the receipt promises (wei), until when it can be answered."""

    account: str
    cumulative: int
    deadline: int


@dataclass(frozen=True)
class Ledger:
    """Settlement's ledger of a gateway in a region. `claimable_at` is zero: no root is pending. `total` and
    `pending_total` are net of φ, `spent` (released by vouchers) is gross. `challenges`: open against the
    pending root."""

    token: str
    claimable_at: int
    epoch: int
    root: bytes
    pending_root: bytes
    total: int
    pending_total: int
    spent: int
    challenges: int = 0
