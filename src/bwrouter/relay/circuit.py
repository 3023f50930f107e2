"""Circuits and the table that finds them by the first word of their circuit ids."""

import os
from array import array

from ..platform import arena, ffi
from ..wire import cell, replay
from ..wire import sizes as S

# Offsets in a circuit's block of the arena, bytes.
K_F = 0  # forward layer key
K_B = 32  # backward layer key
P_OBF = 64  # obfuscation key of the previous end of the link
N_OBF = 96  # of the next
P_MAC_B = 128  # link MAC key, backward, towards the client
LINK = 144  # link key of the next link, to tell a repeated EXTEND
N_MAC_B = 160  # link MAC key of what the next hop sends back
P_ADDR = 176  # sockaddr_in6 of the previous end
N_ADDR = 208  # and of the next
OWN_CID = 240  # the id under which the previous end speaks to us
NEXT_CID = 248  # the id under which the next hop speaks to us
MESSAGE2 = 256  # Noise message 2 of the next hop, in case its EXTENDED got lost
WINDOWS = 328  # names of the backward replay windows of the origins 0..7, 32 bits each; 0: none yet
BLOCK = 360

UNPAID_SECONDS = 4  # an unpaid circuit keeps its place for so long, even if the table is full

NEXT_NONE = 0
NEXT_WAITING = 1  # CREATE sent
NEXT_READY = 2


class Circuit:
    """One circuit at this hop. `k` is its arena block; what the data path does not touch is there or in `Table`."""

    def __init__(self, k, origin, priority, window):
        self.k = k
        self.left = S.GRACE_UNITS * S.UNIT  # bytes that may still pass; below zero nothing does
        self.priority = priority  # log2 of the units paid for each unit sent
        self.next = NEXT_NONE
        self.o0 = self.o1 = 0  # own circuit id, as two words
        self.n0 = self.n1 = 0  # circuit id that the next hop wants
        self.p0 = self.p1 = 0  # and the previous end
        self.window = window  # name of the forward replay window
        self.back = 0  # where the names of the backward windows stand, in Table.words
        self.origin = origin  # this hop's own label
        self.sent = 0  # backward cells of own origin
        self.paid = 0  # units
        self.tickets = ()  # credit.Ticket by serial
        self.session = None  # exit session
        self.extend = None  # setup.Pending

    def unpaid(self):
        """Whether it has no ticket but such as the gateway refused."""
        for t in self.tickets:
            if t.state >= 0:
                return False
        return True

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
        self.words = ffi.u32(self.blocks.base, BLOCK // 4 * most)
        self.windows = replay.Windows(4 * most)
        self.all = []
        self.kept = []  # circuits that need not pay: routers whose anchor we are
        self._at = [None] * most  # circuit by its block
        self.idle = bytearray(most)  # seconds without a cell, by block
        self.age = bytearray(most)  # seconds since it was made, up to 255, by block
        self.free = bytearray(most)  # control cells of this second that were not charged, by block
        self._moved = array("I", bytes(4 * most))  # counters at the last tick, to tell an idle circuit

    def full(self):
        return len(self.all) >= self.most

    def new_cid(self, side, circuit, offset):
        """A random circuit id (8 bytes) whose first word is free, entered into `side` and into the circuit's block."""
        while True:
            cid = cell.make_cid(os.urandom(8))
            i = (cid[0] | cid[1] << 8) & self.mask
            # Place 0 stays empty: a CREATE, whose circuit id is zero, must find nobody.
            if i and self.forward[i] is None and self.backward[i] is None:
                side[i] = circuit
                ffi.poke(circuit.k + offset, cid)
                return cid

    def drop_cid(self, side, circuit, offset):
        cid = ffi.peek(circuit.k + offset, 8)
        i = (cid[0] | cid[1] << 8) & self.mask
        if side[i] is circuit:
            side[i] = None

    def add(self, origin, priority=0):
        """A new circuit, or None when the table is full."""
        if self.full():
            return None
        k = self.blocks.take()
        c = Circuit(k, origin, priority, self.windows.take_one())
        c.back = (k - self.blocks.base + WINDOWS) // 4
        c.o0, c.o1 = cell.cid_words(self.new_cid(self.forward, c, OWN_CID))
        i = self.index(c)
        self._at[i] = c
        self.idle[i] = self.age[i] = 0
        self.all.append(c)
        return c

    def freeloader(self):
        """Of the circuits that had UNPAID_SECONDS to pay and did not, the oldest; or None."""
        for c in self.all:  # in the order in which they were made
            if self.age[self.index(c)] >= UNPAID_SECONDS and c.unpaid() and c not in self.kept:
                return c
        return None

    def unheard(self, c):
        """Let a cell of our own, sent just now, not count as one that stirs the circuit."""
        i = self.index(c)
        self._moved[i] = self._moved[i] + 1 & 0x3FFFFFFF

    def index(self, c):
        """Number of the circuit's block."""
        return (c.k - self.blocks.base) // BLOCK

    def by_name(self, address):
        """The circuit in whose block this sockaddr lies."""
        return self._at[(address - self.blocks.base) // BLOCK]

    def remove(self, c):
        self.drop_cid(self.forward, c, OWN_CID)
        self.drop_cid(self.backward, c, NEXT_CID)
        for i in range(c.back, c.back + 8):
            if self.words[i]:
                self.windows.give(self.words[i])
        self.windows.give(c.window)
        self._at[self.index(c)] = None
        self.blocks.give(c.k)
        self.all.remove(c)

    def back_window(self, c, origin):
        """Name of the replay window of `origin`'s backward cells, made at first use; 0 when there are no more."""
        i = c.back + origin
        if not self.words[i]:
            self.words[i] = self.windows.take_one()
        return self.words[i]

    def stirred(self, c):
        """Whether any cell passed since the last call; costs the data path nothing."""
        u32 = self.windows.u32
        now = u32[c.window] + c.sent
        for i in range(c.back, c.back + 8):
            if self.words[i]:
                now += u32[self.words[i]]
        now &= 0x3FFFFFFF
        i = self.index(c)
        moved = now != self._moved[i]
        self._moved[i] = now
        return moved


def set_prev(c, cid):
    c.p0, c.p1 = cell.cid_words(cid)


def set_next(c, cid):
    c.n0, c.n1 = cell.cid_words(cid)
