"""How fast the relay may send so that the household keeps its uplink: pure functions of counters.

allowed = min(cap, uplink * (1 - reserve) - household); it falls at once and grows slowly. A full line hides what the
household wants (the relay's own bytes wait in the queue and count as sent): then the relay gives way to a quarter.
"""

from ..platform import clock

TICK_MS = 200
REST_MS = 1600  # the same while nothing is relayed: the relay says at once when that ends
LEAST_KBPS = 8  # keeps circuits alive when the household uses everything
RISE = 25  # a step up is at most limit / RISE in a tick: from nothing to all in 5 s
OWN_LATE_MS = 3000  # without the relay's counters for so long, all traffic counts as the household's
MARGIN = 20  # uplink / MARGIN: what a window of one tick may be off by, from two counters being read at two times
WINDOW_MS = 1000  # the exact estimate's window
FULL_PCT = 98  # of the uplink, over two ticks: the line is full
YIELD = 4  # a full line divides what is allowed by this
SHORT_MS = 150  # a shorter window says nothing


def limit_kbps(settings):
    """(most that the relay may ever send, why): the owner's cap or the uplink less its reserve."""
    free = settings["uplink_kbps"] * (100 - settings["reserve_pct"]) // 100
    cap = settings["cap_kbps"]
    return (cap, "cap") if 0 < cap < free else (free, "uplink")


def step(settings, allowed, household, full=False, free=None, most=None):
    """The next (allowed kbit/s, reason) after `allowed`, for a household that sends `household` kbit/s (None: unknown).

    `full`: the line is full, so that `household` is too low. `free`: the line less its reserve, `most`: (limit, why),
    where they are not the settings'.

    Reasons: `counters` (no WAN counter: the floor), `household`, `cap`, `uplink`, `rising`.
    """
    if household is None:
        return settings["floor_kbps"], "counters"
    limit, reason = most or limit_kbps(settings)
    rise = max(limit // RISE, LEAST_KBPS)
    if free is None:
        free = settings["uplink_kbps"] * (100 - settings["reserve_pct"]) // 100
    free = (free - household) * settings.get("share_pct", 100) // 100
    if free < limit:
        limit, reason = max(free, LEAST_KBPS), "household"
    if full:
        limit, reason = max(min(limit, allowed // YIELD), LEAST_KBPS), "household"
    if limit > allowed + rise:
        return allowed + rise, "rising"
    return limit, reason


class Household:
    """What the household sends, in kbit/s: the WAN's byte counter less the relay's own. Times in ms of one clock.

    Over a second the difference is exact; over one tick it is rough, but shows a burst at once.
    """

    def __init__(self, settings):
        self.reckon(settings["uplink_kbps"])
        self.full = False  # whether the last pair showed a full line
        self.kbps = None  # the estimate; None before the first
        self._tick = None  # (time, WAN bytes)
        self._pairs = []  # (time, WAN bytes, own bytes), the newest last

    def reckon(self, uplink_kbps):
        """The line's rate, as far as it is known."""
        self.margin = uplink_kbps // MARGIN
        self.full_kbps = uplink_kbps * FULL_PCT // 100

    def own(self, now, wan, own):
        """The relay has sent `own` bytes on the WAN's wire in all, `wan` is the WAN's counter (None: unreadable).

        Returns the estimate, or None when this pair gives none.
        """
        self.full = False
        if wan is None:
            self._pairs = []
            return None
        last = self._pairs[-1] if self._pairs else None
        if last is not None and (wan < last[1] or own < last[2]):
            self._pairs = []  # an interface or a relay that was made anew
        elif last is not None and clock.diff(now, last[0]) < SHORT_MS:
            return None
        self._pairs.append((now, wan, own))
        if len(self._pairs) < 2:
            return None
        # The window's beginning is the newest pair that is WINDOW_MS old.
        while len(self._pairs) > 2 and clock.diff(now, self._pairs[1][0]) >= WINDOW_MS:
            self._pairs.pop(0)
        exact = self._between(self._pairs[0], self._pairs[-1])
        short = self._between(self._pairs[-2], self._pairs[-1])
        self.kbps = short if short > exact + self.margin else exact
        if len(self._pairs) > 2:
            first, last = self._pairs[-3], self._pairs[-1]
            self.full = (last[1] - first[1]) * 8 // clock.diff(last[0], first[0]) >= self.full_kbps
        if self.full:
            self._pairs = self._pairs[-1:]  # the next verdict is over what comes after the relay has given way
        return self.kbps

    def tick(self, now, wan):
        """A tick of TICK_MS; `wan` as above. Returns the estimate, or None when nothing is known."""
        before, self._tick = self._tick, (now, wan)
        if wan is None or before is None or before[1] is None or wan < before[1] or clock.diff(now, before[0]) <= 0:
            # The first sample, or an interface that vanished or was made anew.
            self.kbps = None
            if wan is None:
                self._pairs = []
        elif not self._pairs or clock.diff(now, self._pairs[-1][0]) > OWN_LATE_MS:
            self.kbps = (wan - before[1]) * 8 // clock.diff(now, before[0])
        return self.kbps

    @staticmethod
    def _between(first, last):
        spent = (last[1] - first[1]) - (last[2] - first[2])
        return max(0, spent) * 8 // clock.diff(last[0], first[0])
