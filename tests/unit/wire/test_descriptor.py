"""Descriptors: signatures, expiry, addresses."""

from harness import raises

from bwrouter.platform import net, sodium
from bwrouter.wire import address
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S

RELAY, RELAY_SECRET = sodium.ed25519_keypair(b"r" * 32)
GATE, GATE_SECRET = sodium.ed25519_keypair(b"g" * 32)


def made(**fields):
    d = D.Descriptor(RELAY, b"s" * 32, b"o" * 32, net.ip_bytes("198.18.0.7"), 51900, region=3, rate=40000, until=1000)
    for name in fields:
        setattr(d, name, fields[name])
    return D.endorse(d.sign(RELAY_SECRET), GATE, GATE_SECRET)


def test_round_trip():
    d = D.verify(made(flags=D.EXIT), [b"x" * 32, GATE], 999)
    assert (d.relay, d.static, d.obf) == (RELAY, b"s" * 32, b"o" * 32)
    assert (d.v4, d.port4, d.region, d.rate, d.until, d.exit) == (b"\xc6\x12\x00\x07", 51900, 3, 40000, 1000, True)
    assert d.pack() == d.raw[:149]


def test_every_flipped_byte_is_found():
    raw = made()
    for at in range(len(raw)):
        bad = bytearray(raw)
        bad[at] ^= 1
        raises(D.BadDescriptor, D.verify, bytes(bad), [GATE], 999)


def test_refusals():
    raw = made()
    assert raises(D.BadDescriptor, D.verify, raw, [GATE], 1001).code == S.E_EXPIRED
    assert D.verify(raw, [GATE], 0).until == 1000  # no clock yet
    assert raises(D.BadDescriptor, D.verify, raw, [], 999).code == S.E_SIGNATURE
    assert raises(D.BadDescriptor, D.verify, raw[:-1], [GATE], 999).code == S.E_MALFORMED
    assert raises(D.BadDescriptor, D.verify, raw[: S.DESCRIPTOR_RELAY_PART], [GATE], 999).code == S.E_MALFORMED
    assert raises(D.BadDescriptor, D.verify, b"", [GATE], 999).code == S.E_MALFORMED


def test_addresses():
    bad = ("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.16.0.1",
           "172.31.255.255", "192.168.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::", "::1", "fe80::1",
           "fc00::1", "fd62:7772::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1",
           "2002:a00:1::")  # fmt: skip
    for ip in bad:
        assert address.refused(net.ip_bytes(ip)), ip
    for ip in ("198.18.0.7", "8.8.8.8", "100.128.0.1", "172.32.0.1", "11.0.0.1", "2001:2::1", "2606:4700::1"):
        assert not address.refused(net.ip_bytes(ip)), ip
    own = [(net.ip_bytes("198.18.0.0"), 24), (net.ip_bytes("2001:2::7"), 128)]
    assert address.refused(net.ip_bytes("198.18.0.200"), own)
    assert not address.refused(net.ip_bytes("198.18.1.0"), own)
    assert address.refused(net.ip_bytes("2001:2::7"), own)
    assert not address.refused(net.ip_bytes("2001:2::8"), own)
    assert address.within(net.ip_bytes("172.16.9.9"), net.ip_bytes("172.16.8.0"), 23)
    assert not address.within(net.ip_bytes("172.16.10.9"), net.ip_bytes("172.16.8.0"), 23)


def test_workers_in_the_flags():
    for exit in (False, True):
        for workers in range(1, S.WORKERS_MAX + 1):
            d = D.Descriptor(b"r" * 32, b"s" * 32, b"o" * 32, flags=D.flags(exit, workers))
            assert (d.exit, d.workers) == (exit, workers) and d.flags < 65536
    assert D.flags(False, 1) == 0 and D.flags(True, 1) == D.EXIT
    assert [D.worker(bytes([n]) + bytes(107), 3) for n in (0, 1, 2, 3, 255)] == [0, 1, 2, 0, 0]
