"""Circuits and the table that finds them by the first word of their circuit ids."""

import os

from ..platform import arena, ffi
from ..wire import cell, replay
from ..wire import sizes as S

# Offsets in a circuit's block of the arena, bytes.
K_F = 0  # forward layer key
K_B = 32  # backward layer key
P_OBF = 64  # obfuscation key of the previous end of the link
N_OBF = 96  # of the next
P_MAC_B = 128  # link MAC key, backward, towards the client
N_MAC_F = 144  # link MAC key, forward, to the next hop
N_MAC_B = 160  # link MAC key of what the next hop sends back
P_ADDR = 176  # sockaddr_in6 of the previous end
N_ADDR = 208  # and of the next
W_F = 240  # forward replay window
BLOCK = 368
_WINDOW_BYTES = S.WINDOW_BITS // 8

NEXT_NONE = 0
NEXT_WAITING = 1  # CREATE sent
NEXT_READY = 2


class Circuit:
    """One circuit at this hop. `k` is its arena block; fields that the data path touches come first."""

    def __init__(self, k, origin, priority):
        self.k = k
        self.priority = priority  # log2 of the units paid for each unit sent
        self.left = S.GRACE_UNITS * S.UNIT  # bytes that may still pass; below zero nothing does
        self.idle = 0  # seconds without a cell
        self.next = NEXT_NONE
        self.n0 = self.n1 = 0  # circuit id that the next hop wants, as two words
        self.p0 = self.p1 = 0  # and the previous end
        self.window = replay.Window(ffi.u16(k + W_F, S.WINDOW_BITS // 16))
        self.back = [None] * 8  # replay windows of the origins beyond this hop
        self.origin = origin  # this hop's own label
        self.sent = 0  # backward cells of own origin
        self.paid = 0  # units
        self.free = 0  # control cells of this second that were not charged
        self.moved = 0  # counters at the last tick, to tell an idle circuit
        self.tickets = []  # credit.Ticket by serial
        self.own_cid = None  # the id under which the previous end speaks to us
        self.next_cid = None  # the id under which the next hop speaks to us
        self.session = None  # exit session
        self.extend = None  # setup.Pending
        self.extended = None  # Noise message 2 of the next hop, in case its EXTENDED got lost

    def stirred(self):
        """Whether any cell passed since the last call; costs the data path nothing."""
        now = self.window.next + self.sent
        for w in self.back:
            if w is not None:
                now += w.next
        moved = now != self.moved
        self.moved = now
        return moved

    def used(self):
        """Units used so far, rounded up."""
        bytes_used = (self.paid + S.GRACE_UNITS) * S.UNIT - self.left
        return (bytes_used + S.UNIT - 1) // S.UNIT


class Table:
    """All circuits of a relay. Two ids a circuit: one for each side; `size` is a power of two."""

    def __init__(self, most):
        self.most = most
        self.size = 64
        while self.size < 4 * most:
            self.size *= 2
        self.mask = self.size - 1
        self.forward = [None] * self.size  # circuit by the id that the previous end uses
        self.backward = [None] * self.size  # circuit by the id that the next hop uses
        self.blocks = arena.Pool(BLOCK, most)
        self.windows = arena.Pool(_WINDOW_BYTES, 3 * most)
        self.all = []
        self._at = [None] * most  # circuit by its block

    def full(self):
        return len(self.all) >= self.most

    def new_cid(self, side, circuit):
        """A random circuit id (8 bytes) whose first word is free, entered into `side`."""
        while True:
            cid = cell.make_cid(os.urandom(8))
            i = (cid[0] | cid[1] << 8) & self.mask
            if self.forward[i] is None and self.backward[i] is None and cid != b"\0" * 8:
                side[i] = circuit
                return cid

    def drop_cid(self, side, cid):
        if cid is not None:
            side[(cid[0] | cid[1] << 8) & self.mask] = None

    def add(self, origin, priority=0):
        """A new circuit, or None when the table is full."""
        k = self.blocks.take() if not self.full() else 0
        if not k:
            return None
        c = Circuit(k, origin, priority)
        c.own_cid = self.new_cid(self.forward, c)
        self.all.append(c)
        self._at[(k - self.blocks.base) // BLOCK] = c
        return c

    def by_name(self, address):
        """The circuit in whose block this sockaddr lies."""
        return self._at[(address - self.blocks.base) // BLOCK]

    def remove(self, c):
        self.drop_cid(self.forward, c.own_cid)
        self.drop_cid(self.backward, c.next_cid)
        for w in c.back:
            if w is not None:
                self.windows.give(w.address)
        self._at[(c.k - self.blocks.base) // BLOCK] = None
        self.blocks.give(c.k)
        self.all.remove(c)

    def back_window(self, c, origin):
        """The replay window of `origin`'s backward cells, made at first use; None when memory is out."""
        w = c.back[origin]
        if w is None:
            address = self.windows.take()
            if not address:
                return None
            w = replay.Window(ffi.u16(address, S.WINDOW_BITS // 16))
            w.address = address
            c.back[origin] = w
        return w


def set_prev(c, cid):
    c.p0, c.p1 = cell.cid_words(cid)


def set_next(c, cid):
    c.n0, c.n1 = cell.cid_words(cid)
