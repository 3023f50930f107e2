"""The controller: from a sample of the line to the rate that the relay may have, and why. No I/O, no clock of its own.

Two ways to leave the line to the household. Where the relay sees the WAN's counter itself (`reflex`, relay/pacing.py)
it takes the household's bytes off within milliseconds; the controller then gives it the line and the caps. Where it
does not, rate.py does the same a tick at a time: falls at once, grows slowly. The delay brake stands behind both.
"""

from . import rate
from .delay import Brake, Delay
from .uplink import QUEUE_US, Uplink

HIDDEN_PCT = 5  # of the uplink: all that is dared where the household cannot be seen
SMALL_PCT = 5  # of the uplink: a household below this is not why the rate is what it is
DEMAND_PCT = 70  # of what is allowed: below this, buyers ask for no more
BUSY_PCT = 90  # of a core, by the relay: it cannot do more


class Sample:
    """What is known at one tick. Rates in kbit/s, `now` in ms of the agent's clock."""

    def __init__(self, now, wan, household=None, own=0, full=False):
        self.now = now
        self.wan = wan  # the WAN's byte counter, None when it cannot be read
        self.household = household  # what the household sends, None when unknown
        self.own = own  # what the relay sends
        self.full = full  # whether the line is full (rate.Household)
        self.reflex = False  # whether the relay sees the counter
        self.stopped = ""  # "quota", "schedule" or "pause": nothing may be sent
        self.hidden = ""  # why the counter cannot be trusted: "offload"
        self.left = None  # bytes that a quota leaves
        self.debt_ms = 0  # the longest queue that the relay has known of in the last ticks, and kept out of
        self.queued = False  # whether buyers' cells wait in the relay
        self.busy_pct = 0  # of a core, by the relay


class Controller:
    """`allowed`: kbit/s that the relay may send now, as shown; `kbps`, `line`: what the relay is told."""

    def __init__(self, settings):
        self.settings = settings
        self.uplink = Uplink(settings["uplink_kbps"])
        self.delay = Delay()
        self.brake = Brake()
        self.allowed = self.kbps = rate.LEAST_KBPS
        self.line = 0
        self.reason = "starting"

    def free_kbps(self):
        """The line less the owner's reserve."""
        line = self.uplink.line(self.delay.base_us >= 0)
        return line * (100 - self.settings["reserve_pct"]) // 100

    def limit_kbps(self):
        """The most that the relay may ever send."""
        return self._limit(self.free_kbps())[0]

    def settled(self):
        """Whether nothing is being found out: while no buyer is there, ticks may be rare."""
        finding = self.reason in ("starting", "rising", "delay") or self.uplink.probing
        return not finding and self.delay.queue_us < QUEUE_US

    def step(self, s):
        """One tick: sets `allowed`, `kbps`, `line` and `reason`."""
        self.delay.late(s.now)
        self.uplink.sample(s.now, s.wan, self.delay.last_us)
        free = self.free_kbps()
        if s.stopped:
            self._set(0, 0, "schedule" if s.stopped == "pause" else s.stopped)
        elif s.wan is None:
            self._set(self.settings["floor_kbps"], 0, "counters")
        elif s.hidden:
            cap = max(self.settings["floor_kbps"], self.uplink.kbps * HIDDEN_PCT // 100)
            self._set(min(cap, self._limit(free)[0]), 0, s.hidden)
        else:
            self._share(s, free)
        if s.left is not None and self.kbps * (rate.TICK_MS * 2) // 8 > s.left:
            # The last bytes go slowly, so that no tick runs beyond the quota.
            self.kbps = self.allowed = s.left * 8 // (rate.TICK_MS * 2)
            self.reason = "quota"

    def fall(self, s):
        """Between two ticks: a household's burst lowers the rate at once. Returns whether it did."""
        if s.stopped or s.hidden or s.wan is None or s.reflex or s.household is None:
            return False
        lower, reason = self._classic(s, self.free_kbps())
        if lower >= self.kbps:
            return False
        self._set(lower, 0, reason)
        return True

    def _share(self, s, free):
        limit, reason = self._limit(free)
        idle = max(0, free - s.household) * self.settings["share_pct"] // 100 if s.household is not None else 0
        if s.reflex:
            told, shown = limit, max(rate.LEAST_KBPS, min(limit, idle))
            if idle < limit and s.household is not None and s.household > free * SMALL_PCT // 100:
                reason = "household"
        else:
            told, reason = self._classic(s, free)
            shown = told
        braked = self.brake.step(s.now, self.delay, s.own, s.own + (s.household or 0), told, s.debt_ms)
        if braked < told:
            told, reason = max(braked, rate.LEAST_KBPS), "delay"
            shown = min(shown, told)
        elif reason in ("cap", "uplink", "rising") and not s.queued and s.own < shown * DEMAND_PCT // 100:
            reason = "no demand"
        elif reason in ("cap", "uplink") and s.busy_pct >= BUSY_PCT and s.own < shown * DEMAND_PCT // 100:
            reason = "cpu"
        self._set(told, free if s.reflex else 0, reason, shown)

    def _classic(self, s, free):
        limit = self._limit(free)
        return rate.step(self.settings, self.kbps, s.household, s.full, free, limit)

    def _limit(self, free):
        cap = self.settings["cap_kbps"]
        most = free * self.settings["share_pct"] // 100
        return (cap, "cap") if 0 < cap < most else (most, "cap" if self.settings["share_pct"] < 100 else "uplink")

    def _set(self, kbps, line, reason, shown=None):
        self.kbps, self.line, self.reason = kbps, line, reason
        self.allowed = kbps if shown is None else shown
