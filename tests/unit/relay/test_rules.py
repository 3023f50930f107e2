"""What an exit lets out, by packets: addresses, ports, the owner's rules, fragments and IPv6's extension headers."""

import struct

from harness import raises

from bwrouter.platform import net
from bwrouter.relay.rules import LATER, Rules, ports4, ports6

TCP, UDP, ICMP, SCTP = 6, 17, 1, 132
PUBLIC4, PUBLIC6 = net.ip_bytes("203.0.113.7"), net.ip_bytes("2a00:1450::5")


def v4(protocol, port, fragment=0, options=0):
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, 28 + 4 * options, 1, fragment, 64, protocol, 0)
    return head + bytes(4) + PUBLIC4 + bytes(4 * options) + struct.pack(">HHHH", 40000, port, 8, 0)


def v6(first, extensions, port):
    body = extensions + struct.pack(">HHHH", 40000, port, 8, 0)
    return struct.pack(">IHBB", 6 << 28, len(body), first, 64) + bytes(16) + PUBLIC6 + body


def seen4(packet):
    return ports4(b"??" + packet, 2, len(packet))


def seen6(packet):
    return ports6(b"??" + packet, 2, len(packet))


def test_private_own_and_mail_are_never_reached():
    own = [(net.ip_bytes("198.51.100.0"), 24), (net.ip_bytes("2001:2:0:5::"), 64)]
    r = Rules(own, ["0.0.0.0/0", "::/0"])
    for text in (
        "10.1.1.1", "172.31.0.1", "192.168.0.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "100.127.255.255",
        "224.0.0.1", "255.255.255.255", "0.0.0.0", "192.0.0.8", "198.51.100.7", "::1", "::", "fd00::1", "fc00::1",
        "fe80::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:1::1",
        "2001:2:0:5::9", "100::1",
    ):  # fmt: skip
        assert r.refuses(net.ip_bytes(text), UDP, 53), text
    for target in (PUBLIC4, PUBLIC6):
        assert not r.refuses(target, TCP, 443)
        for protocol in (TCP, UDP, SCTP, 136):
            assert r.refuses(target, protocol, 25)
        assert not r.refuses(target, ICMP, 0)
    assert not Rules().refuses(net.ip_bytes("100.128.0.1"), TCP, 443)  # just past CGNAT


def test_the_owners_rules_by_network_and_port():
    r = Rules((), [], ["203.0.113.0/24:53", "[2a00:1450::/32]", "198.51.100.0/24"])
    assert r.refuses(PUBLIC4, UDP, 53) and not r.refuses(PUBLIC4, UDP, 54) and not r.refuses(PUBLIC4, SCTP, 53)
    assert r.refuses(PUBLIC6, UDP, 1) and r.refuses(net.ip_bytes("198.51.100.1"), ICMP, 0)
    r = Rules((), ["203.0.113.0/24:443", "2a00:1450::/32"], ["203.0.113.7:443"])
    assert r.refuses(PUBLIC4, TCP, 443)  # a denial stands before what is allowed
    neighbour = net.ip_bytes("203.0.113.8")
    assert not r.refuses(neighbour, TCP, 443) and r.refuses(neighbour, TCP, 80) and r.refuses(neighbour, ICMP, 0)
    assert not r.refuses(PUBLIC6, TCP, 80) and r.refuses(net.ip_bytes("9.9.9.9"), TCP, 443)
    raises(ValueError, Rules, (), ["nonsense"])
    raises(ValueError, Rules, (), [], ["203.0.113.0/24:x"])


def test_a_later_fragment_is_judged_by_its_address():
    r = Rules((), ["203.0.113.0/24:443"], ["203.0.113.0/24:53"])
    assert not r.refuses(PUBLIC4, UDP, LATER) and r.refuses(net.ip_bytes("9.9.9.9"), UDP, LATER)
    assert Rules((), [], ["203.0.113.0/24"]).refuses(PUBLIC4, UDP, LATER)


def test_ports_of_ipv4():
    assert seen4(v4(TCP, 443)) == (TCP, 443) and seen4(v4(UDP, 53, options=3)) == (UDP, 53)
    assert seen4(v4(ICMP, 443)) == (ICMP, 0)
    assert seen4(v4(TCP, 25, fragment=0x2000)) == (TCP, 25)  # the first of several
    assert seen4(v4(TCP, 25, fragment=0x2001)) == (TCP, LATER)
    assert seen4(v4(TCP, 25)[:22]) == (TCP, 0)


def test_ports_of_ipv6_behind_its_headers():
    assert seen6(v6(TCP, b"", 25)) == (TCP, 25) and seen6(v6(58, b"", 25)) == (58, 0)
    hop = bytes([TCP, 0]) + bytes(6)
    assert seen6(v6(0, hop, 25)) == (TCP, 25)
    assert seen6(v6(60, bytes([43, 1]) + bytes(14) + hop, 25)) == (TCP, 25)
    assert seen6(v6(51, bytes([TCP, 4]) + bytes(22), 25)) == (TCP, 25)
    assert seen6(v6(44, bytes([TCP, 0, 0, 1]) + bytes(4), 25)) == (TCP, 25)
    assert seen6(v6(44, bytes([TCP, 0, 0, 8]) + bytes(4), 25)) == (TCP, LATER)
    many = (bytes([60, 0]) + bytes(6)) * 8
    assert seen6(v6(60, many, 25)) == (-1, 0) and Rules().refuses(PUBLIC6, -1, 0)
    assert seen6(v6(0, hop, 25)[:44]) == (-1, 0)
