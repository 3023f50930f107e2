"""An anchor at a relay: who is granted one, what is introduced, and every bound."""

import os

from bwrouter.platform import clock, ffi, net, sodium
from bwrouter.relay import anchors, setup
from bwrouter.relay import circuit as C
from bwrouter.wire import anchor as A
from bwrouter.wire import descriptor as D
from bwrouter.wire import handshake, noise
from bwrouter.wire import sizes as S

SECRET, OBF = bytes(range(32)), bytes(range(32, 64))
PUBLIC = sodium.x25519_public(SECRET)
GATEWAY, GATEWAY_SECRET = sodium.ed25519_keypair(b"g" * 32)
P = net.pack_addr("198.18.7.7", 4000)


class Router:
    """One that asks for an anchor."""

    def __init__(self, n):
        self.id, self.secret = sodium.ed25519_keypair(bytes([n]) * 32)
        self.obf = bytes([n]) * 32

    def ask(self, link_key, static=PUBLIC, now=None, proved=False):
        text = A.pack(self.id, self.secret, self.obf, static, link_key, clock.unix() if now is None else now)
        return text + (self.descriptor() if proved else b"")

    def descriptor(self, until=3600, secret=None):
        d = D.Descriptor(self.id, PUBLIC, self.obf, b"\xc6\x12\x01\x02", 4000, flags=D.flags(False, 1) | D.ANCHORED,
                         until=clock.unix() + until)  # fmt: skip
        return D.endorse(d.sign(self.secret), GATEWAY, secret or GATEWAY_SECRET)


class Scene:
    def __init__(self, most=4, circuits=8):
        self.drops = []
        self.ended = []
        self.table = C.Table(circuits)
        self.setup = setup.Setup(self.table, SECRET, OBF, None, self.drops.append, self.close)
        self.setup.gateway_keys = [GATEWAY]
        self.anchors = anchors.Anchors(self.setup, self.drops.append, self.end)
        self.anchors.most = most

    def end(self, c):
        self.ended.append(c)
        self.close(c)

    def close(self, c):
        self.anchors.forget(c)
        self.table.remove(c)

    def circuit(self):
        """A circuit to us, and its link key."""
        key = os.urandom(16)
        c = self.table.add(3)
        ffi.poke(c.k + C.P_MAC_B, handshake.backward_mac_key(key))
        return c, key

    def grant(self, router, proved=False):
        self.anchors._asked = 0
        c, key = self.circuit()
        assert self.anchors.ask(c, router.ask(key, proved=proved)) == 0
        return c

    def arrives(self, packet):
        """A datagram as the loop hands it over."""
        head = sodium.stream_xor(OBF, packet[-S.NONCE :], packet[: S.HEADER])
        return self.anchors.find(head + packet[S.HEADER :], P)


def create(obf, pad=None):
    return handshake.create(obf, b"initiato", os.urandom(S.NOISE1), pad=pad)


def test_a_create_for_the_router_is_introduced_as_it_came():
    s, one, two = Scene(), Router(1), Router(2)
    s.grant(one)
    c = s.grant(two)
    for pad in (b"", bytes(S.PAD_MAX)):
        packet = create(two.obf, pad)
        found, payload = s.arrives(packet)
        assert found is c and len(payload) <= S.INTRODUCE_MAX
        assert A.parse_introduction(payload) == (P, packet)
    assert s.anchors.told == 2 and not s.drops


def test_what_is_for_nobody_is_not():
    s, one = Scene(), Router(1)
    s.grant(one)
    packet = create(one.obf)
    changed = bytes([packet[0] ^ 1]) + packet[1:]
    for other in (create(b"x" * 32), os.urandom(200), changed, create(one.obf, bytes(256)), packet[:-60]):
        assert s.arrives(other) is None
    assert s.anchors.told == 0
    assert Scene().arrives(packet) is None


