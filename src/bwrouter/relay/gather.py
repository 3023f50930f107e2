"""A short wait under load, so that datagrams are taken in batches.

A process that is woken by each datagram takes each alone: poll(2), recvmmsg(2) and sendmmsg(2) for one, and the next
has come before it is through, so that it never sleeps and never finds two. Measured on x86: 31 us a cell instead of 9.
A network card delays its interrupts for the same reason. Below BUSY cells a millisecond (70 Mbit/s) nothing waits.
"""

from ..platform import clock, ffi

USLEEP = ffi.func(ffi.LIBC, "i", "usleep", "I")

GATHER_US = 200  # so long
BUSY = 6  # cells a millisecond
ENOUGH = 32  # cells in a batch that came without waiting
_SPAN_US = 4000  # over which the rate is taken
_REST_US = 100000  # a span so long says that nothing came meanwhile


class Gather:
    """`wait` between poll and receive, `took` after."""

    def __init__(self):
        self.busy = False
        self._at = clock.us()
        self._cells = 0
        self._last = 0

    def wait(self):
        """Something has come: let more come, if much does."""
        if self.busy and self._last < ENOUGH:
            USLEEP(GATHER_US)

    def took(self, cells):
        """So many have been taken in this turn."""
        self._last = cells
        self._cells += cells
        now = clock.us()
        span = clock.diff(now, self._at)
        if 0 <= span < _SPAN_US:
            return
        self.busy = 0 < span < _REST_US and self._cells * 1000 > span * BUSY
        self._at = now
        self._cells = 0
