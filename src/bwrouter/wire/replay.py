"""Anti-replay window without bit shifting (RFC 6479), over 64 words of 16 bits: small ints on every CPU.

A window whose memory is zero is ready: counter 0 has not been seen. `top` is kept by the caller's circuit as count + 1.
"""

from . import sizes as S

_WORDS = S.WINDOW_BITS // 16
_MASK = _WORDS - 1


class Window:
    """One origin's window. `bits` is an indexable of 64 16-bit words, zeroed."""

    def __init__(self, bits):
        self.bits = bits
        self.next = 0  # one above the highest counter accepted

    def fresh(self, count):
        """Whether `count` is new and not too old. Changes nothing: call `take` only after the cell proved authentic."""
        if count >= self.next:
            return True
        if self.next - count > S.WINDOW + 1:
            return False
        return not self.bits[(count >> 4) & _MASK] & (1 << (count & 15))

    def take(self, count):
        """Mark `count` as seen."""
        bits = self.bits
        if count >= self.next:
            last = (self.next - 1) >> 4 if self.next else -1
            word = count >> 4
            if word - last >= _WORDS:
                last = word - _WORDS
            while last < word:
                last += 1
                bits[last & _MASK] = 0
            self.next = count + 1
        bits[(count >> 4) & _MASK] |= 1 << (count & 15)
