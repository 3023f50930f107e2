"""What an ordinary buyer's traffic looks like: visits to pages, each a handful of objects, then a pause to read.

Sizes and pauses are log-normal, which web traffic is near to (Barford and Crovella, SURGE, 1998);
medians and spreads are those of today's pages, cut off where a single session would cost more than an audit is worth.
A covert audit draws from the same habits; whoever has recorded real buyers' may put theirs here.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Habit:
    """How sessions are drawn: medians, and sigma of the logarithm; sizes in bytes, times in seconds."""

    pages: int  # at most, of a session
    objects: float  # median, of a page
    size: float
    size_sigma: float
    size_most: int
    pause: float
    pause_sigma: float
    pause_most: float


HABITS = {
    "web": Habit(4, 8, 24_000, 1.4, 2_000_000, 3.0, 1.0, 20.0),
    "short": Habit(2, 3, 24_000, 1.2, 300_000, 0.05, 0.7, 0.3),
}


@dataclass(frozen=True)
class Page:
    """Objects that are fetched one after the other over one connection, and the pause after them in seconds."""

    sizes: tuple[int, ...]
    pause: float


def session(habit: Habit, rng: random.Random | None = None) -> list[Page]:
    """One visit."""
    rng = rng or random.SystemRandom()

    def near(median: float, sigma: float) -> float:
        return median * math.exp(rng.gauss(0.0, sigma))

    pages = [Page((), min(habit.pause_most, near(habit.pause, habit.pause_sigma)))]  # until somebody wants something
    for _ in range(rng.randint(1, habit.pages)):
        count = max(1, min(60, round(near(habit.objects, 0.6))))
        sizes = tuple(int(min(habit.size_most, max(200, near(habit.size, habit.size_sigma)))) for _ in range(count))
        pages.append(Page(sizes, min(habit.pause_most, near(habit.pause, habit.pause_sigma))))
    return pages


@cache
def mean_bytes(name: str) -> int:
    """Bytes of a session of this habit, on average."""
    rng = random.Random(1)
    total = sum(sum(page.sizes) for _ in range(2000) for page in session(HABITS[name], rng))
    return total // 2000


def header(rng: random.Random | None = None) -> dict[str, str]:
    """Header fields of a request as browsers send them: a cookie of any length among them."""
    rng = rng or random.SystemRandom()
    cookie = "".join(rng.choice("0123456789abcdef") for _ in range(rng.randint(0, 400)))
    fields = {
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept": "*/*", "Accept-Language": "en-US,en;q=0.5", "Accept-Encoding": "gzip, deflate",
    }  # fmt: skip
    return fields | ({"Cookie": f"s={cookie}"} if cookie else {})
