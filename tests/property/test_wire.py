"""Properties of wire/: what is packed comes back, what is spoiled does not, and oracles that are not ours agree."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bwrouter.platform import ffi, mmsg, net, sodium
from bwrouter.wire import address, cell, handshake, noise, replay
from bwrouter.wire import anchor as A
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T
from tests.fuzz import parsers

settings.register_profile("wire", deadline=None, database=None)  # a busy machine is no failure
settings.load_profile("wire")
KEY16, KEY32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
CID = st.binary(min_size=8, max_size=8).map(cell.make_cid)
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
_RELAY, _SECRET = sodium.ed25519_keypair(b"r" * 32)


def unmask(packet: bytes, obf: bytes) -> bytes:
    return bytes(sodium.stream_xor(obf, packet[-12:], packet[:24])) + packet[24:]


# -- handshakes ---------------------------------------------------------------------------------


@given(KEY32, CID, st.binary(min_size=S.NOISE1, max_size=S.NOISE1), KEY16, st.binary(max_size=255))
def test_create(obf, cid, noise1, cookie, pad):
    packet = unmask(handshake.create(obf, cid, noise1, cookie, pad), obf)
    assert packet[:16] == bytes(8) + cid and len(packet) == S.CREATE_MIN + len(pad)
    assert sodium.shorthash(handshake.create_mac_key(obf), packet[:16]) == packet[16:24]
    assert handshake.parse_create(handshake.unmask_body(packet, obf)) == (cookie, noise1)


@given(KEY32, CID, CID, KEY16, st.binary(min_size=S.NOISE2, max_size=S.NOISE2), st.integers(S.CREATE_MIN, 450))
def test_created(obf, cid, own, link_key, noise2, most):
    raw = handshake.created(obf, cid, own, link_key, noise2, most)
    packet = unmask(raw, obf)
    assert len(raw) <= most and packet[:16] == cid + own
    assert sodium.shorthash(handshake.backward_mac_key(link_key), packet[:16]) == packet[16:24]
    assert handshake.parse_reply(handshake.unmask_body(packet, obf)) == ("created", noise2)


@given(KEY32, CID, KEY16, st.integers(S.CREATE_MIN, 450), KEY32)
def test_cookie(obf, cid, value, most, other):
    raw = handshake.cookie(obf, cid, value, most)
    assert len(raw) <= most
    assert handshake.open_cookie(unmask(raw, obf), obf) == value
    if other != obf:
        assert handshake.open_cookie(unmask(raw, other), other) is None


@given(st.integers(1, 7), KEY16, KEY32, U32, U16)
def test_payload1(origin, link_key, obf, now, flags):
    raw = handshake.payload1(origin, link_key, obf, now, flags)
    assert handshake.parse_payload1(raw) == (origin, flags, now, link_key, obf)


@given(U32, U16, U16)
def test_payload2(now, flags, grace):
    raw = handshake.payload2(now, flags, grace)
    assert handshake.parse_payload2(raw) == (flags, grace, now, S.VERSION)


@given(KEY32, KEY32, KEY32, st.binary(max_size=100), st.integers(0, 10_000), st.integers(0, 7))
def test_noise(static, e1, e2, payload, at, bit):
    public = sodium.x25519_public(static)
    initiator = noise.Initiator(public, ephemeral=e1)
    responder = noise.Responder(static, public, ephemeral=e2)
    one = initiator.write(payload)
    spoiled = bytearray(one)
    spoiled[at % len(one)] ^= 1 << bit
    if (at % len(one), bit) != (31, 7):  # RFC 7748 ignores the top bit of a public key; the transcript hash does not
        with pytest.raises(sodium.CryptoError):
            noise.Responder(static, public).read(bytes(spoiled))
    assert responder.read(one) == payload
    two = responder.write(payload[::-1])
    assert initiator.read(two) == payload[::-1] and initiator.keys == responder.keys


# -- cells --------------------------------------------------------------------------------------------


class Slot:
    def __init__(self) -> None:
        from bwrouter.platform import arena

        self.a = arena.take(8192)
        self.d, self.h = ffi.le32(self.a, 6), ffi.le16(self.a, 12)
        self.key = self.a + 4096


SLOT = Slot()


@given(
    st.binary(max_size=1400), KEY32, KEY32, CID, st.integers(0, S.COUNTER_LIMIT - 1), st.integers(0, 7), st.booleans(),
    st.integers(0, 100_000), st.integers(0, 7),
)  # fmt: skip
def test_cell(payload, key, obf, cid, count, origin, backward, at, bit):
    """Sealed, masked, unmasked, opened; a bit changed anywhere that an end checks is noticed."""
    s, c = SLOT, cell.cid_words(cid)
    ffi.poke(s.key, key + obf + b"m" * 16)
    ffi.poke(s.a + 24, payload)
    cell.set_counter(s.d, s.h, count, origin)
    cell.seal_layer(s.a, 24 + len(payload), s.d, s.key, backward)
    n = 40 + len(payload)
    if backward:
        cell.dress_backward(s.a, n, s.d, c[0], c[1], s.key + 64, s.key + 32)
    else:
        cell.dress_forward(s.a, n, s.d, c[0], c[1], s.key + 32)
    wire = ffi.peek(s.a, n)

    def accept(packet: bytes) -> bytes | None:
        ffi.poke(s.a, packet)
        cell.mask(s.a, n, s.key + 32)
        head = ffi.peek(s.a, 24)
        mac = sodium.shorthash(b"m" * 16, head[:16]) if backward else bytes(8)
        if head[:8] != cid or head[16:] != mac:
            return None
        return ffi.peek(s.a + 24, n - 40) if cell.open_layer(s.a, n, s.d, s.key, backward) else None

    assert accept(wire) == payload
    spoiled = bytearray(wire)
    spoiled[at % n] ^= 1 << bit
    assert accept(bytes(spoiled)) is None


@given(st.binary(min_size=8, max_size=8))
def test_circuit_ids_are_small_ints(random):
    cid = cell.make_cid(random)
    assert struct.pack("<II", *cell.cid_words(cid)) == cid and max(cell.cid_words(cid)) < 1 << 30


# -- descriptors, tickets ----------------------------------------------------------------------------------


@given(
    KEY32, KEY32, st.binary(min_size=4, max_size=4), U16, st.binary(min_size=16, max_size=16), U16, U16, U16, U32, KEY16,
    U32, KEY32, st.integers(0, S.DESCRIPTOR - 1), st.integers(0, 7),
)  # fmt: skip
def test_descriptor(static, obf, v4, port4, v6, port6, region, flags, rate, policy, until, seed, at, bit):
    gateway, secret = sodium.ed25519_keypair(seed)
    d = D.Descriptor(_RELAY, static, obf, v4, port4, v6, port6, region, flags, rate, policy, until)
    raw = D.endorse(d.sign(_SECRET), gateway, secret)
    assert len(raw) == S.DESCRIPTOR
    back = D.verify(raw, [gateway], 0)
    assert {k: v for k, v in vars(back).items() if k != "raw"} == {k: v for k, v in vars(d).items() if k != "raw"}
    assert (until >= 1000) == (_code(raw, gateway, 1000) == 0)
    spoiled = bytearray(raw)
    spoiled[at] ^= 1 << bit
    assert _code(bytes(spoiled), gateway, 0) in (S.E_SIGNATURE, S.E_MALFORMED)


@given(KEY32, KEY32, KEY32, KEY16, U32, st.integers(0, S.ANCHOR_SIZE - 1), st.integers(0, 7), KEY32, KEY16)
def test_anchor(seed, obf, static, link_key, now, at, bit, other, other_key):
    relay, secret = sodium.ed25519_keypair(seed)
    raw = A.pack(relay, secret, obf, static, link_key, now)
    assert len(raw) == S.ANCHOR_SIZE and A.verify(raw, static, link_key, 0) == (relay, obf, b"")
    assert A.verify(raw + b"d" * (S.DESCRIPTOR + 9), static, link_key, now)[2] == b"d" * S.DESCRIPTOR
    spoiled = bytearray(raw)
    spoiled[at] ^= 1 << bit
    wrong = [(bytes(spoiled), static, link_key, 0), (raw[:-1], static, link_key, 0)]
    wrong += [(raw, static, link_key, now + S.CLOCK_SKEW + 1)]
    wrong += [(raw, other, link_key, 0)] * (other != static) + [(raw, static, other_key, 0)] * (other_key != link_key)
    for case in wrong:
        with pytest.raises(A.Malformed):
            A.verify(*case)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), U16, st.binary(max_size=S.CREATE_MAX + 8))
def test_introduction(ip, port, packet):
    where = net.pack_addr(str(ip), port)
    payload = A.introduction(where, packet)
    if S.CREATE_MIN <= len(packet) <= S.CREATE_MAX:
        assert A.parse_introduction(payload) == (where, packet) and len(payload) <= S.INTRODUCE_MAX
    else:
        with pytest.raises(A.Malformed):
            A.parse_introduction(payload)


def _code(raw: bytes, gateway: bytes, now: int) -> int:
    try:
        D.verify(raw, [gateway], now)
    except D.BadDescriptor as e:
        return int(e.code)
    return 0


@given(KEY32, st.lists(st.integers(0, 64), min_size=1, max_size=8), st.integers(0, 31), KEY32)
def test_pay_and_meter(top, indices, serial, wrong):
    chain = T.Chain(top, 64)
    fields = (b"k" * 8, chain.anchor, bytes(64), 64)
    meter = T.Meter(chain.anchor, 64)
    paid = 0
    for i in indices:
        assert T.parse_pay(T.pack_pay(serial, i, chain.word(i), fields)) == (serial, i, chain.word(i), fields)
        assert T.parse_pay(T.pack_pay(serial, i, chain.word(i))) == (serial, i, chain.word(i), None)
        if i > paid and wrong != chain.word(i):
            with pytest.raises(T.BadPayment):
                meter.pay(i, wrong)
        paid += meter.pay(i, chain.word(i))
        assert paid == meter.index == max(paid, i)


@given(U32, U32, U32, U32)
def test_credit(used, paid, opened, refused):
    assert T.parse_credit(T.pack_credit(used, paid, opened, refused)) == (used, paid, opened, refused)


# -- against oracles --------------------------------------------------------------------------------------

# Python's registry calls these special too; nobody's home, and the product speaks to the first two in tests.
DOCUMENTATION = ["198.18.0.0/15", "2001:2::/48", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
OTHER = ["2001::/23", "3fff::/20"]


def _may_differ(a: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(a in ipaddress.ip_network(n) for n in DOCUMENTATION + OTHER if ipaddress.ip_network(n).version == a.version)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
@example(ipaddress.ip_address("::ffff:10.0.0.1"))
@example(ipaddress.ip_address("64:ff9b::10.0.0.1"))
@example(ipaddress.ip_address("2002:a00:1::"))
@example(ipaddress.ip_address("100.64.0.1"))
@example(ipaddress.ip_address("255.255.255.255"))
@settings(max_examples=2000)
def test_whatever_is_not_public_is_refused(a):
    """Oracle: the IANA registries as Python has them."""
    if (not a.is_global or a.is_multicast or a.is_reserved) and not _may_differ(a):
        assert address.refused(a.packed), a


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128), st.data())
def test_prefixes(inside, bits, data):
    network = ipaddress.ip_network((inside, min(bits, inside.max_prefixlen)), strict=False)
    assert address.within(inside.packed, network.network_address.packed, network.prefixlen)
    bits, raw = network.prefixlen, network.network_address.packed
    a = data.draw(st.ip_addresses(v=network.version))
    assert address.within(a.packed, raw, bits) == (a in network)
    assert address.refused(a.packed, ((raw, bits),)) >= (a in network)


STEPS = st.lists(st.tuples(st.integers(-1100, 1100), st.integers(1, 40)), max_size=60)


@given(STEPS, st.integers(0, S.COUNTER_LIMIT - 1))
@example([(0, 40), (1100, 1), (-1008, 1), (-1, 1)], 0)
def test_replay_window_against_a_set(steps, start):
    windows = replay.Windows(1)
    w = windows.take_one()
    seen: set[int] = set()
    top, at = -1, start
    for jump, run in steps:
        at = min(max(at + jump, 0), S.COUNTER_LIMIT - 1)
        for count in range(at, min(at + run, S.COUNTER_LIMIT)):
            fresh = windows.fresh(w, count)
            assert fresh == (count > top or (count not in seen and top - count <= S.WINDOW))
            if fresh:
                windows.take(w, count)
                seen.add(count)
                top = max(top, count)


@pytest.fixture(scope="module")
def loopback():
    fd = net.udp_socket(0)
    net.buffers(fd, 4 << 20, 1 << 20)
    rx = mmsg.Receiver(fd)
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.connect(("::1", net.local_port(fd)))
    yield rx, s
    s.close()
    net.close(fd)


RUNS = st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 64), st.integers(0, 1999)), min_size=1, max_size=6)


@given(RUNS, st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_fall_into_datagrams(loopback, runs, gro):
    """What one system call sends as a run, of any sizes in any order, the receiver gives back one by one."""
    rx, s = loopback
    rx.offload(gro)
    sent = []
    for size, count, last in runs:
        count = max(1, min(count, 60_000 // size))
        cells = [os.urandom(size) for _ in range(count)]
        if count > 1:
            cells[-1] = cells[-1][: 1 + last % size]
        s.sendmsg([b"".join(cells)], [(socket.SOL_UDP, 103, struct.pack("H", size))] if count > 1 else [])
        sent += cells
    got = []
    while True:
        messages = rx.receive(64)
        if not messages:
            break
        for m in range(messages):
            n = rx.cells(m)
            for i in range(n):
                size = rx.size if i < n - 1 else rx.last
                got.append((size, ffi.peek(rx.base + (m * rx.per + i) * mmsg.SLOT, min(size, mmsg.SLOT))))
        rx.done()
    assert len(got) == len(sent)
    for (size, data), cell_ in zip(got, sent):
        assert size == len(cell_) or size > S.PACKET_MAX < len(cell_)
        assert size > S.PACKET_MAX or data == cell_


# -- the fuzzer's targets, on hypothesis' bytes and on its own seeds ------------------------------------------


@pytest.mark.parametrize("name", sorted(parsers.TARGETS))
def test_target(name):
    target, seeds = parsers.TARGETS[name], parsers.seeds()[name]
    for data in seeds:
        target(data)

    @given(st.one_of(st.binary(max_size=600), st.tuples(st.sampled_from(seeds), st.integers(0, 600), st.binary(max_size=8))))
    @settings(max_examples=150, deadline=None, database=None)
    def run(data):
        if isinstance(data, tuple):
            good, at, change = data
            data = good[:at] + change + good[at + len(change) :]
        target(data)

    run()
