"""The line's own delay: round trips against their own least (LEDBAT, RFC 6817: base delay and current filter)."""

from ..platform import clock

BASE_MINUTES = 10  # the least of so many minutes is the base: a route change is forgotten after them
CURRENT = 3  # the least of the last so many is the current delay: one late answer is no queue
TARGET_US = 10000  # a queue longer than this is the line's, not noise
TARGET_PART = 4  # ... nor shorter than 1 / TARGET_PART of the base: long paths are noisier
BRAKE_EVERY_MS = 400  # a brake shows its effect after the queue has drained
STANDS = 2  # ticks that a queue must stand
DEEP = 8  # braked to 1 / DEEP without effect: look again at what the delay means
RELEASE = 25  # of the limit a tick


class Delay:
    """`base_us` and `queue_us` are -1 while nothing has been heard."""

    def __init__(self):
        self.base_us = -1
        self.queue_us = -1
        self.last_us = -1  # queue of the last answer alone
        self._minutes = []
        self._minute = None
        self._last = []
        self._heard = None

    def heard(self, now, rtt_us):
        """A round trip of so many us, at `now` (ms)."""
        if self._minute is None or clock.diff(now, self._minute) >= 60000:
            self._minute = now
            self._minutes.append(rtt_us)
            if len(self._minutes) > BASE_MINUTES:
                self._minutes.pop(0)
        elif rtt_us < self._minutes[-1]:
            self._minutes[-1] = rtt_us
        self._last.append(rtt_us)
        if len(self._last) > CURRENT:
            self._last.pop(0)
        self._heard = now
        self.base_us = min(self._minutes)
        self.queue_us = min(self._last) - self.base_us
        self.last_us = rtt_us - self.base_us

    def rebase(self):
        """What is measured now is no queue but the path itself."""
        self._minutes = [min(self._last)]
        self.base_us = self._minutes[0]
        self.queue_us = self.last_us = 0

    def late(self, now):
        """No answer for a second: what was known says nothing any more."""
        if self._heard is not None and clock.diff(now, self._heard) > 1000:
            self._last = []
            self.queue_us = self.last_us = -1

    def target_us(self):
        return max(TARGET_US, self.base_us // TARGET_PART)


class Brake:
    """The second brake: halves what the relay may send while a queue stands that the relay has a part in."""

    def __init__(self):
        self.limit = None  # kbit/s; None: off
        self._at = None
        self._ticks = 0  # for so many the queue has stood, with us in it

    def step(self, now, delay, own_kbps, wan_kbps, most, known_ms=0):
        """The most that the relay may send in kbit/s; `most` is what else allows.

        `known_ms`: the longest queue of the household's that the relay has waited out lately: that is no news.
        """
        standing = delay.queue_us > delay.target_us() and delay.base_us >= 0
        # A queue that the household alone makes is its own: the counter has stopped the relay already.
        ours = standing and own_kbps * 4 > wan_kbps and own_kbps > 0 and known_ms * 2000 < delay.queue_us
        self._ticks = self._ticks + 1 if ours else 0
        if ours:
            if self._ticks < STANDS:
                pass  # the household's queue may be draining while we begin again
            elif self._at is None or clock.diff(now, self._at) >= BRAKE_EVERY_MS:
                self._at = now
                now_kbps = min(most, own_kbps if self.limit is None else min(own_kbps, self.limit))
                self.limit = now_kbps // 2
            if self.limit is not None and self.limit * DEEP <= most and wan_kbps * 2 < most:
                delay.rebase()  # a line that is half empty has no queue: the path has become longer
        elif self.limit is not None and not standing:
            self.limit += max(most // RELEASE, 1)
            if self.limit >= most:
                self.limit = None
        return most if self.limit is None else min(most, self.limit)
