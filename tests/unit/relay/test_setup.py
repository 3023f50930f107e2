"""Handshakes at a relay: repeated CREATEs, a full table, workers, and which port an EXTEND goes to."""

import os

from bwrouter.platform import clock, net, sodium
from bwrouter.relay import circuit as C
from bwrouter.relay import setup
from bwrouter.wire import descriptor as D
from bwrouter.wire import handshake, noise
from bwrouter.wire import sizes as S

SECRET, OBF, REPLY = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
GATEWAY, GATEWAY_SECRET = sodium.ed25519_keypair(b"g" * 32)
RELAY, RELAY_SECRET = sodium.ed25519_keypair(b"r" * 32)
HERE = net.pack_addr("198.18.9.9", 4000)


class Scene:
    def __init__(self, most=4, worker=0, workers=1):
        self.sent = []
        self.drops = []
        self.table = C.Table(most)
        self.setup = setup.Setup(
            self.table, SECRET, OBF, self.send, self.drops.append, self.table.remove, worker, workers
        )
        self.setup.gateway_keys = [GATEWAY]

    def send(self, datagram, sockaddr):
        self.sent.append((datagram, sockaddr))

    def create(self, noise1, sockaddr=HERE):
        """A CREATE as the loop hands it over; how many datagrams it was answered with."""
        packet = handshake.create(OBF, b"initiato", noise1)
        before = len(self.sent)
        self.setup.on_create(unmask(packet, OBF), sockaddr)
        return len(self.sent) - before


class Ticket:
    def __init__(self, state):
        self.state = state


def unmask(packet, obf):
    return sodium.stream_xor(obf, packet[-12:], packet[:24]) + packet[24:]


def message1(first=None, workers=1):
    while True:
        initiator = noise.Initiator(sodium.x25519_public(SECRET))
        message = initiator.write(handshake.payload1(3, b"l" * 16, REPLY, clock.unix()))
        if first is None or D.worker(message, workers) == first:
            return message


def test_a_repeated_create_is_answered_again_for_seconds():
    s = Scene()
    m = message1()
    assert s.create(m) == 1
    for turn in range(2):  # however soon the relay tidies up after the first answer
        s.setup._answers_at = clock.add(clock.ms(), -setup.ANSWER_MS - 1)
        s.setup.tick()
        if turn == 0:
            assert s.create(m) == 1 and s.sent[0] == s.sent[1]
    assert s.create(m) == 0 and s.drops == ["create-replayed"]
    assert len(s.table.all) == 1


def test_a_copy_from_elsewhere_is_not():
    s = Scene()
    m = message1()
    assert s.create(m) == 1
    assert s.create(m, net.pack_addr("198.18.9.8", 4000)) == 0 and s.drops == ["create-replayed"]


def test_a_full_table_says_so_once_for_each_handshake():
    s = Scene(most=1)
    assert s.create(message1()) == 1
    m = message1()
    assert s.create(m) == 1 and s.drops == ["table-full"]
    packet = unmask(s.sent[1][0], REPLY)
    assert packet[:16] == b"initiato" + bytes(8)
    assert sodium.shorthash(handshake.backward_mac_key(b"l" * 16), packet[:16]) == packet[16:24]
    assert handshake.parse_reply(handshake.unmask_body(packet, REPLY)) == ("refused", S.E_TABLE_FULL)
    assert s.create(m) == 1 and s.sent[1] == s.sent[2] and len(s.table.all) == 1


def test_who_does_not_pay_makes_room_for_others():
    s = Scene(most=4)
    for _ in range(4):
        s.create(message1())
    made = list(s.table.all)
    made[0].tickets = (Ticket(1),)
    made[1].tickets = (Ticket(-1), Ticket(0))  # the gateway has not said yet
    made[2].tickets = (Ticket(-1),)
    for c in made:
        s.table.age[s.table.index(c)] = C.UNPAID_SECONDS - 1
    assert s.create(message1()) == 1 and s.drops == ["table-full"]
    for c in made:
        s.table.age[s.table.index(c)] = C.UNPAID_SECONDS
    s.create(message1())
    s.create(message1())
    assert s.drops == ["table-full"] and s.table.all[:2] == made[:2] and len(s.table.all) == 4
    assert s.create(message1()) == 1 and s.drops == ["table-full"] * 2  # the new ones have their time, too


def test_each_worker_takes_its_own():
    for worker in range(3):
        s = Scene(8, worker, 3)
        for other in range(3):
            assert s.create(message1(other, 3)) == (1 if other == worker else 0)
        assert s.drops == ["create-worker"] * 2


def extended(workers, port, noise1, v6=False):
    """Where an EXTEND goes: (error code, sockaddr)."""
    s = Scene()
    where = {"v6": net.ip_bytes("2001:2::7"), "port6": port} if v6 else {"v4": b"\xc6\x12\x09\x07", "port4": port}
    d = D.Descriptor(RELAY, sodium.x25519_public(SECRET), OBF, flags=D.flags(False, workers), until=4000000000, **where)
    raw = D.endorse(d.sign(RELAY_SECRET), GATEWAY, GATEWAY_SECRET)
    code = s.setup.extend(s.table.add(1), raw + os.urandom(16) + noise1)
    return code, s.sent[0][1] if s.sent else None


def test_an_extend_goes_to_the_workers_port():
    for worker in range(4):
        for v6 in (False, True):
            code, where = extended(4, 5000, message1(worker, 4), v6)
            assert code == 0 and net.unpack_addr(where)[1] == 5000 + worker
    assert extended(1, 5000, message1())[1] == net.pack_addr("198.18.9.7", 5000)
    assert extended(2, 65535, message1(0, 2))[0] == 0
    assert extended(2, 65535, message1(1, 2)) == (S.E_ADDRESS, None)  # there is no port 65536