def test_a_signature_is_good_at_this_anchor_on_this_circuit_for_a_while():
    s, one = Scene(), Router(1)
    c, key = s.circuit()
    good = one.ask(key)
    thief, stolen = s.circuit()
    s.anchors._asked = -100
    assert s.anchors.ask(thief, good) == S.E_SIGNATURE, "said again on another circuit"
    assert s.anchors.ask(thief, one.ask(stolen, static=b"s" * 32)) == S.E_SIGNATURE, "said to another anchor"
    late = clock.unix() - S.CLOCK_SKEW - 5
    assert s.anchors.ask(c, one.ask(key, now=late)) == (S.E_SIGNATURE if clock.is_set() else 0)
    for i in (0, 40, 64, 100):  # relay, obfuscation key, time, signature
        changed = good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :]
        assert s.anchors.ask(thief, changed) == S.E_SIGNATURE, i
    assert s.anchors.ask(c, good[:-1]) == S.E_SIGNATURE
    assert s.table.kept == [] or not clock.is_set()
    assert s.anchors.ask(c, good) == 0 and s.table.kept == [c]
    assert s.anchors.ask(thief, good) == S.E_SIGNATURE and s.table.kept == [c], "the router stays"


def test_descriptors_of_strangers_prove_nothing():
    s, one, two = Scene(), Router(1), Router(2)
    s.anchors._asked = -100
    c, key = s.circuit()
    assert s.anchors.ask(c, one.ask(key) + two.descriptor()) == S.E_SIGNATURE
    assert s.anchors.ask(c, one.ask(key) + one.descriptor(secret=sodium.ed25519_keypair(b"x" * 32)[1])) == S.E_SIGNATURE
    if clock.is_set():
        assert s.anchors.ask(c, one.ask(key) + one.descriptor(until=-60)) == S.E_EXPIRED
    assert s.table.kept == []
    assert s.anchors.ask(c, one.ask(key, proved=True)) == 0 and s.anchors.all[0].proved


def test_the_newest_circuit_of_a_router_counts():
    s, one = Scene(), Router(1)
    s.grant(one, proved=True)
    c = s.grant(one)
    assert s.table.kept == [c] and s.anchors.all[0].proved, "what was proved stays so"
    assert s.arrives(create(one.obf))[0] is c
    s.close(c)
    assert s.table.kept == [] and s.arrives(create(one.obf)) is None


def test_room_is_bounded_and_goes_to_whom_a_gateway_knows():
    s = Scene(most=2)
    first = s.grant(Router(1))
    second = s.grant(Router(2), proved=True)
    third = s.grant(Router(3), proved=True)
    assert s.ended == [first] and s.table.kept == [second, third] and s.drops == ["anchor-unproved"]
    s.anchors._asked = 0
    c, key = s.circuit()
    assert s.anchors.ask(c, Router(4).ask(key, proved=True)) == S.E_TABLE_FULL and s.table.kept == [second, third]
    s.anchors.most = 0  # the owner wants none any more
    assert s.anchors.ask(c, Router(4).ask(key)) == S.E_ANCHOR
    s.anchors.tick()
    s.anchors.tick()
    assert s.table.kept == [] and s.ended == [first, third, second]


def test_who_is_not_proved_leaves_after_a_while():
    s = Scene()
    c = s.grant(Router(1))
    kept = s.grant(Router(2), proved=True)
    for _ in range(anchors.PROVE_SECONDS):
        s.anchors.tick()
    assert s.table.kept == [c, kept]
    s.anchors.tick()
    assert s.table.kept == [kept] and s.ended == [c]


def test_a_full_table_displaces_no_anchored_router():
    s = Scene(circuits=3)
    c = s.grant(Router(1))
    other, _ = s.circuit()
    for i in range(3):
        s.table.age[i] = C.UNPAID_SECONDS
    assert s.table.freeloader() is other
    s.close(other)
    assert s.table.freeloader() is None
    s.anchors.forget(c)
    assert s.table.freeloader() is c


def test_signatures_are_checked_a_few_times_a_second():
    s = Scene()
    c, _ = s.circuit()
    for _ in range(anchors.ASKED_MOST):
        assert s.anchors.ask(c, bytes(S.ANCHOR_SIZE)) == S.E_SIGNATURE
    assert s.anchors.ask(c, bytes(S.ANCHOR_SIZE)) is None and s.drops == ["anchor-busy"]
    s.anchors.tick()
    assert s.anchors.ask(c, bytes(S.ANCHOR_SIZE)) == S.E_SIGNATURE


