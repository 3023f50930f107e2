"""PayWord chains and the PAY and CREDIT commands (protocol section 6).

A chain is w_N random, w_(i-1) = H(w_i); whoever knows w_0 can check any w_i in i hashes and nobody can go the other way
(Rivest and Shamir, PayWord and MicroMint, 1996).
"""

import hashlib
import struct

from . import sizes as S


class BadPayment(ValueError):
    """The text is the reason."""


def step_down(word, count):
    """H applied `count` times to a 32-byte word."""
    sha256 = hashlib.sha256
    for _ in range(count):
        word = sha256(word).digest()
    return word


def ticket_id(anchor):
    """The mint's input and the ticket's public name: H(w_0)."""
    return hashlib.sha256(anchor).digest()


class Chain:
    """The payer's side: keeps w_N and every 32nd word, so that any word is at most 31 hashes away."""

    def __init__(self, top, units):
        if len(top) != 32 or units not in S.TICKET_UNITS:
            raise BadPayment("a chain has a 32-byte top and 1024 or 64 units")
        self.units = units
        self._marks = {}
        word = top
        for i in range(units, -1, -1):
            if i % 32 == 0:
                self._marks[i] = word
            if i:
                word = hashlib.sha256(word).digest()
        self.anchor = word

    def word(self, index):
        """w_index, 32 bytes."""
        if not 0 <= index <= self.units:
            raise BadPayment("index " + str(index) + " outside the chain of " + str(self.units))
        mark = (index + 31) // 32 * 32
        return step_down(self._marks[mark], mark - index)


class Meter:
    """The relay's side of one ticket: accepts ever later preimages. Raises BadPayment; a bad PAY changes nothing."""

    def __init__(self, anchor, units):
        self.anchor = anchor
        self.units = units
        self.index = 0
        self.word = anchor

    def pay(self, index, word):
        """Units newly paid, 0 for an old or repeated index."""
        if index > self.units:
            raise BadPayment("index")
        if index <= self.index:
            return 0
        if step_down(word, index - self.index) != self.word:
            raise BadPayment("preimage")
        gained = index - self.index
        self.index = index
        self.word = word
        return gained


def pack_pay(serial, index, word, ticket=None):
    """PAY payload; `ticket` is (key id 8, anchor 32, output 64, units) until the relay has acknowledged the serial."""
    head = struct.pack("<BH32s", serial, index, word)
    return head if ticket is None else head + struct.pack("<8s32s64sH", *ticket)


def parse_pay(payload):
    """(serial, index, word, ticket or None). Raises BadPayment."""
    if len(payload) not in (S.PAY_SHORT, S.PAY_FULL):
        raise BadPayment("size")
    serial, index, word = struct.unpack("<BH32s", payload[: S.PAY_SHORT])
    if len(payload) == S.PAY_SHORT:
        return serial, index, word, None
    ticket = struct.unpack("<8s32s64sH", payload[S.PAY_SHORT :])
    if ticket[3] not in S.TICKET_UNITS:
        raise BadPayment("units")
    return serial, index, word, ticket


def pack_credit(used, paid, opened, refused):
    """CREDIT payload: used and paid units, bitmaps of opened and refused serials."""
    return struct.pack("<IIII", used, paid, opened & 0xFFFFFFFF, refused & 0xFFFFFFFF)


def parse_credit(payload):
    """(used, paid, opened, refused). Raises BadPayment."""
    if len(payload) != S.CREDIT_SIZE:
        raise BadPayment("size")
    return struct.unpack("<IIII", payload)
