"""Choosing the hops of a circuit."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from bwrouter.wire.descriptor import Descriptor


class PathError(RuntimeError):
    """No path of the wanted kind exists among the relays known; the text says what is missing."""


def _near(a: Descriptor, b: Descriptor) -> bool:
    """Whether two relays stand too close to be trusted as two: same /24 (v4) or /48 (v6)."""
    if a.relay == b.relay:
        return True
    if a.port4 and b.port4 and a.v4[:3] == b.v4[:3]:
        return True
    return bool(a.port6 and b.port6 and a.v6[:6] == b.v6[:6])


def _draw(candidates: Sequence[Descriptor]) -> Descriptor:
    """One relay at random, weighted by its rate."""
    total = sum(max(d.rate, 1) for d in candidates)
    point = secrets.randbelow(total)
    for d in candidates:
        point -= max(d.rate, 1)
        if point < 0:
            return d
    raise AssertionError("weights do not add up")


def choose(relays: Sequence[Descriptor], hops: int, region: int | None = None, avoid: frozenset[bytes] = frozenset(),
           last: bytes | None = None) -> list[Descriptor]:  # fmt: skip
    """`hops` relays, an exit last, no two of one neighbourhood. Exits serve as inner hops only where nothing else
    is left.

    `avoid` holds ids of relays that failed lately, `last` the id of the exit if it must be that one. Raises PathError.
    """
    usable = [d for d in relays if d.relay not in avoid and (region is None or d.region == region)]
    exits = [d for d in usable if d.exit and (last is None or d.relay == last)]
    if not exits:
        raise PathError(f"no exit among {len(relays)} relays" + (f" in region {region}" if region else ""))
    path = [_draw(exits)]
    while len(path) < hops:
        far = [d for d in usable if not any(_near(d, p) for p in path)]
        inner = [d for d in far if not d.exit] or far
        if not inner:
            raise PathError(
                f"only {len(path)} of {hops} hops: {len(usable)} usable relays, too few in separate networks"
            )
        path.insert(0, _draw(inner))
    return path
