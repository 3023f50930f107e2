"""One audit of a relay: bursts over several circuits, what covert audits found, and the report that follows.

Two kinds of circuit answer two kinds of cheat. Over an *entry* the relay sees the address of another relay, as with any
buyer: who is fast only for verifiers' addresses is slow here. *Direct*, the relay is the first hop and the verifier
sees where each datagram comes from: a fast helper that answers for a slow relay from elsewhere counts for nothing. The
report takes the lower of the two. Within a kind the best of some circuits counts, since a hop on the way can only make
a relay look slower than it is, and nobody is accused by one circuit alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bwclient.path import reachable
from bwrouter.wire.descriptor import Descriptor

from .covert import FORGIVEN
from .probe import BUSY, CORRUPT, GOOD, SLOW, UNREACHABLE, Measurement

ENOUGH = 0.95  # of the claim: no further circuit is needed
SLOW_SHARE = 0.9  # BandwidthProof.SLOW_BPS
WIDE = 2  # an entry must carry so many times the claim
OCCUPIED_SECONDS = (0.3, 1.5)  # until a relay that proves to somebody else is asked again
MUTE_TRIES = 12  # circuits that say nothing of the relay
FULL_TRIES = 6  # further ones while it is full of customers
FULL_SECONDS = (1.0, 4.0)  # until it is asked again then: a buyer's download, or a pause in it, lasts about so long
REASONS = ("good", "slow", "unreachable", "busy", "corrupt", "inconclusive")


class Measures(Protocol):
    """probe.Probe."""

    def measure(self, path: list[Descriptor], target: int, ms: int, expect_kbps: int = 0) -> Measurement: ...


@dataclass
class Report:
    """What is committed to. `why`: in words, with the numbers behind it; `best`: the measurement that decided."""

    reason: int
    kbps: int
    why: str
    best: Measurement
    all: list[Measurement] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """One covert audit as it counts: the share of bytes that came right and in time."""

    share: float
    wrong: int = 0


def entries(target: Descriptor, relays: Sequence[Descriptor], audited: Callable[[bytes], int]) -> list[Descriptor]:
    """Relays through which the target's whole claim can be seen: audited at WIDE times it. A claim alone is no rate."""
    wide = [d for d in relays if min(audited(d.relay), d.rate) >= WIDE * target.rate]
    return [d for d in wide if d.relay != target.relay and reachable([d, target])]


def pick(among: Sequence[Descriptor], count: int, but: Sequence[Descriptor] = ()) -> list[Descriptor]:
    """Up to `count` different ones at random, none of `but`."""
    left = [d for d in among if all(d.relay != b.relay for b in but)]
    out: list[Descriptor] = []
    while left and len(out) < count:
        out.append(left.pop(secrets.randbelow(len(left))))
    return out


class Auditor:
    """Measures relays with a probe. `stopped` ends a try early; `hops` is the length of circuits."""

    def __init__(self, probe: Measures, hops: int, tries: int, stopped: Callable[[], bool] = lambda: False) -> None:
        self.probe, self.hops, self.tries, self.stopped = probe, hops, tries, stopped

    def audit(
        self, target: Descriptor, relays: Sequence[Descriptor], audited: Callable[[bytes], int], claim: int, ms: int,
        covert: Sequence[Seen] = (),
    ) -> Report | None:  # fmt: skip
        """Measure the relay against its claim (kbit/s) with proofs of `ms` milliseconds. None: nothing is known of it,
        because other hops failed or others' proofs were under way."""
        wide = entries(target, relays, audited)
        kinds = {"over an entry": self._kind(target, relays, wide, claim, ms)} if wide else {}
        if not target.anchored:  # one behind an anchor answers to public addresses only: over entries it is
            kinds["direct"] = self._kind(target, relays, [], claim, ms)
        kinds = {name: made for name, made in kinds.items() if made}
        return conclude(kinds, claim, covert) if kinds else None

    def _kind(
        self, target: Descriptor, relays: Sequence[Descriptor], wide: Sequence[Descriptor], claim: int, ms: int
    ) -> list[Measurement]:  # fmt: skip
        """Measurements that say something of the relay; none where other hops failed each time, or it was occupied."""
        made: list[Measurement] = []
        full = 0
        for _ in range(self.tries + MUTE_TRIES):
            first = pick(wide, 1)
            rest = pick([d for d in relays if not d.anchored], self.hops - 1 - len(first), [target, *first])
            m = self.probe.measure([*first, target, *rest], len(first), ms, claim)
            if m.occupied:
                self._wait(OCCUPIED_SECONDS)
            elif m.reason != UNREACHABLE or m.failed_hop in (-1, len(first)):
                made.append(m)
                again = is_full(m, claim) and full < FULL_TRIES
                full += again
                if len(made) - full == self.tries or m.reason in (BUSY, CORRUPT) or m.kbps >= ENOUGH * claim:
                    break
                if again:
                    self._wait(FULL_SECONDS)
            if self.stopped():
                break
        return made

    def _wait(self, between: tuple[float, float]) -> None:
        """A random time, in seconds."""
        low, high = (int(s * 1000) for s in between)
        until = time.monotonic() + (low + secrets.randbelow(high - low)) / 1000
        while time.monotonic() < until and not self.stopped():
            time.sleep(0.05)