def test_a_flood_is_limited_for_each_router_and_in_all():
    s = Scene(most=32, circuits=40)
    routers = [Router(n) for n in range(1, 12)]
    for router in routers:
        s.grant(router, proved=True)
    told = [sum([s.arrives(create(r.obf)) is not None for _ in range(anchors.EACH_MOST + 3)]) for r in routers]
    assert told[0] == anchors.EACH_MOST and sum(told) == anchors.ALL_MOST and set(s.drops) == {"introduce-limit"}
    s.anchors.tick()
    assert s.arrives(create(routers[-1].obf)) is not None
    s.anchors._tries = anchors.TRIES_MOST - 2
    s.drops.clear()
    assert s.arrives(os.urandom(200)) is None and s.drops == ["introduce-busy"]


def test_the_router_takes_it_as_if_it_had_come_from_there():
    sent, drops = [], []
    table = C.Table(4)
    s = setup.Setup(table, SECRET, OBF, lambda datagram, where: sent.append((datagram, where)), drops.append, None, 0, 3)
    s.own = [(b"\xc6\x12\x09\x00", 24)]
    while True:  # another process's, if the descriptor named three
        message = noise.Initiator(PUBLIC).write(handshake.payload1(3, b"l" * 16, bytes(32), clock.unix()))
        if D.worker(message, 3):
            break
    packet = handshake.create(OBF, b"initiato", message)
    for refused in ("192.168.1.1", "127.0.0.1", "100.64.0.1", "198.18.9.3", "fe80::1", "::ffff:10.0.0.1"):
        assert s.introduced(packet, net.pack_addr(refused, 4000)) is None
    assert set(drops) == {"introduce-address"} and not sent
    assert s.introduced(os.urandom(200), P) is None and drops[-1] == "introduce-malformed"
    assert s.introduced(packet, P) is not None and sent[0][1] == P and len(sent[0][0]) <= len(packet)
    assert s.introduced(packet, net.pack_addr("198.18.8.8", 4000)) is None and drops[-1] == "create-replayed"


def test_whoever_extends_takes_the_answer_from_where_it_comes():
    router = Router(1)
    for anchored in (False, True):
        drops, sent = [], []
        table = C.Table(4)
        s = setup.Setup(table, SECRET, OBF, lambda datagram, where: sent.append(where), drops.append, None)
        s.gateway_keys = [GATEWAY]
        d = D.Descriptor(router.id, PUBLIC, router.obf, b"\xc6\x12\x01\x02", 4000, until=clock.unix() + 60,
                         flags=D.ANCHORED if anchored else 0)  # fmt: skip
        raw = D.endorse(d.sign(router.secret), GATEWAY, GATEWAY_SECRET)
        c = table.add(3)
        assert s.extend(c, raw + b"l" * 16 + os.urandom(S.NOISE1)) == 0
        there = net.pack_addr("198.18.1.2", 4000)
        assert sent == [there]
        cid = ffi.peek(c.k + C.NEXT_CID, 8)

        def answer(where, s=s, c=c, cid=cid):
            packet = handshake.created(OBF, cid, b"theirs\0\0", b"l" * 16, os.urandom(S.NOISE2), 400)
            return s.on_reply(c, sodium.stream_xor(OBF, packet[-12:], packet[:24]) + packet[24:], where)

        if anchored:
            for refused in ("192.168.1.1", "127.0.0.1", "::1"):
                assert answer(net.pack_addr(refused, 9)) is None and c.next == C.NEXT_WAITING
            assert drops == ["created-address"] * 3
        assert answer(P)[0] == "created" and c.next == C.NEXT_READY
        assert ffi.peek(c.k + C.N_ADDR, 28) == (P if anchored else there)


def test_our_own_pad_does_not_stir_a_circuit():
    table = C.Table(2)
    c = table.add(3)
    table.stirred(c)
    assert not table.stirred(c)
    c.sent += 1
    table.unheard(c)
    assert not table.stirred(c)
    c.sent += 1
    assert table.stirred(c)
