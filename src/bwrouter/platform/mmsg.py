"""Batches of datagrams: recvmmsg(2) and sendmmsg(2) over one arena, no allocation per packet.

struct mmsghdr { struct msghdr { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen; void *control;
size_t controllen; int flags; }; unsigned len; } is 64 bytes where pointers have 8, 32 where they have 4.
"""

from . import arena, consts, ffi
from .ffi import LIBC, WORD, func

RECVMMSG = func(LIBC, "i", "recvmmsg", "iPIiP")
SENDMMSG = func(LIBC, "i", "sendmmsg", "iPIi")

HEADER = 8 * WORD  # sizeof(struct mmsghdr)
IOVEC = 2 * WORD
NAME = 32  # room for one sockaddr_in6
WORDS = 8  # words per mmsghdr
U32 = HEADER // 4
NAMELEN = 8 // 4 if WORD == 8 else 4 // 4  # index of namelen among the 32-bit words
LEN = 56 // 4 if WORD == 8 else 28 // 4


class Batch:
    """`count` packet slots of `slot` bytes; slot i begins at `base + i * slot`.

    `receive(fd)` fills slots from 0 and returns how many; `length[LEN + i * U32]` is each length, `name_at(i)` its
    source.
    `put(address, size, name)` appends to the send queue; `flush(fd)` sends it all.
    """

    def __init__(self, count, slot=2048, sends=0, offset=0):
        sends = sends or count
        self.count = count
        self.slot = slot
        self.sends = sends
        size = count * slot + (count + sends) * (HEADER + IOVEC) + count * NAME
        self.base = arena.take(size)
        p = self.base + count * slot
        self.names = p
        p += count * NAME
        self._rx = p
        self._rx32 = ffi.u32(p, count * U32)
        rxw = ffi.words(p, count * WORDS)
        p += count * HEADER
        iov = ffi.words(p, count * 2)
        for i in range(count):
            iov[2 * i] = self.base + i * slot + offset
            iov[2 * i + 1] = slot - offset - 32
            rxw[i * WORDS] = self.names + i * NAME
            rxw[i * WORDS + 2] = p + i * IOVEC
            rxw[i * WORDS + 3] = 1
        p += count * IOVEC
        self._tx = p
        self._txw = ffi.words(p, sends * WORDS)
        self._tx32 = ffi.u32(p, sends * U32)
        p += sends * HEADER
        self._txiov = ffi.words(p, sends * 2)
        for i in range(sends):
            self._txw[i * WORDS + 2] = p + i * IOVEC
            self._txw[i * WORDS + 3] = 1
            self._tx32[i * U32 + NAMELEN] = 28
        self.length = self._rx32
        self.queued = 0
        self.refused = 0  # datagrams that the kernel would not take

    def receive(self, fd, most):
        """Receive up to `most` datagrams without waiting; returns how many (0 when none)."""
        rx = self._rx32
        i = NAMELEN
        for _ in range(most):
            rx[i] = 28
            i += U32
        n = RECVMMSG(fd, self._rx, most, consts.MSG_DONTWAIT, 0)
        return n if n > 0 else 0

    def put(self, address, size, name):
        """Queue `size` bytes at `address` for the sockaddr_in6 at `name`; the caller flushes before `sends` are
        queued."""
        i = self.queued
        w = self._txiov
        w[2 * i] = address
        w[2 * i + 1] = size
        self._txw[i * WORDS] = name
        self.queued = i + 1

    def flush(self, fd):
        """Send all that is queued. What the kernel refuses is dropped and counted: UDP has no place to keep it."""
        n = self.queued
        done = 0
        while done < n:
            k = SENDMMSG(fd, self._tx + done * HEADER, n - done, consts.MSG_DONTWAIT)
            if k <= 0:
                self.refused += 1
                k = 1
            done += k
        self.queued = 0
