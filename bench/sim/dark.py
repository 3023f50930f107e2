"""A region goes dark: every relay in it is silent from one moment on. How long until buyers have a path again?

Each buyer has a path of three hops and a spare to the same exit. A path with a dead hop is noticed after the silence of
its exit (docs/decisions.md), the spare takes over when it lives; otherwise paths are drawn anew, each try with a dead
hop costs time-outs. Gateways unlist the dead after three missed handshakes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bwclient import relays, steer

SHARE = 0.1  # of all relays are in the region
NOTICE_S = 0.16  # until a silent exit counts as dead
RTT_S = 0.04  # of one link
TIMEOUTS_S = 4.0  # of the three tries of a handshake with a hop that is silent
HORIZON_S = 240.0
CHECK_S, MISSES = 60.0, 3  # directory.check_seconds, handshakes missed before a relay is unlisted
REFRESH_S = relays.REFRESH_SECONDS


def recovery(
    buyers: int = 100_000, share: float = SHARE, seed: int = 1
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Seconds until each buyer whose path broke has one again, sorted; and shares and quantiles."""
    rng = np.random.default_rng(seed)
    dead = rng.random((buyers, 3)) < share
    hit = dead.any(axis=1)
    spare_dead = dead[:, 2] | (rng.random((buyers, 2)) < share).any(axis=1)
    by_spare = hit & ~spare_dead
    lost_exit = hit & dead[:, 2]
    seconds = np.full(buyers, 0.0)
    seconds[by_spare] = NOTICE_S + RTT_S * 3
    rest = np.flatnonzero(hit & spare_dead)
    seconds[rest] = NOTICE_S
    open_ = rest
    tries = 0
    while len(open_) and tries < 200:
        pause = steer.REBUILD_SECONDS[min(tries, len(steer.REBUILD_SECONDS) - 1)] if tries else 0.0
        bad = rng.random((len(open_), 3)) < still_listed(seconds[open_], rng) * share
        first = np.where(bad.any(axis=1), bad.argmax(axis=1), 3)
        set_up = RTT_S * (np.minimum(first, 3) * (np.minimum(first, 3) + 1) / 2)
        timeout = np.where(first < 3, TIMEOUTS_S, 0.0)
        seconds[open_] += pause + set_up + timeout
        open_ = open_[first < 3]
        tries += 1
    times = np.sort(seconds[hit])
    return times, {
        "hit": float(hit.mean()), "by_spare": float(by_spare.sum() / hit.sum()),
        "exit_lost": float(lost_exit.sum() / hit.sum()), "p50_s": float(np.median(times)),
        "p95_s": float(times[int(len(times) * 0.95)]), "worst_s": float(times[-1]),
    }  # fmt: skip


def still_listed(seconds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of the dead that a buyer takes for living: all, until it fetched the directory after the unlisting."""
    gone = CHECK_S * MISSES + rng.random(len(seconds)) * REFRESH_S
    return np.where(seconds < gone, 1.0, 0.0)[:, None]
