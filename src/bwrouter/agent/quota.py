"""Bytes relayed a day and a billing month, on the WAN's wire with all headers; pure but for the two files.

A copy is in RAM (survives the agent), one on flash (survives the power), written at most once an hour. What was sent
between that and a power cut is found again in what the gateways have been shown: every unit is redeemed within
seconds, and the gateway tells the sum. So flash keeps that sum beside the bytes, and the bytes that a unit was on the
wire. Periods are kept by name (a local date), so a clock that jumps forth and back finds its numbers again; while the
clock is not set at all, bytes wait for their day.
"""

import json

from ..platform import files

FLASH_S = 3600
KEEP_DAYS = 4
KEEP_MONTHS = 2
UNIT = 65536
PER_UNIT = 71000  # bytes on the wire of a unit, until it has been measured
MB = 1000000


def day_key(t):
    """Name of the day of a local time tuple (year, month, day, ...)."""
    return "%04d-%02d-%02d" % (t[0], t[1], t[2])


def month_key(t, billing_day):
    """Name of the billing month: the year and month in which it began."""
    year, month = t[0], t[1]
    if t[2] < billing_day:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return "%04d-%02d" % (year, month)


class Quota:
    """`left()` says how many bytes may still go. `ram` and `flash` are paths."""

    def __init__(self, settings, ram, flash):
        self.day_most = settings["quota_day_mb"] * MB
        self.month_most = settings["quota_month_mb"] * MB
        self.billing_day = settings["billing_day"]
        self.ram, self.flash = ram, flash
        self.on = bool(self.day_most or self.month_most)
        self.days, self.months = {}, {}
        self.day = self.month = ""
        self.waiting = 0  # bytes while the clock was not set
        self.units = None  # the gateways' sum, as far as known
        self.total = 0  # bytes in all
        self.per_unit = PER_UNIT
        self.own = None  # the relay's count of its bytes, as far as it is in here
        self._mark = None  # (units, total) from which per_unit is measured
        self._flash_units = None
        self._recover = False
        self._written = None  # uptime seconds of the last flash write
        self._dirty = False
        self._load()

    def _load(self):
        ram = _read(self.ram)
        kept = ram if ram is not None else _read(self.flash)
        if kept is None:
            return
        self.days, self.months = kept["days"], kept["months"]
        self.total, self.per_unit = kept["total"], kept["per_unit"]
        self.waiting = kept["waiting"]
        self._flash_units = kept["units"]
        if ram is not None:
            self._written, self.own = ram.get("written"), ram.get("own")
            self.units = kept["units"]
        else:
            self._recover = True

    def add(self, size, t):
        """`size` more bytes went out; `t` is the local time tuple, None while the clock is not set."""
        self.total += size
        self._dirty = self._dirty or size > 0
        if t is None:
            self.waiting += size
            return
        size += self.waiting
        self.waiting = 0
        self.day, self.month = day_key(t), month_key(t, self.billing_day)
        self.days[self.day] = self.days.get(self.day, 0) + size
        self.months[self.month] = self.months.get(self.month, 0) + size
        _trim(self.days, KEEP_DAYS, self.day)
        _trim(self.months, KEEP_MONTHS, self.month)

    def count(self, own, t):
        """The relay says that it has sent `own` bytes in all; one that started anew counts from zero."""
        before, self.own = self.own, own
        if before is not None:
            self.add(own - before if own >= before else own, t)

    def redeemed(self, units, t):
        """Units redeemed in all and those about to be; after a power cut this brings back what flash had not seen."""
        if self._recover and self._flash_units is not None:
            if t is None:
                return  # its day is not known yet
            self._recover = False
            lost = max(0, units - self._flash_units) * self.per_unit
            self.add(lost, t)
            self._mark = (units, self.total)
        self.units = units
        if self._mark is None or units < self._mark[0]:
            self._mark = (units, self.total)
        elif units - self._mark[0] >= 256:  # 16 MiB: enough to tell
            found = (self.total - self._mark[1]) // (units - self._mark[0])
            if UNIT // 8 <= found <= 2 * UNIT:
                self.per_unit = found
            self._mark = (units, self.total)

    def left(self):
        """Bytes that may still go, None without a quota."""
        out = None
        for most, used in ((self.day_most, self.used_day()), (self.month_most, self.used_month())):
            if most:
                rest = max(0, most - used)
                out = rest if out is None else min(out, rest)
        return out

    def used_day(self):
        return self.days.get(self.day, 0) + self.waiting

    def used_month(self):
        return self.months.get(self.month, 0) + self.waiting

    def save(self, uptime):
        """Keep it: RAM at every call, flash at most once an hour. Returns whether flash was written. Raises OSError."""
        if not self.on:
            return False
        write = self._dirty and (self._written is None or uptime - self._written >= FLASH_S)
        text = {
            "days": self.days,
            "months": self.months,
            "waiting": self.waiting,
            "total": self.total,
            "per_unit": self.per_unit,
            "units": self.units if self.units is not None else self._flash_units,
        }
        if write:
            files.write_atomic(self.flash, json.dumps(text).encode())
            self._written = uptime
            self._dirty = False
        text["written"], text["own"] = self._written, self.own
        files.write_atomic(self.ram, json.dumps(text).encode(), 0o644, False)
        return write


def _trim(periods, most, now):
    """Forget the oldest beyond `most`; never the one that runs."""
    while len(periods) > most:
        old = [name for name in sorted(periods) if name != now]
        del periods[old[0]]


def _read(path):
    """A kept state, or None when it is missing or damaged."""
    text = files.read(path)
    try:
        kept = json.loads(text) if text else None
        if not isinstance(kept, dict):
            return None
        good = all([isinstance(kept[name], int) for name in ("waiting", "total", "per_unit")])
        for name in ("days", "months"):
            good = good and all([isinstance(size, int) for size in kept[name].values()])
        units = kept["units"]
        return kept if good and (units is None or isinstance(units, int)) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
