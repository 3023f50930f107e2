"""Anti-replay windows without bit shifting (RFC 6479), over 64 words of 16 bits: small ints on every CPU.

In order is the common case and must cost next to nothing: a run of numbers that came without a gap is kept as its two
ends, `run` and `next`, and written into the bitmap only when a number comes out of order. The data path itself does

    if number == w.u32[i]: w.u32[i] = number + 1

Windows live in one block of memory and are named by an int, so that they cost the heap nothing. A window whose memory
is zero is ready: counter 0 has not been seen.
"""

from ..platform import arena, ffi
from . import sizes as S

_WORDS = S.WINDOW_BITS // 16
_MASK = _WORDS - 1
STRIDE = 2 + _WORDS // 2  # 32-bit words of a window: next, run, bitmap


class Windows:
    """`count` windows. A window's name `i` is its index in `u32`, where `next` stands: one above the highest counter
    accepted; at i + 1 is `run`: all of run .. next - 1 have been seen, and the bitmap knows only what is below run.
    Name 0 is no window.
    """

    def __init__(self, count):
        base = arena.take(4 * STRIDE * (count + 1))
        self.u32 = ffi.u32(base, STRIDE * (count + 1))
        self._bits = ffi.u16(base, 2 * STRIDE * (count + 1))
        self._free = [STRIDE * i for i in range(count, 0, -1)]

    def take_one(self):
        """A fresh window, or 0 when none is left."""
        return self._free.pop() if self._free else 0

    def give(self, i):
        """A window is no longer needed."""
        for j in range(i, i + STRIDE):
            self.u32[j] = 0
        self._free.append(i)

    def fresh(self, i, count):
        """Whether `count` is new to window `i` and not too old. Call `take` only after the cell proved authentic."""
        u = self.u32
        following = u[i]
        if count >= following:
            return True
        if count >= u[i + 1] or following - count > S.WINDOW + 1:
            return False
        if following != u[i + 1]:
            self._write(i)
        return not self._bits[2 * i + 4 + ((count >> 4) & _MASK)] & (1 << (count & 15))

    def take(self, i, count):
        """Mark `count` as seen."""
        u = self.u32
        following = u[i]
        if count == following:
            u[i] = count + 1
            return
        if following != u[i + 1]:
            self._write(i)
        if count > following:
            self._clear(i, following, count)
            following = count + 1
            u[i] = following
        u[i + 1] = following
        self._bits[2 * i + 4 + ((count >> 4) & _MASK)] |= 1 << (count & 15)

    def _clear(self, i, following, count):
        """Forget the words that the window leaves when it moves up to `count`."""
        bits = self._bits
        at = 2 * i + 4
        last = (following - 1) >> 4 if following else -1
        word = count >> 4
        if word - last > _WORDS:
            last = word - _WORDS
        while last < word:
            last += 1
            bits[at + (last & _MASK)] = 0

    def _write(self, i):
        """Put the run into the bitmap."""
        bits = self._bits
        at = 2 * i + 4
        end = self.u32[i]
        first = self.u32[i + 1]
        untouched = (first + 15) >> 4  # the first word that only the run has touched
        word = max(first >> 4, ((end - 1) >> 4) - _WORDS + 1)
        while word << 4 < end:
            low = max(first - (word << 4), 0)
            high = min(end - (word << 4), 16)
            marks = (1 << high) - (1 << low)
            j = at + (word & _MASK)
            bits[j] = marks if word >= untouched else bits[j] | marks
            word += 1
        self.u32[i + 1] = end
