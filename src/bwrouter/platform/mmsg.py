"""Batches of datagrams over one arena, no allocation per packet: recvmmsg(2) and sendmmsg(2), with UDP GRO and GSO
where the kernel has them.

With GRO the kernel hands over runs of equal datagrams as one; the iovec of a message is laid so that each datagram of
such a run falls into a slot of its own, as long as its size is the expected one. With GSO a run of equal datagrams to
one peer is one message.

What a relay calls in every turn is a generator here (frames.py).

struct mmsghdr { struct msghdr { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen; void *control;
size_t controllen; int flags; }; unsigned len; } is 64 bytes where pointers have 8, 32 where they have 4.
"""

import struct
import sys

from . import arena, consts, ffi, frames, net
from .ffi import LIBC, WORD, func

RECVMMSG = func(LIBC, "i", "recvmmsg", "iPIiP")
SENDMMSG = func(LIBC, "i", "sendmmsg", "iPIi")
_MOVE = func(LIBC, "P", "memmove", "PPL")

SLOT = 2048
NAME = 32  # room for one sockaddr_in6
_HEADER = 8 * WORD  # sizeof(struct mmsghdr)
_WORDS = 8
_U32 = _HEADER // 4
_NAMELEN = 8 // 4 if WORD == 8 else 4 // 4  # index of namelen among the 32-bit words
_LEN = 56 // 4 if WORD == 8 else 28 // 4
_CONTROL = 5  # index of controllen among the words
# And of its low half among the 32-bit words: a 64-bit word read is a big int to MicroPython, and allocated.
_CONTROL_LOW = _CONTROL * WORD // 4 + (WORD // 4 - 1 if sys.byteorder == "big" else 0)
_CMSG = WORD + 8  # sizeof(struct cmsghdr)
_CONTROL_ROOM = 32
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_RUN_BYTES = 65000  # of one GSO message: 64 KiB less headers
_RUN_CELLS = 64  # UDP_MAX_SEGMENTS
_MESSAGES = 64  # of one batch
_EXPECT_LEAST = 1024  # 64 slots of so much hold any datagram
# With GRO a batch has only 4 messages. While datagrams come one by one, 64 without it are the better bargain:
_ALONE = 64  # batches without a run until GRO is left out ...
_AGAIN = 2048  # ... for so many


