"""Anti-replay window without bit shifting (RFC 6479), over 64 words of 16 bits: small ints on every CPU.

In order is the common case and must cost next to nothing: a run of numbers that came without a gap is kept as its two
ends, `run` and `next`, and written into the bitmap only when a number comes out of order. The data path itself does

    if number == w.next: w.next = number + 1

A window whose memory is zero is ready: counter 0 has not been seen.
"""

from . import sizes as S

_WORDS = S.WINDOW_BITS // 16
_MASK = _WORDS - 1


class Window:
    """One origin's window. `bits` is an indexable of 64 16-bit words, zeroed."""

    def __init__(self, bits):
        self.bits = bits
        self.next = 0  # one above the highest counter accepted
        self.run = 0  # all of run .. next - 1 have been seen; the bitmap knows only what is below run

    def fresh(self, count):
        """Whether `count` is new and not too old. Changes nothing that matters: call `take` only after the cell proved
        authentic."""
        if count >= self.next:
            return True
        if count >= self.run or self.next - count > S.WINDOW + 1:
            return False
        if self.next != self.run:
            self._write()
        return not self.bits[(count >> 4) & _MASK] & (1 << (count & 15))

    def take(self, count):
        """Mark `count` as seen."""
        if count == self.next:
            self.next = count + 1
            return
        if self.next != self.run:
            self._write()
        if count >= self.next:
            self._clear(count)
            self.next = count + 1
        self.run = self.next
        self.bits[(count >> 4) & _MASK] |= 1 << (count & 15)

    def _clear(self, count):
        """Forget the words that the window leaves when it moves up to `count`."""
        bits = self.bits
        last = (self.next - 1) >> 4 if self.next else -1
        word = count >> 4
        if word - last > _WORDS:
            last = word - _WORDS
        while last < word:
            last += 1
            bits[last & _MASK] = 0

    def _write(self):
        """Put the run into the bitmap."""
        bits = self.bits
        first = self.run
        end = self.next
        fresh = (first + 15) >> 4  # the first word that only the run has touched
        word = max(first >> 4, ((end - 1) >> 4) - _WORDS + 1)
        while word << 4 < end:
            low = max(first - (word << 4), 0)
            high = min(end - (word << 4), 16)
            marks = (1 << high) - (1 << low)
            if word >= fresh:
                bits[word & _MASK] = marks
            else:
                bits[word & _MASK] |= marks
            word += 1
        self.run = end
