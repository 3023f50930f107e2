"""How fast the relay may send: the agent's rate, and what the line has left over, as two token buckets.

The first fills at the agent's rate and is the owner's cap. The second fills at the line's rate and pays for the
household's bytes too (reflex.py): without the WAN's counter it does not exist, and the agent's rate has the household
taken off already. When the agent falls silent the floor holds.
"""

from ..platform import clock, frames
from .reflex import BEHIND

STALE_MS = 2000  # without an update for so long the relay falls to its floor
DEPTH_MS = 4  # what an idle bucket saves up: a burst of so long into the modem's queue
LINE_DEPTH_MS = 4  # and of the line's bucket: a relay that wakes late makes good for so long
DEPTH_LEAST = 1500  # bytes: one packet
DEBT_MS = 300  # of the line: what lies in a modem's queue beyond this was dropped, or will never be worth waiting for
TRICKLE_US = 1300000  # a packet in so long keeps circuits alive whatever the household does
EARN_US = 300000  # at a time: more would not fit 31 bits
EXIT_DEBT_MS = 20  # buyers' packets to the internet are not queued here: beyond this they are dropped
OUR_HEADERS = 48  # IPv6 and UDP: what each datagram is charged beside itself
_SPLIT = 200000  # kbit/s: above, multiply after dividing, so that 31 bits suffice at 10 Gbit/s


class Pacer:
    """Tokens are bytes on the WAN's wire (UDP and IP headers included). Rates in kbit/s.

    `own_bytes` (below 2^20, the rest in `own_mib`) and `own_cells` say what was sent: payloads of UDP, datagrams.
    """

    def __init__(self, floor_kbps, reflex=None):
        self.floor = floor_kbps
        self.rate = floor_kbps
        self.line = 0
        self.share = 100
        self.tokens = 0
        self.reflex = reflex
        self.headers = 42  # bytes of a datagram on the WAN beside its payload: Ethernet, IPv4, UDP
        self.own_bytes = self.own_mib = self.own_cells = 0
        self._own = 0  # the first bucket
        self._room = 0  # the second
        self.debt_ms = 0  # the most that the line's bucket was in debt since the agent asked: a queue that is known of
        self._spent = 0  # since the last refill
        self._new_bytes = self._new_cells = self._new_exit = 0
        self._at = clock.us()
        self._looked = self._at
        self._free = self._at  # when the line had room last
        self._heard = clock.ms()
        self.reason = "floor"
        self._look = frames.step(self._looking())

    def update(self, kbps, reason, line=0, share=100):
        """A rate from the agent; `line`: what the line carries less its reserve, `share`: % of what is idle."""
        self.rate = kbps
        self.reason = reason
        self.line = line
        self.share = share
        self._heard = clock.ms()

    def spend(self, charged, cells):
        """`cells` datagrams go out, for which `charged` bytes were due, OUR_HEADERS each among them."""
        self.tokens -= charged
        self._spent += charged
        self._new_bytes += charged
        self._new_cells += cells

    def through(self, size):
        """`size` bytes go out of the WAN by the exit's TUN; the agent counts them itself. False: there is no room."""
        if self.tokens < -max(self.rate * EXIT_DEBT_MS // 8, 3000):
            return False
        self.tokens -= size
        self._spent += size
        self._new_exit += size
        return True

    def sees(self):
        """Whether the household is seen here, so that the agent need not take it off the rate."""
        return self.reflex is not None and self.reflex.fd >= 0 and self.line > 0

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
        own = self._own + earned(rate, dt) - self._spent
        self._spent = 0
        deep = max(rate * DEPTH_MS // 8, 3000)
        self._own = self.tokens = deep if own > deep else own
        if self.reflex is not None and self.reflex.fd >= 0:
            self._line(now)
        else:
            self._count()
        return self.tokens

    def _line(self, now):
        """The line's bucket: all that the line has carried since the last look is paid from it."""
        dt = clock.diff(now, self._looked)
        if dt >= self.reflex.every:
            self._look()
        elif self.line:
            left = self._room + earned(self.line, dt) - (self._new_bytes + self._new_exit) * 100 // self.share
            if left < self.tokens:
                self.tokens = left

    def _looking(self):
        while True:
            yield
            now = self._at
            line = self.line
            dt = clock.diff(now, self._looked)
            self._looked = now
            own = self._new_bytes + self._new_cells * (self.headers - OUR_HEADERS) + self._new_exit
            self._count()
            household = self.reflex.look(now, own)
            if household < 0 or not line:
                continue
            if dt > 10 * EARN_US:
                dt = 10 * EARN_US
            room = self._room - household - own * 100 // self.share
            while dt > EARN_US and room < 0:  # after a rest
                dt -= EARN_US
                room += earned(line, EARN_US)
            room += earned(line, min(dt, EARN_US))
            deep = max(line * LINE_DEPTH_MS // 8, DEPTH_LEAST)
            debt = -line * DEBT_MS // 8
            if room > deep:
                room = deep
            elif room < debt:
                room = debt
            if room < 0:
                self.debt_ms = max(self.debt_ms, -room * 8 // line)
            # A queue of this machine itself (a modem that is built in): ours are behind the household's, or it is long.
            waits = self.reflex.waits
            if waits > 2 * deep + 4096 or (waits > BEHIND and household > DEPTH_LEAST):
                room = min(room, 0)
            if room > 0:
                self._free = now
            self._room = room
            if room < self.tokens:
                if clock.diff(now, self._free) > TRICKLE_US:
                    self._free = now
                    self.tokens = min(self.tokens, 1)
                else:
                    self.tokens = room

    def _count(self):
        """Move what was sent to the totals."""
        self.own_bytes += self._new_bytes - OUR_HEADERS * self._new_cells
        self.own_mib += self.own_bytes >> 20
        self.own_bytes &= 1048575
        self.own_cells += self._new_cells
        self._new_bytes = self._new_cells = self._new_exit = 0

    def sent(self):
        """(bytes of UDP payload, datagrams) sent so far."""
        cells = self._new_cells
        size = self.own_mib * 1048576 + self.own_bytes + self._new_bytes - OUR_HEADERS * cells
        return size, self.own_cells + cells

    def wait_ms(self):
        """Milliseconds until tokens are positive again, at least 1."""
        rate = self.rate
        if self.line and self.line < rate:
            rate = self.line
        return min(100, max(1, -self.tokens * 8 // max(rate, 1)))


def earned(kbps, us):
    """Bytes that `kbps` kbit/s carry in `us` microseconds (at most 300,000)."""
    # kbit/s is bits a millisecond.
    return kbps * (us // 8) // 1000 if kbps < _SPLIT else (kbps // 1000) * (us // 8)
