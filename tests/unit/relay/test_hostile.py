"""What strangers may make a relay remember: each of these once cost it its memory, or a dead circuit's."""

import os
import struct

from bwrouter.platform import ffi, mmsg, net
from bwrouter.relay import credit
from bwrouter.relay import exit as exits
from bwrouter.relay.rules import Rules
from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T


class Circuit:
    def __init__(self):
        self.session = None
        self.tickets = ()
        self.paid = 0
        self.left = 0

    def used(self):
        return 0


def new_exit(most=8):
    return exits.Exit(-1, Rules(), lambda name: None, most=most)


def resume(e, c, key=bytes(16), mode=0, rate=0):
    return e.resume(c, struct.pack("<16sBBH", key, mode, 0, rate))


def fields(units=64):
    return b"k" * 8, os.urandom(32), os.urandom(64), units


def bad(ledger, c, serial, ticket):
    try:
        ledger.pay(c, T.pack_pay(serial, 0, bytes(32), ticket))
    except T.BadPayment as e:
        return str(e)
    return ""


def test_a_session_left_for_another_is_gone():
    """It stayed for ever, tied to a circuit whose memory the next circuit got."""
    e = new_exit()
    a = Circuit()
    b = Circuit()
    resume(e, a)
    key = resume(e, b)[:16]
    resume(e, a, key)
    assert a.session is b.session and a.session.circuit is a and a.session.circuits == 2
    assert len(e.by_index) == len(e.by_key) == 1
    e.leave(a)
    assert b.session.circuit is None
    e.leave(b)
    assert not e.by_index and not e.by_key


def test_sessions_of_circuits_that_paid_nothing_end_with_them():
    e = new_exit()
    c = Circuit()
    resume(e, c)
    e.leave(c)
    assert not e.by_index and not e.by_key
    c.paid = 1
    key = resume(e, c)[:16]
    e.leave(c)
    assert len(e.by_index) == 1
    d = Circuit()
    assert resume(e, d, key)[:16] == key


def test_sessions_are_bounded():
    e = new_exit(most=8)
    held = [Circuit() for _ in range(4)]
    for c in held:
        resume(e, c)
    for _ in range(40):
        c = Circuit()
        c.paid = 1
        assert resume(e, c) is not None
        e.leave(c)
    assert len(e.by_index) <= 8 and all([c.session.circuit is c for c in held])
    more = [Circuit() for _ in range(6)]
    answers = [resume(e, c) is not None for c in more]
    assert answers == [True] * 4 + [False] * 2


def test_packets_kept_for_constant_padding_are_bounded():
    e = new_exit(most=100)
    for _ in range(20):
        c = Circuit()
        resume(e, c, mode=exits.CONSTANT, rate=1)
        for _ in range(100):
            e.keep(c.session, b"x" * 10)
    assert sum([len(s.kept) for s in e.by_index.values()]) == e.waiting == exits.KEEP_ALL
    for s in list(e.by_index.values()):
        e.drop(s)
    assert e.waiting == 0


def test_tickets_that_nobody_vouched_for_are_bounded():
    ledger = credit.Ledger(lambda m: None, 20)
    circuits = [Circuit() for _ in range(4)]
    for c in circuits:
        for serial in range(12):
            bad(ledger, c, serial, fields())
    assert [len(c.tickets) for c in circuits] == [8, 8, 4, 0] and len(ledger.open) == 20
    assert bad(ledger, circuits[0], 8, fields()) == "waiting"
    for c in circuits:
        ledger.close(c)
    assert not ledger.open  # nothing was paid with any


def test_the_agent_hears_the_end_of_every_ticket_until_it_answers():
    told = []
    ledger = credit.Ledger(told.append)
    c = Circuit()
    for serial in range(2):
        assert bad(ledger, c, serial, fields()) == ""
    asked, confirmed = [m["id"] for m in told]
    ledger.opened({"id": confirmed, "ok": True})
    told.clear()
    ledger.close(c)
    ends = [(m["t"], m["id"], m["index"], m["final"]) for m in told]
    assert ends == [("meter", asked, 0, True), ("meter", confirmed, 0, True)]
    for _ in range(2):  # the agent may have been away
        told.clear()
        ledger.repeat()
        assert [(m["id"], m["final"]) for m in told] == [(confirmed, True)]
    ledger.redeemed({"id": confirmed, "index": 0})
    assert not ledger.open


def test_refused_tickets_leave_nothing():
    told = []
    ledger = credit.Ledger(told.append)
    c = Circuit()
    for serial in range(S.SERIALS_MAX):
        assert bad(ledger, c, serial, fields()) == ""
        ledger.opened({"id": told[-1]["id"], "ok": False})
    assert bad(ledger, c, 3, None) == "refused"
    assert bad(ledger, c, S.SERIALS_MAX, fields()) == "serials"
    assert not ledger.open and len(set([id(t) for t in c.tickets])) == 1
    assert T.parse_credit(ledger.credit(c))[3] == 0xFFFFFFFF


def test_a_run_longer_than_its_slots():
    """Since Linux 6.9 one system call sends up to 128 datagrams, and hands them on as one within the machine."""
    fd = net.udp_socket(0)
    rx = mmsg.Receiver(fd)
    if not rx.gro:
        return
    tx = mmsg.Sender(fd)
    size = 48
    whole = bytearray(128 * size)
    for i in range(128 * size):
        whole[i] = i // size
    where = bytearray(net.pack_addr("::1", net.local_port(fd)))
    # The sender of the product cuts at 64: send by hand what a hostile one sends.
    iov = bytearray(struct.pack("PP", ffi.addr(whole), len(whole)))
    control = bytearray(struct.pack("Pii", ffi.WORD + 10, 17, 103) + struct.pack("H", size))
    control += bytes(-len(control) % ffi.WORD)
    hdr = bytearray(
        struct.pack("PIPPPPi", ffi.addr(where), len(where), ffi.addr(iov), 1, ffi.addr(control), len(control), 0)
    )
    sent = net._sendmsg(fd, ffi.addr(hdr), 0)
    if sent == len(whole):  # else an older kernel, which refuses it
        assert rx.receive(4) == 1
        count = rx.cells(0)
        assert count == rx.per and rx.last == size
        for i in range(count):
            assert ffi.peek(rx.base + i * mmsg.SLOT, size) == bytes([i]) * size
    tx.flush()
    net.close(fd)
