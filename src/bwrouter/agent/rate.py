"""How fast the relay may send so that the household keeps its uplink: pure functions of counters.

allowed = min(cap, uplink * (1 - reserve) - household); it falls at once and grows slowly.
"""

from ..platform import clock

TICK_MS = 200
LEAST_KBPS = 8  # keeps circuits alive when the household uses everything
RISE = 25  # a step up is at most limit / RISE in a tick: from nothing to all in 5 s
OWN_LATE_MS = 3000  # without the relay's counters for so long, all traffic counts as the household's
MARGIN = 10  # uplink / MARGIN: by so much a single tick may exceed what is allowed before it counts as household


def limit_kbps(settings):
    """(most that the relay may ever send, why): the owner's cap or the uplink less its reserve."""
    free = settings["uplink_kbps"] * (100 - settings["reserve_pct"]) // 100
    cap = settings["cap_kbps"]
    return (cap, "cap") if 0 < cap < free else (free, "uplink")


def step(settings, allowed, household):
    """The next (allowed kbit/s, reason) after `allowed`, for a household that sends `household` kbit/s (None: unknown).

    Reasons: `counters` (no WAN counter: the floor), `household`, `cap`, `uplink`, `rising`.
    """
    if household is None:
        return settings["floor_kbps"], "counters"
    limit, reason = limit_kbps(settings)
    free = settings["uplink_kbps"] * (100 - settings["reserve_pct"]) // 100 - household
    if free < limit:
        limit, reason = max(free, LEAST_KBPS), "household"
    rise = max(limit // RISE, LEAST_KBPS)
    if limit > allowed + rise:
        return allowed + rise, "rising"
    return limit, reason


class Household:
    """What the household sends, in kbit/s, from the WAN's byte counter and the relay's own. Times in ms of one clock.

    The relay's counters come once a second: between them, traffic above what the relay may send is the household's.
    """

    def __init__(self, settings):
        self.margin = settings["uplink_kbps"] // MARGIN
        self.kbps = None  # the estimate; None before the first
        self._exact = 0
        self._exact_at = None
        self._tick = None  # (time, WAN bytes)
        self._pair = None  # (time, WAN bytes, own bytes)

    def stats(self, now, wan, own):
        """The relay's counters have come: `own` bytes on the WAN's wire, `wan` the WAN's counter (None: unreadable)."""
        before, self._pair = self._pair, (now, wan, own)
        if wan is None:
            self._pair = None
        elif before is not None and clock.diff(now, before[0]) >= 100:
            spent = (wan - before[1]) - (own - before[2])
            if wan >= before[1] and own >= before[2]:
                self._exact = max(0, spent) * 8 // clock.diff(now, before[0])
                self._exact_at = now

    def tick(self, now, wan, allowed):
        """A tick of TICK_MS: `wan` as above, `allowed` what the relay last got. Returns the estimate or None."""
        before, self._tick = self._tick, (now, wan)
        if wan is None or before is None or before[1] is None or wan < before[1] or clock.diff(now, before[0]) <= 0:
            # The first sample, or an interface that vanished or was made anew.
            self.kbps = None
            if wan is None:
                self._pair = None
            return None
        total = (wan - before[1]) * 8 // clock.diff(now, before[0])
        if self._exact_at is None or clock.diff(now, self._exact_at) > OWN_LATE_MS:
            self.kbps = total
        else:
            above = total - allowed
            self.kbps = max(self._exact, above if above > self.margin else 0)
        return self.kbps
