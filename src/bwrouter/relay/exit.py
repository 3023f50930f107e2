"""The exit: inner IP packets to and from a TUN (protocol section 7). Off unless the owner opted in.

The relay checks source, destination and port of every inner packet itself; the agent's nftables rules stand behind it.
"""

import os
import struct

from ..platform import arena, clock, ffi, frames, net
from ..wire import sizes as S
from .rules import ports4, ports6

FLOWS = 256  # whose packets have been allowed: a power of two
_FLOW = 40  # bytes of a flow's key: addresses and ports
_MEMCMP = ffi.func(ffi.LIBC, "i", "memcmp", "PPL")
_MOVE = ffi.func(ffi.LIBC, "P", "memmove", "PPL")
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


# `_sending` writes these as numbers.
assert (FLOWS, _FLOW) == (256, 40)


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
        self._flows = arena.take(FLOWS * _FLOW)
        self._marks = [0] * FLOWS  # session, protocol and version of the flow whose key lies there; 0: none
        self.begin()

    def begin(self):
        """Ready to send; again after an exception there."""
        self._send = frames.step(self._sending())

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
        self._forget_flows()  # another will have its number
        self.by_index.pop(session.index, None)
        self.by_key.pop(session.key, None)
        self.waiting -= len(session.kept)
        session.kept = []

    def use(self, fd, rules):
        """From now on, with another TUN and other rules."""
        net.close(self.fd)
        self.fd = fd
        self.rules = rules
        self._forget_flows()

    def _forget_flows(self):
        for i in range(FLOWS):
            self._marks[i] = 0

    def send(self, session, a, b, size):
        """Write the inner packet of at most `size` bytes that lies at 24 in the slot at address `a`, of which `b` is
        the view."""
        self._session = session
        self._a = a
        self._b = b
        self._size = size
        self._send()

    def _sending(self):
        marks = self._marks
        flows = self._flows
        write, memcmp = net.WRITE, _MEMCMP
        while True:
            yield
            a = self._a + 24
            b = self._b
            size = self._size
            # A packet of a flow that has been judged costs one comparison: that of addresses and ports, which follow
            # one another where there are no options or extension headers.
            version = b[24]
            if version == 0x45 and not b[30] & 0x3F and not b[31]:
                n = b[26] << 8 | b[27]
                protocol = b[33]
                at = 36
                key = 12
                least = 24
            elif version >> 4 == 6:
                n = 40 + (b[28] << 8 | b[29])
                protocol = b[30]
                at = 32
                key = 36
                least = 44
            else:
                self._judge(b, a, size)
                continue
            if protocol != 6 and protocol != 17 or n < least or n > size:
                self._judge(b, a, size)
                continue
            i = at + key
            i = (b[i - 1] ^ b[i - 3] ^ b[i - 5] ^ b[i - 4] << 1 ^ b[i - 2] << 3 ^ b[at + 3]) & 255
            mark = self._session.index << 8 | protocol << 1 | (key >> 5)
            flow = flows + i * 40
            if marks[i] == mark and not memcmp(a + at - 24, flow, key):
                if write(self.fd, a, n) < 0:
                    self.count("tun-write")
            elif self._judge(b, a, size):
                marks[i] = mark
                _MOVE(flow, a + at - 24, key)

    def _judge(self, b, a, size):
        """The same for a packet of no known flow. Returns whether it may leave."""
        session = self._session
        version = b[24] >> 4
        if version == 4 and size >= 20:
            n = b[26] << 8 | b[27]
            if n < 20 or n > size:
                return self.count("inner-length")
            if bytes(b[36:40]) != session.v4:
                return self.count("inner-source")
            dst = bytes(b[40:44])
            ports = ports4(b, 24, n)
        elif version == 6 and size >= 40:
            n = 40 + (b[28] << 8 | b[29])
            if n > size:
                return self.count("inner-length")
            if bytes(b[32:48]) != session.v6:
                return self.count("inner-source")
            dst = bytes(b[48:64])
            ports = ports6(b, 24, n)
        else:
            return self.count("inner-version")
        if self.rules.refuses(dst, ports[0], ports[1]):
            return self.count("policy")
        if net.WRITE(self.fd, a, n) < 0:
            self.count("tun-write")
        return True

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