def is_full(m: Measurement, claim: int) -> bool:
    """Whether a relay says that customers' cells, to which a proof's give way, took at least half of what it lacks.

    That is not believed, but a reason to ask once more at another time: who only says so gains nothing by it.
    """
    return m.reason == GOOD and m.kbps < ENOUGH * claim and 2 * m.carried_kbps >= claim - m.kbps


def best_of(made: Sequence[Measurement]) -> Measurement:
    """Of one kind: wrong bytes and "busy" at once, else the fastest."""
    for reason in (CORRUPT, BUSY):
        for m in made:
            if m.reason == reason:
                return m
    return max(made, key=lambda m: (m.reason == GOOD, m.kbps))


def conclude(kinds: dict[str, list[Measurement]], claim: int, covert: Sequence[Seen] = ()) -> Report:
    """The report that measurements and covert audits bear out."""
    every = [m for made in kinds.values() for m in made]
    best = {name: best_of(made) for name, made in kinds.items()}
    low = min(best, key=lambda name: (best[name].reason == GOOD, best[name].kbps))
    for reason in (CORRUPT, BUSY):
        for name, m in best.items():
            if m.reason == reason:
                why = f"{m.wrong} chunks are not the seed's keystream" if reason == CORRUPT else "it said so"
                return Report(reason, m.kbps, f"{REASONS[reason]}: {why} ({name})", m, every)
    m = best[low]
    if m.reason == UNREACHABLE and all(b.reason == UNREACHABLE for b in best.values()):
        how = f": {m.broke}" if m.broke else ""
        return Report(UNREACHABLE, 0, f"unreachable: no proof over {len(every)} circuits{how}", m, every)
    kbps, words = m.kbps, [f"{m.kbps} of {claim} kbit/s {low}, the best of {len(kinds[low])}"]
    others = [f"{b.kbps} {name}" for name, b in best.items() if name != low]
    if m.elsewhere:
        words.append(f"{m.elsewhere} datagrams from another address left out")
    lost = _undelivered(covert)
    if lost is not None:
        kbps = int(kbps * (1 - lost))
        words.append(f"{lost:.0%} of what {len(covert)} covert audits sent did not arrive")
    reason = GOOD if kbps >= SLOW_SHARE * claim else SLOW
    return Report(reason, kbps, f"{REASONS[reason]}: " + ", ".join(words + others), m, every)


def _undelivered(covert: Sequence[Seen]) -> float | None:
    """The share that did not arrive in the median covert audit, where it is more than the internet's own loss.

    One that failed says little alone: it takes half of them.
    """
    if not covert:
        return None
    shares = sorted(seen.share for seen in covert)
    middle = shares[len(shares) // 2]  # of an even number the better one
    return 1 - middle if 1 - middle > 1 / FORGIVEN else None
