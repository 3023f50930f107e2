"""Choosing the hops of a circuit.

A relay's weight is what it was measured to do: bytes a second for `bulk`, round trips for `interactive`, times the
gateway's score and its stake. No two hops share a network (/16, /32 of IPv6) or an owner, and where tickets of several
regions are at hand, other regions are preferred. The first hop comes from a short list that stays (`guards`), so that
trying again and again does not bring one to a bad first hop sooner or later.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from bwrouter.wire.descriptor import Descriptor

BULK, INTERACTIVE = "bulk", "interactive"
STRICT, RELAXED = "strict", "relaxed"
_SAME_REGION = 0.25  # weight of a relay in a region that the path has already
_STAKE_SPAN = 2.0  # the largest stakes count so many times the smallest
_RTT_SCALE_MS = 40.0
_RTT_UNKNOWN_MS = 80.0


class PathError(RuntimeError):
    """No path of the wanted kind exists among the relays known; the text says what is missing."""


@dataclass(frozen=True)
class Known:
    """What is known of a relay beside its descriptor. `score` in basis points; zero or empty: unknown."""

    score: int = 10_000
    audited_kbps: int = 0
    stake_bwt: int = 0
    owner: str = ""
    rtt_ms: float = 0.0
    """Measured by this client, smoothed, from the hop before it."""
    failures: float = 0.0
    """Recent failures in this client's own circuits; fades with time."""


_NOTHING = Known()
Facts = Mapping[bytes, Known]


@dataclass(frozen=True)
class Wish:
    """What a path must be. `regions`: where tickets are had (empty: anywhere); `exit_region`: 0 for any of these."""

    hops: int = 3
    regions: tuple[int, ...] = ()
    exit_region: int = 0
    profile: str = BULK
    diversity: str = STRICT


def _near(a: Descriptor, b: Descriptor, diversity: str = RELAXED) -> bool:
    """Whether two relays stand too close to be trusted as two: same /16 (v4) or /32 (v6); relaxed: same /24 or /48."""
    if a.relay == b.relay:
        return True
    v4, v6 = (2, 4) if diversity == STRICT else (3, 6)
    if a.port4 and b.port4 and a.v4[:v4] == b.v4[:v4]:
        return True
    return bool(a.port6 and b.port6 and a.v6[:v6] == b.v6[:v6])


def _same_owner(a: Descriptor, b: Descriptor, facts: Facts) -> bool:
    owner = facts.get(a.relay, _NOTHING).owner
    return bool(owner) and owner == facts.get(b.relay, _NOTHING).owner


def reachable(path: Sequence[Descriptor]) -> bool:
    """Whether each hop can be spoken to by the one before it: one behind an anchor must come after a public hop, or its
    answer would end at a NAT, and not after its anchor, which does not extend to its own address."""
    before: Descriptor | None = None
    for d in path:
        if d.anchored and (before is None or before.anchored or _near(before, d)):
            return False
        before = d
    return True


def weight(d: Descriptor, known: Known, profile: str, largest_stake: int = 0) -> float:
    """How much a relay is worth for a profile; above 0."""
    claimed: float = max(float(d.rate), 1.0)
    rate: float = min(claimed, float(known.audited_kbps)) if known.audited_kbps else claimed / 2
    stake = 1 + (_STAKE_SPAN - 1) * known.stake_bwt / largest_stake if largest_stake else 1.0
    trust: float = max(known.score, 100) / 10_000 * stake / (1 + known.failures) ** 2
    if profile == INTERACTIVE:
        rtt = known.rtt_ms or _RTT_UNKNOWN_MS
        return float(trust * min(rate, 20_000.0) ** 0.5 / (1 + rtt / _RTT_SCALE_MS) ** 2)
    return trust * rate


def draw(candidates: Sequence[Descriptor], value: Callable[[Descriptor], float]) -> Descriptor:
    """One relay at random, in proportion to `value`, by the system's randomness."""
    weights = [max(1, int(value(d) * 1024)) for d in candidates]
    point = secrets.randbelow(sum(weights))
    for d, w in zip(candidates, weights, strict=True):
        point -= w
        if point < 0:
            return d
    raise AssertionError("weights do not add up")


def choose(relays: Sequence[Descriptor], hops: int, region: int | None = None, avoid: frozenset[bytes] = frozenset(),
           last: bytes | None = None, *, wish: Wish | None = None, facts: Facts | None = None,
           guards: Collection[bytes] = (), apart: Collection[bytes] = (), only_apart: bool = False,
           ) -> list[Descriptor]:  # fmt: skip
    """A path, its exit last. Exits serve as inner hops only where nothing else is left.

    `wish` says more than `hops` and `region` can. `avoid` holds ids of relays that failed lately, `last` the id of the
    exit if it must be that one, `guards` the relays among which the first hop is drawn if any of them can be, `apart`
    relays that are taken as inner hops only where no others are left (those of the path that this one is the spare of);
    with `only_apart` not even then. Raises PathError.
    """
    w = wish or Wish(hops, (region,) if region is not None else (), diversity=RELAXED)
    facts = facts or {}
    usable = [d for d in relays if d.relay not in avoid and (not w.regions or d.region in w.regions)]
    exits = [d for d in usable if d.exit and (last is None or d.relay == last)]
    exits = [d for d in exits if w.hops > 1 or not d.anchored]
    exits = [d for d in exits if last is not None or not w.exit_region or d.region == w.exit_region]
    where = f" in region {w.exit_region}" if w.exit_region else f" in regions {w.regions}" if w.regions else ""
    if not exits:
        raise PathError(f"no exit among {len(relays)} relays{where}: try another --exit-region, or wait")
    top = max((k.stake_bwt for k in facts.values()), default=0)
    path = [draw(exits, lambda d: weight(d, facts.get(d.relay, _NOTHING), w.profile, top))]
    if only_apart:
        usable = [d for d in usable if d.relay not in apart]
    for place in range(w.hops - 2, -1, -1):
        # The first hop is public, for buyers sit behind NATs themselves; so is whoever stands before an anchored one.
        open_only = place == 0 or path[0].anchored
        among = [d for d in usable if not d.anchored] if open_only else usable
        path.insert(0, _next(path, among, w, facts, top, guards if place == 0 else (), guards, apart))
    return path


def _next(
    path: list[Descriptor], usable: list[Descriptor], w: Wish, facts: Facts, top: int, first: Collection[bytes],
    guards: Collection[bytes], apart: Collection[bytes],
) -> Descriptor:  # fmt: skip
    """The hop before `path`. `first`: the guards when it is the first hop."""
    far = [
        d for d in usable
        if not any(_near(d, p, w.diversity) or _same_owner(d, p, facts) for p in path)
    ]  # fmt: skip
    if not far:
        mend = "ask for fewer --hops" if w.diversity == RELAXED else "ask for fewer --hops, or set diversity to relaxed"
        raise PathError(
            f"only {len(path)} of {w.hops} hops: {len(usable)} usable relays, too few in separate networks and hands; "
            + mend
        )
    pool = [d for d in far if not d.exit] or far
    pool = [d for d in pool if d.relay in first] or pool if first else pool
    pool = [d for d in pool if d.relay not in apart] or pool
    if not first and guards:  # a guard in the middle could not be the first hop any more
        pool = [d for d in pool if d.relay not in guards] or pool
    regions = {p.region for p in path}

    def value(d: Descriptor) -> float:
        known = facts.get(d.relay, _NOTHING)
        return weight(d, known, w.profile, top) * (_SAME_REGION if d.region in regions else 1.0)

    return draw(pool, value)
