"""The first hops that stay: a short list, kept between runs.

Whoever watches a first hop sees the buyer's address. With a new first hop for every circuit, a buyer would meet a
watched one soon; with a few that stay, most buyers never do (the reasoning of Tor's guard specification).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bwrouter.wire.descriptor import Descriptor

from .files import read_json, write_json
from .path import RELAXED, _near, draw

DAY = 86_400
LIFE_DAYS = (60, 120)  # drawn for each guard
GONE_DAYS = 7  # a guard that is not listed for so long is replaced for good


class Guards:
    """`count` guards in `file`, in the order in which they were taken."""

    def __init__(self, file: Path, count: int = 3) -> None:
        self.file, self.count = file, count
        self._entries: dict[str, dict[str, float]] = read_json(file)
        self._saved = 0.0

    def ids(
        self, relays: Sequence[Descriptor], value: Callable[[Descriptor], float], diversity: str = RELAXED
    ) -> list[bytes]:
        """Guards that are listed now, oldest first; new ones are drawn where too few are left. Never an exit while
        other relays are listed."""
        now = time.time()
        listed = {d.relay.hex(): d for d in relays}
        before = set(self._entries)
        for name, entry in list(self._entries.items()):
            if name in listed:
                entry["seen"] = now
            if now > entry["until"] or now > entry["seen"] + GONE_DAYS * DAY:
                del self._entries[name]
        here = [listed[name] for name in self._entries if name in listed]
        inner = [d for d in relays if not d.exit] or list(relays)
        while len(here) < self.count:
            free = [d for d in inner if not any(_near(d, g, diversity) for g in here)]
            if not free:
                break
            d = draw(free, value)
            days = LIFE_DAYS[0] + secrets.randbelow(LIFE_DAYS[1] - LIFE_DAYS[0])
            self._entries[d.relay.hex()] = {"since": now, "seen": now, "until": now + days * DAY}
            here.append(d)
        if before != set(self._entries) or now - self._saved > 3600:
            write_json(self.file, self._entries)
            self._saved = now
        return [d.relay for d in here]
