"""Many routers through many audit epochs under the contract's rules: who is caught, who is wronged, who gains.

The rules are those of `BandwidthProof.verdict`: a committee's votes, 7 of 10 for a verdict, two adverse ones suspend,
two good ones in a row acquit. Seats are many, so the number of liars on a committee is binomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMMITTEE = 10
VERDICT = 0.7
SLOW = 0.9
ACQUITTALS = 2
GOOD, ADVERSE, INCONCLUSIVE = 0, 1, 2


@dataclass(frozen=True)
class Profile:
    """A kind of router: what it can carry, as a share of its claim, and how it cheats."""

    name: str
    rate: float = 1.0  # of the claim
    from_epoch: int = 0  # until then it carries its claim: a sleeper
    recognises: float = 0.0  # share of the audits for which it finds the claimed rate
    sharing: int = 1  # routers on one line
    overlap: float = 0.0  # how likely a burst meets another router's of the same line
    accused: bool = False  # liars speak against it, not for it


PROFILES = (
    Profile("honest"),
    Profile("honest, liars against it", accused=True),
    Profile("over-claims by 20 %", rate=1 / 1.2),
    Profile("claims 25 % more than it has", rate=0.8),
    Profile("sleeper", rate=0.5, from_epoch=20),
    Profile("recognises 30 % of audits", rate=0.5, recognises=0.3),
    Profile("two on one line, half the bursts meet", sharing=2, overlap=0.5),
)


@dataclass
class Outcome:
    """What became of the routers of one profile. Times are epochs since the lie began."""

    name: str
    suspended_in_10: float  # share
    suspended: float  # share at any time
    median_epochs: float  # to the first suspension, of those suspended
    credited: float  # capacity credited an epoch as a share of what the router has


def _seats(
    p: Profile, epoch: int, shape: tuple[int, int], sigma: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """What honest seats measure, as a share of the claim."""
    true = np.full(shape, p.rate if epoch >= p.from_epoch else 1.0)
    if p.recognises:
        true = np.where(rng.random(shape) < p.recognises, 1.0, true)
    if p.sharing > 1:
        true = np.where(rng.random(shape) < p.overlap, true / p.sharing, true)
    return true * (1 + sigma * rng.standard_normal(shape))


def run(
    p: Profile, routers: int, epochs: int, liars: float, sigma: float, seed: int, committee: int = COMMITTEE
) -> Outcome:
    """`routers` of one profile for `epochs`; `liars`: share of lying seats, `sigma`: spread of a measurement."""
    rng = np.random.default_rng(seed)
    strikes = np.zeros(routers, np.int8)
    acquittals = np.zeros(routers, np.int8)
    first = np.full(routers, -1)
    credited = 0.0
    for epoch in range(epochs):
        seats = _seats(p, epoch, (routers, committee), sigma, rng)
        lying = rng.random(seats.shape) < liars
        seats = np.where(lying, 0.0 if p.accused else 1.0, seats)
        good = (seats >= SLOW).sum(axis=1)
        needed = int(np.ceil(committee * VERDICT - 1e-9))
        verdict = np.where(good >= needed, GOOD, np.where(committee - good >= needed, ADVERSE, INCONCLUSIVE))
        median = np.sort(seats, axis=1)[:, (committee - 1) // 2]
        active = strikes < 2
        credited += float(np.where((verdict == GOOD) & active, np.minimum(median, 1.0), 0.0).sum())
        _apply(verdict, strikes, acquittals)
        first[(strikes == 2) & (first < 0)] = epoch
    caught = first >= 0
    times = first[caught] + 1 - p.from_epoch
    have = p.rate if not p.from_epoch else (p.from_epoch + p.rate * (epochs - p.from_epoch)) / epochs
    have /= p.sharing
    return Outcome(p.name, float((times <= 10).sum() / routers), float(caught.mean()),
                   float(np.median(times)) if caught.any() else 0.0, credited / routers / epochs / have)  # fmt: skip


def _apply(verdict: NDArray[np.int64], strikes: NDArray[np.int8], acquittals: NDArray[np.int8]) -> None:
    """The contract's `_apply`, in place, for all routers."""
    good, adverse = verdict == GOOD, verdict == ADVERSE
    under, before = strikes == 2, strikes.copy()
    acquittals[under & good] += 1
    acquittals[under & adverse] = 0
    strikes[(before == 1) & good] = 0
    free = under & (acquittals >= ACQUITTALS)
    strikes[free] = 0
    strikes[(before == 0) & adverse] = 1
    suspended = (before == 1) & adverse
    strikes[suspended] = 2
    acquittals[suspended | free] = 0


def inflation(
    liars: float, sigma: float, routers: int = 10_000, epochs: int = 50, seed: int = 1
) -> tuple[float, float]:
    """(most that a router gains, at which claim): its credited capacity by an honest router's without liars, the best
    over claims from what it has to three times that."""
    honest = run(Profile("honest"), routers, epochs, 0.0, sigma, seed).credited
    best, at = 0.0, 1.0
    for percent in (100, 102, 105, 108, 110, 111, 115, 120, 150, 200, 300):
        claim = percent / 100
        gained = run(Profile("", rate=1 / claim), routers, epochs, liars, sigma, seed).credited / honest
        if gained > best:
            best, at = gained, claim
    return round(best, 4), at


def caught_in_10(over: float, liars: float, sigma: float, routers: int = 10_000, seed: int = 1) -> float:
    """The share of routers that claim `1 + over` times what they have and are suspended within ten epochs."""
    return run(Profile("", rate=1 / (1 + over)), routers, 10, liars, sigma, seed).suspended_in_10
