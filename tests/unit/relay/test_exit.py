"""An exit's flows: what has been judged once passes with one comparison, and nothing else does."""

import gc
import struct

from bwrouter.platform import arena, ffi, mmsg, net
from bwrouter.relay import exit as exits
from bwrouter.relay.rules import Rules

MICROPYTHON = hasattr(gc, "mem_alloc")
CONNECT = ffi.func(ffi.LIBC, "i", "connect", "iPI")
OUTSIDE = bytes([9, 9, 9, 9])
OUTSIDE6 = b"\x26\x00" + bytes(13) + b"\x09"


def connected(to):
    """A socket whose datagrams go to the socket `to`."""
    fd = net.udp_socket(0, "::1")
    assert CONNECT(fd, net.pack_addr("::1", net.local_port(to)), 28) == 0
    return fd


class Circuit:
    def __init__(self):
        self.session = None
        self.paid = 0


class Scene:
    """An exit whose TUN is a datagram socket to ourselves, with one session."""

    def __init__(self, rules=None):
        self.out = net.udp_socket(0, "::1")
        self.fd = connected(self.out)
        self.drops = []
        self.exit = exits.Exit(self.fd, rules or Rules(), self.drops.append, most=4)
        self.circuit = Circuit()
        self.resume()
        self.slot = arena.take(mmsg.SLOT)
        self.view = ffi.u8(self.slot, mmsg.SLOT)

    def resume(self):
        self.exit.resume(self.circuit, struct.pack("<16sBBH", bytes(16), 0, 0, 0))
        self.session = self.circuit.session

    def send(self, packet, size=0):
        """What came out of the exit, or the reason why nothing did."""
        ffi.poke(self.slot + 24, packet)
        self.exit.send(self.session, self.slot, self.view, size or len(packet))
        came, _ = net.recvfrom(self.out)
        return came if came is not None else self.drops.pop()

    def close(self):
        net.close(self.fd)
        net.close(self.out)


def packet4(src, dst=OUTSIDE, protocol=6, sport=1000, dport=443, body=b"hello", fragment=0, length=0):
    n = 24 + len(body)
    head = struct.pack(">BBHHHBBH", 0x45, 0, length or n, 1, fragment, 64, protocol, 0) + src + dst
    return head + struct.pack(">HH", sport, dport) + body


def packet6(src, dst=OUTSIDE6, protocol=17, sport=1000, dport=443, body=b"hello"):
    head = struct.pack(">IHBB", 6 << 28, 4 + len(body), protocol, 64)
    return head + src + dst + struct.pack(">HH", sport, dport) + body


def test_a_flow_passes_again_and_others_are_judged():
    s = Scene()
    v4, v6 = s.session.v4, s.session.v6
    for p in (packet4(v4), packet4(v4, body=b"other"), packet6(v6), packet6(v6, body=b"more"), packet4(v4)):
        assert s.send(p) == p
    other = s.session.v4[:3] + bytes([s.session.v4[3] ^ 1])
    assert s.send(packet4(other)) == "inner-source"
    assert s.send(packet6(s.session.v6[:15] + bytes([s.session.v6[15] ^ 1]))) == "inner-source"
    assert s.send(packet4(v4, dst=bytes([192, 168, 1, 1]))) == "policy"
    assert s.send(packet4(v4, dport=25)) == "policy"
    assert s.send(packet4(v4, length=2000)) == "inner-length"
    p = packet6(v6)
    assert s.send(p, len(p) - 1) == "inner-length"
    p = packet4(v4)
    assert s.send(p, len(p) - 1) == "inner-length"
    p = packet4(v4, protocol=1)  # not of TCP's flow, and allowed by itself
    assert s.send(p) == p
    s.close()


def test_what_is_denied_for_one_protocol_is_not_let_out_by_the_other():
    s = Scene(Rules((), (), ["9.9.9.9/32:443"]))
    v4 = s.session.v4
    p = packet4(v4, protocol=50)  # ESP: the four bytes are no ports
    assert s.send(p) == p and s.send(p) == p
    for protocol in (6, 17):
        assert s.send(packet4(v4, protocol=protocol)) == "policy"
    p = packet4(v4, dport=444)
    assert s.send(p) == p and s.send(p) == p
    assert s.send(packet4(v4, dport=443)) == "policy"
    p = packet4(v4, dport=443, fragment=0x2001)  # a later fragment has no ports, and is no flow
    assert s.send(p) == p and s.send(packet4(v4, dport=443)) == "policy"
    s.close()


def test_new_rules_hold_at_once():
    s = Scene()
    p = packet4(s.session.v4)
    assert s.send(p) == p
    again = connected(s.out)
    s.exit.use(again, Rules((), (), ["9.9.9.0/24"]))
    s.fd = again
    assert s.send(p) == "policy"
    s.close()


def test_the_next_session_of_a_number_is_judged_anew():
    s = Scene()
    p = packet4(s.session.v4)
    assert s.send(p) == p
    index = s.session.index
    s.exit.leave(s.circuit)  # never paid: it ends
    assert not s.exit.by_index
    s.exit._next = index
    s.exit.rules = Rules((), (), ["9.9.9.0/24"])
    s.resume()
    assert s.session.index == index and s.send(p) == "policy"
    s.close()


def test_a_known_flow_allocates_nothing():
    s = Scene()
    p4, p6 = packet4(s.session.v4), packet6(s.session.v6)
    for p in (p4, p6):
        assert s.send(p) == p
        ffi.poke(s.slot + 24, p)
        n = len(p)
        gc.collect()
        if MICROPYTHON:
            gc.disable()
            before = gc.mem_alloc()
            for _ in range(100):
                s.exit.send(s.session, s.slot, s.view, n)
            grown = gc.mem_alloc() - before
            gc.enable()
            assert grown == 0, "%d bytes" % grown
        while net.recvfrom(s.out)[0] is not None:
            pass
    s.close()