class Receiver:
    """`receive` fills the slots; message m holds `cells(m)` datagrams in the slots from m * `per`, `size` bytes each,
    the last one `last`. Slot i begins at `base` + i * SLOT; message m came from the sockaddr_in6 at `names` + m * NAME.

    receive(most) receives at most `most` messages without waiting and returns how many came, 0 when none; cells(m)
    sets `size` and `last`.
    """

    def __init__(self, fd, slots=256, gro=True):
        self.fd = fd
        self.slots = slots
        self.size = 0
        self.last = 0
        most = min(slots, _MESSAGES)
        heads = most * (_HEADER + NAME + _CONTROL_ROOM)
        self.base = arena.take(slots * SLOT + heads + slots * 2 * WORD)
        self.names = p = self.base + slots * SLOT
        p += most * NAME
        self._control = p
        self._controls = ffi.u32(p, most * _CONTROL_ROOM // 4)
        p += most * _CONTROL_ROOM
        self._head = p
        self._h32 = ffi.u32(p, most * _U32)
        self._hw = ffi.words(p, most * _WORDS)
        p += most * _HEADER
        self._iov_at = p
        self._iov = ffi.words(p, slots * 2)
        for i in range(slots):
            self._iov[2 * i] = self.base + i * SLOT
        self._stage = 0
        self._learn = 0
        self._taken = 0  # messages of this batch, datagrams in them
        self._found = 0
        self._batches = 0  # without a run, or without GRO
        self._many = 0  # of them with more than one message
        self._adapt = gro
        self.gro = None
        self.offload(gro)
        self.receive = frames.send(self._receiving())
        self.cells = frames.send(self._counting())

    def offload(self, gro):
        """Switch GRO on or off; False when the kernel has none. Runs of datagrams are large: not for slow uplinks."""
        wanted = gro
        if gro == self.gro:
            return True
        if net.set_option(self.fd, _SOL_UDP, _UDP_GRO, 1 if gro else 0) != 0:
            gro = False
        if gro and not self._stage:
            self._stage = arena.take(_RUN_CELLS * SLOT)
        self.gro = gro
        self.per = _RUN_CELLS if gro else 1
        self.messages = min(self.slots // self.per, _MESSAGES)
        for m in range(self.messages):
            self._hw[m * _WORDS] = self.names + m * NAME
            self._hw[m * _WORDS + 2] = self._iov_at + m * self.per * 2 * WORD
            self._hw[m * _WORDS + 3] = self.per
            self._hw[m * _WORDS + 4] = self._control + m * _CONTROL_ROOM
            self._hw[m * _WORDS + _CONTROL] = _CONTROL_ROOM if gro else 0
            self._h32[m * _U32 + _NAMELEN] = 28
        self._taken = 0
        self._lay(1472 if gro else SLOT - 32)
        return gro == wanted

    def _lay(self, expect):
        """Expect datagrams of so many bytes in runs."""
        self._expect = expect
        for i in range(self.slots):
            self._iov[2 * i + 1] = expect

    def _receiving(self):
        fd = self.fd
        head = self._head
        h = self._h32
        w = self._hw
        n = 0
        while True:
            most = yield n
            if most > self.messages:
                most = self.messages
            room = _CONTROL_ROOM if self.gro else 0
            for m in range(self._taken):  # where the kernel wrote last time
                h[m * _U32 + _NAMELEN] = 28
                w[m * _WORDS + _CONTROL] = room
            n = RECVMMSG(fd, head, most, consts.MSG_DONTWAIT, 0)
            if n < 0:
                n = 0
            self._taken = n
            self._found = 0

    def _counting(self):
        h = self._h32
        c = self._controls
        count = 1
        while True:
            m = yield count
            size = total = h[m * _U32 + _LEN]
            count = 1
            if self.gro and h[m * _U32 + _CONTROL_LOW] >= _CMSG + 4:
                at = m * _CONTROL_ROOM // 4 + WORD // 4
                if c[at] == _SOL_UDP and c[at + 1] == _UDP_GRO:
                    size = c[at + 2]
            if size >= total:
                self.size = self.last = total
                expect = self._expect
                if total > expect and self.gro:  # one datagram over two slots: join it
                    a = self.base + m * self.per * SLOT
                    _MOVE(a + expect, a + SLOT, min(total - expect, SLOT - expect))
                continue
            count = (total + size - 1) // size
            self._found = count
            self.size = size
            self.last = total - (count - 1) * size
            if count > self.per:  # Linux 6.9 and later hand on runs of up to 128 within one machine: the rest is lost
                count = self.per
                self.last = size
            if size != self._expect:
                self._resplit(m, total, size, count)

    def _resplit(self, m, total, size, count):
        """A run of another size than expected: move its datagrams to slots of their own, and learn."""
        a = self.base + m * self.per * SLOT
        expect = self._expect
        stage = self._stage
        done = i = 0
        while done < total:
            n = min(expect, total - done)
            _MOVE(stage + done, a + i * SLOT, n)
            done += n
            i += 1
        for i in range(min(count, self.per)):
            _MOVE(a + i * SLOT, stage + i * size, min(size, total - i * size))
        if count >= 4 and _EXPECT_LEAST <= size <= 1472:
            # Only the next batch may be laid anew: later messages of this one lie as the old expectation had it.
            self._learn = size

    def done(self):
        """All messages of the batch have been looked at."""
        if self._learn:
            self._lay(self._learn)
            self._learn = 0
        if not self._adapt:
            return
        if self._found:
            self._batches = self._many = 0
            return
        self._batches += 1
        if not self.gro:
            if self._batches >= _AGAIN:
                self._batches = self._many = 0
                self.offload(True)
            return
        if self._taken > 1:
            self._many += 1
        # Only when nothing waits: a run that the kernel has joined already would come as one datagram, cut off.
        if self._batches >= _ALONE and self._taken < self.messages:
            if self._many * 2 > self._batches:
                self.offload(False)
            self._batches = self._many = 0


class Sender:
    """A queue of datagrams. `put` only notes address, size and sockaddr; the bytes must stay until `flush`.

    flush() sends all that is queued. What the kernel refuses is dropped and counted: UDP has no place to keep it.
    """

    def __init__(self, fd, cells=320, gso=True):
        self.fd = fd
        self.gso = gso
        self._able = True  # until a device or kernel refuses a run
        self.most = cells
        self.queued = 0
        self.refused = 0  # datagrams that the kernel would not take
        self._run = -1  # index of the current run
        self._names = [0] * cells
        self._sizes = [0] * cells
        self._starts = [0] * (cells + 1)
        self._name = 0
        self._size = 0
        size = cells * (_HEADER + 2 * WORD + _CONTROL_ROOM)
        self._head = p = arena.take(size)
        self._h32 = ffi.u32(p, cells * _U32)
        self._hw = ffi.words(p, cells * _WORDS)
        p += cells * _HEADER
        self._iov_at = p
        self.iov = ffi.words(p, cells * 2)
        p += cells * 2 * WORD
        self._control_at = p
        cmsg = struct.pack("Pii", _CMSG + 2, _SOL_UDP, _UDP_SEGMENT)
        self._segment = ffi.u16(p, cells * _CONTROL_ROOM // 2)
        for i in range(cells):
            ffi.poke(p + i * _CONTROL_ROOM, cmsg)
            self._h32[i * _U32 + _NAMELEN] = 28
        self.flush = frames.step(self._flushing())

    def offload(self, gso):
        """Switch GSO on or off; it stays off where a run has been refused."""
        self.gso = gso and self._able

    def put(self, address, size, name):
        """Queue `size` bytes at `address` for the sockaddr_in6 at `name`; flush when `queued` == `most`."""
        q = self.queued
        iov = self.iov
        iov[2 * q] = address
        iov[2 * q + 1] = size
        if name != self._name or size != self._size:
            self.begin(q, name, size)
        self.queued = q + 1

    def begin(self, q, name, size):
        """Datagram `q` begins a new run."""
        self._run += 1
        self._name = name
        self._size = size
        self._names[self._run] = name
        self._sizes[self._run] = size
        self._starts[self._run] = q

    def _flushing(self):
        w = self._hw
        starts = self._starts
        names = self._names
        sizes = self._sizes
        while True:
            yield
            total = self.queued
            if not total:
                continue
            runs = self._run + 1
            starts[runs] = total
            count = 0
            for r in range(runs):
                q = starts[r]
                end = starts[r + 1]
                size = sizes[r]
                step = min(_RUN_CELLS, _RUN_BYTES // size) if self.gso else 1
                while q < end:
                    n = min(step, end - q)
                    at = count * _WORDS
                    w[at] = names[r]
                    w[at + 2] = self._iov_at + q * 2 * WORD
                    w[at + 3] = n
                    if n > 1:
                        w[at + 4] = self._control_at + count * _CONTROL_ROOM
                        w[at + 5] = (_CMSG + 2 + WORD - 1) // WORD * WORD
                        self._segment[(count * _CONTROL_ROOM + _CMSG) // 2] = size
                    else:
                        w[at + 4] = 0
                        w[at + 5] = 0
                    q += n
                    count += 1
            self._send(count)
            self.reset()

    def reset(self):
        """Forget what is queued."""
        self.queued = 0
        self._run = -1
        self._name = 0

    def _send(self, count):
        done = 0
        while done < count:
            k = SENDMMSG(self.fd, self._head + done * _HEADER, count - done, consts.MSG_DONTWAIT)
            if k <= 0:
                cells = self._hw[done * _WORDS + 3]
                code = ffi.errno()
                if cells > 1 and code in (consts.EINVAL, consts.EIO, consts.EOPNOTSUPP):
                    self._singly(done, cells)  # this device or kernel segments nothing: one by one from now on
                else:
                    self.refused += cells
                k = 1
            done += k

    def _singly(self, m, cells):
        """Send a refused run as single datagrams."""
        self.gso = self._able = False
        at = m * _WORDS
        w = self._hw
        first = w[at + 2]
        w[at + 3] = 1
        w[at + 4] = 0
        w[at + 5] = 0
        for i in range(cells):
            w[at + 2] = first + i * 2 * WORD
            if SENDMMSG(self.fd, self._head + m * _HEADER, 1, consts.MSG_DONTWAIT) <= 0:
                self.refused += 1
