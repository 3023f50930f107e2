"""How much was bought lately: the spend limits of an hour and a day hold over restarts too.

`spent.json` is written before a purchase, so that a crash in the middle counts it: the limit errs to the safe side.
"""

from __future__ import annotations

import time
from pathlib import Path

from .files import read_json, write_json

HOUR, DAY = 3600.0, 86_400.0


class Budget:
    """Units bought, with their time (unix seconds), in `file`."""

    def __init__(self, file: Path, hour_units: int, day_units: int) -> None:
        self.file, self.hour_units, self.day_units = file, hour_units, day_units
        self._spent: list[tuple[float, int]] = [(float(t), int(u)) for t, u in read_json(file).get("spent", [])]

    def within(self, seconds: float, now: float | None = None) -> int:
        """Units bought in the last `seconds`."""
        at = time.time() if now is None else now
        return sum(u for t, u in self._spent if t > at - seconds)

    def left(self, now: float | None = None) -> int:
        """Units that may be bought now."""
        return max(0, min(self.hour_units - self.within(HOUR, now), self.day_units - self.within(DAY, now)))

    def why(self) -> str:
        """Which limit holds, and when it gives way."""
        for name, seconds, limit in (("hour", HOUR, self.hour_units), ("day", DAY, self.day_units)):
            if self.within(seconds) >= limit:
                oldest = min(t for t, _ in self._spent if t > time.time() - seconds)
                minutes = max(1, round((oldest + seconds - time.time()) / 60))
                return (
                    f"spend limit of {limit} units per {name} is used up; the first of it is free in {minutes} min, or "
                    f"raise spend_limit_{name}_units"
                )
        return "the spend limit is used up"

    def note(self, units: int, now: float | None = None) -> None:
        """Units are about to be bought (negative: they were not, after all)."""
        at = time.time() if now is None else now
        self._spent = [(t, u) for t, u in self._spent if t > at - DAY]
        self._spent.append((at, units))
        write_json(self.file, {"spent": self._spent})
