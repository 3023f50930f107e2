"""What was earned today and in the billing month: differences of the gateway's cumulative sum.

The sums at the begin of day and month are kept in RAM, and on flash from one midnight to the next: one write a day.
"""

import json

from ..platform import files
from .quota import day_key, month_key

_NAMES = ("day", "month")


class Earned:
    """`status()` is for status.json. `ram` and `flash` are paths."""

    def __init__(self, billing_day, ram, flash):
        self.billing_day = billing_day
        self.ram, self.flash = ram, flash
        self._marks = _read(ram) or _read(flash)

    def note(self, sum_wei, t):
        """The gateway says that `sum_wei` was earned in all; `t`: local time tuple, None while the clock is not set.

        Raises OSError.
        """
        if t is None:
            return
        now = {"day": day_key(t), "month": month_key(t, self.billing_day)}
        m = self._marks
        if m is None or sum_wei < int(m["last"]):
            # The first sum of all, or other keys than before.
            m = self._marks = {"last": str(sum_wei)}
            for name in _NAMES:
                m[name], m[name + "_from"] = now[name], m["last"]
            self._write(self.ram, False)
            return
        turned = False
        for name in _NAMES:
            if now[name] > m[name]:  # a clock that goes back begins nothing anew
                m[name], m[name + "_from"] = now[name], m["last"]
                turned = True
        moved = m["last"] != str(sum_wei)
        m["last"] = str(sum_wei)
        if turned:
            self._write(self.flash, True)
        if turned or moved:
            self._write(self.ram, False)

    def status(self):
        """{day_wei, month_wei}, decimal strings; None before anything is known."""
        m = self._marks
        if m is None:
            return None
        return {name + "_wei": str(int(m["last"]) - int(m[name + "_from"])) for name in _NAMES}

    def _write(self, path, sync):
        files.write_atomic(path, json.dumps(self._marks).encode(), 0o644, sync)


def _read(path):
    """Kept sums, or None when they are missing or damaged."""
    text = files.read(path)
    try:
        kept = json.loads(text) if text else None
        good = isinstance(kept, dict)
        for name in ("last", "day_from", "month_from") if good else ():
            int(kept[name])
        return kept if good and isinstance(kept["day"], str) and isinstance(kept["month"], str) else None
    except (ValueError, KeyError, TypeError):
        return None
