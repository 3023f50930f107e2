"""The exit: inner IP packets to and from a TUN (protocol section 7). Off unless the owner opted in.

The relay checks source, destination and port of every inner packet itself; the agent's nftables rules stand behind it.
"""

import os
import struct

from ..platform import clock, ffi, net
from ..wire import sizes as S
from .rules import ports4, ports6

_MEMSET = ffi.func(ffi.LIBC, "P", "memset", "PiL")

NONE = 0
BUCKETS = 1
CONSTANT = 2
SIZES = (128, 384, 640, 1024)  # of padded payloads, and the MTU
KEEP = 64  # packets that wait for their turn in constant padding, of one session
KEEP_ALL = 128  # and of all sessions
ORPHAN_SECONDS = 120  # a session without a circuit lives so long, for RESUME


def pad(mode, address, size, mtu):
    """Zero the padding behind an inner packet of `size` bytes; returns the padded size. What a slot held before must
    not leak to another buyer."""
    if mode == NONE:
        return size
    to = mtu
    if mode == BUCKETS:
        for s in SIZES:
            if size <= s < to:
                to = s
    if to > size:
        _MEMSET(address + size, 0, to - size)
    return max(to, size)


class Session:
    """Inner addresses of one buyer at this exit. `index` is the low 16 bits of both."""

    def __init__(self, index, circuit):
        self.index = index
        self.key = os.urandom(16)
        self.circuit = circuit
        self.v4 = S.INNER_V4 + struct.pack(">H", index)
        self.v6 = S.INNER_V6 + struct.pack(">H", index)
        self.padding = NONE
        self.interval = 0  # microseconds between cells of constant padding
        self.at = 0
        self.kept = []
        self.circuits = 0  # that may send for it
        self.orphan = 0  # seconds without a circuit
        self.last = b""  # last destination that was allowed, and
        self.last_ports = ()  # its protocol and port


class Exit:
    """Sessions over one TUN, at most `most` of them, numbered from numbers[0] to numbers[1]. `count(name)` counts a
    drop."""

    def __init__(self, fd, rules, count, most=1024, numbers=S.inner_range(0, 1), mtu=S.INNER_MTU):
        self.fd = fd
        self.rules = rules
        self.count = count
        self.mtu = mtu
        self.by_index = {}
        self.by_key = {}
        self.most = most
        self.waiting = 0  # packets kept, of all sessions
        self.numbers = numbers
        self._next = numbers[0]

    def resume(self, circuit, payload):
        """Answer a RESUME: payload of the answer, or None when it is malformed or no address is left."""
        if len(payload) < S.RESUME_FORWARD:
            return None
        key, mode, _, rate = struct.unpack("<16sBBH", payload[: S.RESUME_FORWARD])
        if mode > CONSTANT or (mode == CONSTANT and not 1 <= rate <= 1000):
            return None
        s = self.by_key.get(key) or circuit.session
        known = s is not None
        if s is None:
            index = self._free_index() if self._make_room() else 0
            if not index:
                return None
            s = Session(index, circuit)
            self.by_index[index] = s
            self.by_key[s.key] = s
        # What is still under way on the circuit before goes through; answers come over the new one.
        if circuit.session is not s:
            self.leave(circuit)
            s.circuits += 1
        s.circuit = circuit
        s.orphan = 0
        circuit.session = s
        s.padding = mode
        s.interval = 1000000 // rate if mode == CONSTANT else 0
        s.at = clock.us()
        return s.key + s.v4 + s.v6 + struct.pack("<HH", self.mtu, 0 if known else 1)

    def leave(self, circuit):
        """The circuit ends; its session waits for another one, if the circuit has paid for anything."""
        s = circuit.session
        if s is not None:
            s.circuits -= 1
            if s.circuit is circuit:
                s.circuit = None
            circuit.session = None
            if not s.circuits and not circuit.paid:
                self.drop(s)

    def _make_room(self):
        """Whether there is room for a session; the one that has waited longest without a circuit goes first."""
        if len(self.by_index) < self.most:
            return True
        oldest = None
        for s in self.by_index.values():
            if not s.circuits and (oldest is None or s.orphan > oldest.orphan):
                oldest = s
        if oldest is not None:
            self.drop(oldest)
        return oldest is not None

    def keep(self, session, packet):
        """Let a packet wait for its turn in constant padding."""
        if len(session.kept) < KEEP and self.waiting < KEEP_ALL:
            session.kept.append(packet)
            self.waiting += 1
        else:
            self.count("padding-full")

    def take(self, session):
        """The packet whose turn it is, b"" when none waits."""
        if not session.kept:
            return b""
        self.waiting -= 1
        return session.kept.pop(0)

    def tick(self):
        """Once a second: end sessions that nobody resumed."""
        for s in list(self.by_index.values()):
            if not s.circuits:
                s.orphan += 1
                if s.orphan > ORPHAN_SECONDS:
                    self.drop(s)

    def due(self):
        """Sessions of constant padding for which a cell is due, as often as one is (at most 8 late ones each)."""
        now = clock.us()
        out = []
        for s in self.by_index.values():
            if s.padding == CONSTANT:
                for _ in range(8):
                    if clock.diff(now, s.at) < s.interval:
                        break
                    s.at = clock.add(s.at, s.interval)
                    out.append(s)
                else:
                    s.at = now
        return out

    def constant(self):
        """Whether any session wants cells at a constant rate."""
        for s in self.by_index.values():
            if s.padding == CONSTANT:
                return True
        return False

    def _free_index(self):
        first, last = self.numbers
        for _ in range(last - first + 1):
            i = self._next
            self._next = i + 1 if i < last else first
            if i not in self.by_index:
                return i
        return 0

    def drop(self, session):
        """End a session for good."""
        self.by_index.pop(session.index, None)
        self.by_key.pop(session.key, None)
        self.waiting -= len(session.kept)
        session.kept = []

    def send(self, session, a, b, at, size):
        """Write the inner packet of at most `size` bytes that begins at index `at` of slot view `b` (address `a` +
        at)."""
        version = b[at] >> 4
        if version == 4 and size >= 20:
            n = b[at + 2] << 8 | b[at + 3]
            src = bytes(b[at + 12 : at + 16])
            dst = bytes(b[at + 16 : at + 20])
            if n < 20 or n > size:
                return self.count("inner-length")
            if src != session.v4:
                return self.count("inner-source")
            ports = ports4(b, at, n)
        elif version == 6 and size >= 40:
            n = 40 + (b[at + 4] << 8 | b[at + 5])
            if n > size:
                return self.count("inner-length")
            if bytes(b[at + 8 : at + 24]) != session.v6:
                return self.count("inner-source")
            dst = bytes(b[at + 24 : at + 40])
            ports = ports6(b, at, n)
        else:
            return self.count("inner-version")
        if dst != session.last or ports != session.last_ports:
            if self.rules.refuses(dst, ports[0], ports[1]):
                return self.count("policy")
            session.last = dst
            session.last_ports = ports
        if net.WRITE(self.fd, a + at, n) < 0:
            self.count("tun-write")

    def find(self, b, at):
        """The session to which the inner packet at index `at` of view `b` is addressed, or None."""
        version = b[at] >> 4
        if version == 4:
            if b[at + 16] != S.INNER_V4[0] or b[at + 17] != S.INNER_V4[1]:
                return None
            return self.by_index.get(b[at + 18] << 8 | b[at + 19])
        if version == 6:
            if b[at + 24] != S.INNER_V6[0] or b[at + 25] != S.INNER_V6[1]:
                return None
            return self.by_index.get(b[at + 38] << 8 | b[at + 39])
        return None
