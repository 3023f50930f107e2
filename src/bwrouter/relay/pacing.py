"""How fast the relay may send: a token bucket fed by the agent's rate, with a floor when the agent falls silent."""

from ..platform import clock

STALE_MS = 2000  # without an update for so long the relay falls to its floor
DEPTH_MS = 4  # what an idle bucket saves up: a burst of so long into the modem's queue


class Pacer:
    """Tokens are bytes on the WAN's wire (UDP and IP headers included). Rates in kbit/s."""

    def __init__(self, floor_kbps):
        self.floor = floor_kbps
        self.rate = floor_kbps
        self.tokens = 0
        self._at = clock.us()
        self._heard = clock.ms()
        self.reason = "floor"

    def update(self, kbps, reason):
        """A rate from the agent."""
        self.rate = kbps
        self.reason = reason
        self._heard = clock.ms()

    def refill(self):
        """Tokens now, after what has passed since the last call."""
        now = clock.us()
        dt = clock.diff(now, self._at)
        if dt < 200:
            return self.tokens
        self._at = now
        if dt > 50000:
            dt = 50000
        rate = self.rate
        if clock.diff(clock.ms(), self._heard) > STALE_MS:
            rate = min(rate, self.floor)
            self.reason = "floor"
        # kbit/s is bits a millisecond; split so that 31 bits suffice at 10 Gbit/s.
        self.tokens += rate * (dt // 8) // 1000 if rate < 200000 else (rate // 1000) * (dt // 8)
        deep = max(rate * DEPTH_MS // 8, 3000)
        if self.tokens > deep:
            self.tokens = deep
        return self.tokens

    def wait_ms(self):
        """Milliseconds until tokens are positive again, at least 1."""
        return min(100, max(1, -self.tokens * 8 // max(self.rate, 1)))
