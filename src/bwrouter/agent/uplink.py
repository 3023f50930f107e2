"""What the line carries upstream: the owner's number, or learnt from what it has carried and when a queue stood.

Learning (settings uplink_kbps 0): the highest rate seen without a queue is proven (`peak`); the relay may go a quarter
beyond it, until the round trip says that a queue stands in the modem. While one stands, the line is busy all the time:
bytes / (time + growth of the queue in time) is its rate, whether the counter shows what enters the modem or what
leaves it (`measured`). The median of the last few measurements holds; it is tried again after RETRY_MS.
"""

from ..platform import clock

START_KBPS = 1000  # where learning begins: a line slower than this shows a queue at once
BEYOND = 4  # 1 / BEYOND more than proven is tried
WINDOW_MS = 1000
QUEUE_US = 8000  # a round trip so much above its least shows a queue
MEASURE_MS = 400  # shortest span of a measurement
KEEP = 5  # measurements that the median is taken of
PROBE_MS = 60000  # how long a probing phase that the owner asks for may last
RETRY_MS = 600000  # a measured line is tried for more after so long: lines get faster, too
RETRY_PCT = 106


class Uplink:
    """`kbps`: the rate to reckon with. `sure`: "owner", "measured", "peak" (at least this) or "unknown"."""

    def __init__(self, owner_kbps):
        self.owner = owner_kbps
        self.kbps = owner_kbps or START_KBPS
        self.sure = "owner" if owner_kbps else "unknown"
        self.measured = 0  # what was measured, also where the owner's number holds
        self._window = []  # (ms, WAN bytes, queue in us or -1)
        self._found = []
        self._at = None  # of the last measurement
        self._probe = None  # since when a probing phase runs (ms)
        self._best = 0  # and the highest rate without a queue in it

    def line(self, sees_delay):
        """kbit/s that all traffic together may use now. Without a round trip nothing beyond the proven is tried."""
        if self._probe is not None and sees_delay:
            most = max(self.kbps, self._best)
            return most + most // BEYOND
        if self.sure in ("owner", "measured") or not sees_delay:
            return self.kbps
        return self.kbps + self.kbps // BEYOND

    def probe(self, now):
        """The owner asks for a measurement: buyers' cells may go beyond what is set or proven until a queue shows.

        The owner's number holds all the same; `measured` is then what was found.
        """
        self._probe, self._best, self._found = now, 0, []

    @property
    def probing(self):
        return self._probe is not None

    def sample(self, now, wan, queue_us):
        """A tick: WAN bytes (None: unreadable), and the queue's delay in us (-1: not known)."""
        if self._probe is not None and clock.diff(now, self._probe) > PROBE_MS:
            self._probe = None
        window = self._window
        if wan is None or (window and wan < window[-1][1]):
            self._window = []
            return
        window.append((now, wan, queue_us))
        # A measurement begins where a queue stood and has not been empty since.
        if queue_us >= QUEUE_US and len(window) > 1 and window[-2][2] < QUEUE_US:
            window = self._window = window[-1:]
        while len(window) > 2 and clock.diff(now, window[1][0]) >= WINDOW_MS:
            window.pop(0)
        first = window[0]
        spent = clock.diff(now, first[0])
        if spent < MEASURE_MS:
            return
        if min([seen[2] for seen in window]) >= QUEUE_US:
            busy = spent + (queue_us - first[2]) // 1000
            if busy >= spent // 2:
                self._measure(now, (wan - first[1]) * 8 // busy)
        elif spent >= WINDOW_MS * 9 // 10 and 0 <= queue_us < QUEUE_US:
            kbps = (wan - first[1]) * 8 // spent
            self._best = max(self._best, kbps)
            if not self.owner:
                self._peak(now, kbps)

    def _measure(self, now, kbps):
        if kbps <= 0:
            return
        self._window = self._window[-1:]
        self._found.append(kbps)
        if len(self._found) > KEEP:
            self._found.pop(0)
        self.measured = sorted(self._found)[(len(self._found) - 1) // 2]
        self._at = now
        if len(self._found) >= 2:
            self._probe = None
        if not self.owner and len(self._found) >= 2:
            self.kbps, self.sure = self.measured, "measured"

    def _peak(self, now, kbps):
        if self.sure == "measured" and clock.diff(now, self._at) > RETRY_MS:
            self._at = now
            self._found = []
            self.kbps = self.kbps * RETRY_PCT // 100
        elif self.sure != "measured" and kbps > self.kbps * 9 // 10:
            self.kbps = max(self.kbps, kbps)
            self.sure = "peak"
