"""The household's bytes within milliseconds: the WAN's own counter, read by the process that must give way.

The agent passes the counter's open file (`/sys/class/net/WAN/statistics/tx_bytes`), so the jailed relay needs no path.
What the counter shows beyond our own bytes is the household's. It is charged to the same bucket as our cells, which
fills at the line's rate: the bucket mirrors the modem's queue, and we send only while that queue is empty. So the
relay stops within LOOK_US of the household's first packet and goes on when its last has left the modem.

Nothing is allocated in `look`. Only the last nine digits of the counter are read: they fit a small integer on MIPS.
"""

from ..platform import arena, clock, consts, ffi, net

LOOK_US = 4000  # between two looks: what the household may have to wait for us
LOOK_BEHIND_US = 2000  # ... while ours wait in this machine's own queue, where the household's bytes show late
BEHIND = 2048  # bytes that wait: more than what a driver's ring holds for a moment
STILL_BYTES = 65536  # we sent so much and the counter stood still: it does not count us (offloading, wrong interface)
STILL_US = 1500000  # ... for so long: some drivers fetch their counters once a second
_MOD = 1000000000
_IOCTL = ffi.func(ffi.LIBC, "i", "ioctl", "iLP")


class Reflex:
    """`fd` is the counter's file, -1 without one; `blind` says why there is none: "", "gone" or "still"."""

    def __init__(self, socket_fd):
        self.fd = -1
        self.blind = ""
        self.socket_fd = socket_fd
        self._text = arena.take(64)
        self._bytes = ffi.u8(self._text, 32)
        self._int = ffi.u32(self._text + 32, 1)
        self._last = 0
        self._carry = 0  # own bytes that the counter has not shown yet (negative), at most what waits in the kernel
        self.every = LOOK_US  # until the next look
        self.waits = 0  # what lay in this machine's own queue at the last look, as `pending` has it
        self._still = 0
        self._moved = 0

    def open(self, fd):
        """Use this counter from now on."""
        if self.fd >= 0:
            net.close(self.fd)
        self.fd = fd
        self.blind = ""
        self._carry = self._still = self.waits = 0
        self._moved = clock.us()
        self._last = self._read()
        if self._last < 0:
            self.close("gone")

    def close(self, why):
        net.close(self.fd)
        self.fd = -1
        self.blind = why

    def _read(self):
        n = net.PREAD(self.fd, self._text, 32, 0)
        if n <= 0:
            return -1  # ENODEV: the interface is gone
        value = 0
        i = n - 10 if n > 10 else 0
        while i < n:
            digit = self._bytes[i] - 48
            if 0 <= digit <= 9:
                value = value % 100000000 * 10 + digit
            i += 1
        return value

    def pending(self):
        """Bytes of ours that still lie in this machine's own queue (SIOCOUTQ, udp(7)), as the kernel counts memory."""
        return self._int[0] if _IOCTL(self.socket_fd, consts.SIOCOUTQ, self._text + 32) >= 0 else 0

    def look(self, now, own):
        """Bytes that the household has sent since the last look; `own` is what we have. -1 when there is no counter."""
        value = self._read()
        if value < 0:
            self.close("gone")
            return -1
        moved = value - self._last
        if moved < 0:
            moved += _MOD
        self._last = value
        if moved > _MOD >> 1:  # went backwards: an interface made anew
            return 0
        if moved:
            self._still = 0
            self._moved = now
        else:
            self._still += own
            if self._still > STILL_BYTES and clock.diff(now, self._moved) > STILL_US:
                self.close("still")
                return -1
        # Where the modem is built in, the household's packets show only when they leave its queue, and ours are behind
        # them: what moved while ours waited was not ours. The kernel counts memory, 8 bytes for 5 on the wire.
        waits = self.pending()
        household = moved - own + (waits - self.waits) * 5 // 8 + self._carry
        self.waits = waits
        self.every = LOOK_BEHIND_US if waits > BEHIND else LOOK_US
        if household >= 0:
            self._carry = 0
            return household
        # Ours that wait in a queue of this machine will show later; what was dropped there never will.
        waits += 3000
        self._carry = household if household > -waits else -waits
        return 0
