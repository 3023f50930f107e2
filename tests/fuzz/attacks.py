"""Attacks on a live relay, each a batch of datagrams. The name of the function is its name in the report.

An attack gets the world and the foothold that it starts from, and sends. What arrives afterwards is judged by the world.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any

from bwrouter.platform import ffi, net, sodium
from bwrouter.wire import address, cell, handshake
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T

from . import attacker
from .attacker import Foothold, enter, pay_for, scratch, unmask

if TYPE_CHECKING:
    from .world import World

SIZES = (0, 1, 23, 24, 39, 40, 41, 57, 100, 167, 300, 500, 1000, 1300, 1455, 1456, 1472)
_SMALL_ORDER = (bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f")


def flip(data: bytes, rng: Any, low: int = 0, high: int | None = None) -> bytes:
    """A copy with 1 to 4 bits flipped between `low` and `high`."""
    out = bytearray(data)
    span = (len(data) if high is None else high) - low
    for _ in range(rng.choice((1, 1, 2, 4))):
        out[low + rng.randrange(span)] ^= 1 << rng.getrandbits(3)
    return bytes(out) if bytes(out) != data else data[:-1] + bytes([data[-1] ^ 1])


# -- without any key but what the directory shows ---------------------------------------


def garbage(w: World, f: Foothold) -> None:
    size = w.rng.choice((41, 64, 167, 183, 300, 700, 1024, 1472))
    whole = os.urandom(size * 200)
    w.stranger.send_run([whole[i * size : (i + 1) * size] for i in range(w.batch(size))], f.where)
    for _ in range(8):
        w.stranger.send(os.urandom(w.rng.choice(SIZES)), f.where)


def oversized(w: World, f: Foothold) -> None:
    for size in (1473, 1480, 2016, 2048, 2049, 4096, 9000, w.rng.randrange(1473, 65000)):
        w.stranger.send(os.urandom(size), f.where)
    w.stranger.send_run([os.urandom(w.rng.choice((1473, 1500, 2048, 3000)))] * 12, f.where)


def create(w: World, f: Foothold, **fields: Any) -> bytes:
    """A CREATE to the relay of `f`."""
    return attacker.create(f.relay, w.stranger.obf, flags=w.rng.getrandbits(16), **fields)


def creates(w: World, f: Foothold) -> None:
    """Good ones: they are answered, with no byte more than they brought."""
    for _ in range(w.rng.choice((2, 4, 40))):
        w.stranger.send(create(w, f, pad=os.urandom(w.rng.choice((0, 1, 52, 255)))), f.where)


def creates_replayed(w: World, f: Foothold) -> None:
    packet = create(w, f)
    w.stranger.send(packet, f.where)
    w.other.send_run([packet] * 50, f.where)
    w.stranger.send_run([packet] * 20, f.where)
    w.old_creates.append((f.where, packet))
    for where, old in w.rng.sample(w.old_creates, min(20, len(w.old_creates))):
        w.other.send(old, where)


def creates_spoiled(w: World, f: Foothold) -> None:
    bad: list[dict[str, Any]] = [
        {"version": 0}, {"version": 2}, {"version": 255}, {"origin": 0}, {"origin": 8}, {"origin": 255},
        {"late": 700}, {"late": -700}, {"static": os.urandom(32)}, {"obf": os.urandom(32)},
        *({"ephemeral": e} for e in _SMALL_ORDER), {"cookie": os.urandom(16), "ephemeral": os.urandom(32)},
    ]  # fmt: skip
    for fields in bad:
        w.stranger.send(create(w, f, **fields), f.where)
    good = create(w, f)
    for _ in range(60):
        w.stranger.send(flip(good, w.rng), f.where)
    for n in (len(good) - 1, 182, 168, 167, 166, 100, 57, 41):
        w.stranger.send(good[:n], f.where)
    for size in (0, 1, 107, 109, 0xFFFF):  # a length field that lies, under a right MAC
        w.stranger.send(spoil_body(good, f.relay.obf, 17, struct.pack("<H", size)), f.where)
    for kind in (0, 2, 3, 255):
        w.stranger.send(spoil_body(good, f.relay.obf, 0, bytes([kind])), f.where)


def spoil_body(packet: bytes, obf: bytes, at: int, value: bytes) -> bytes:
    """A handshake packet with `value` at byte `at` of its body."""
    clear = bytearray(sodium.stream_xor(obf, packet[-12:], packet[:-16]))
    clear[24 + at : 24 + at + len(value)] = value
    return bytes(sodium.stream_xor(obf, packet[-12:], bytes(clear))) + packet[-16:]


# -- with cells of a circuit --------------------------------------------------------------


def flipped(w: World, f: Foothold) -> None:
    for _ in range(4):
        good = f.seal(S.DATA, os.urandom(w.rng.choice((0, 20, 200, 1000, 1300))), w.rng.choice((0, 1)))
        f.client.send_run([flip(good, w.rng) for _ in range(w.batch(len(good)) // 4)], f.where)


def truncated(w: World, f: Foothold) -> None:
    good = f.seal(S.DATA, os.urandom(w.rng.choice((100, 300))), 1)
    for _ in range(100):
        f.client.send(good[: w.rng.randrange(len(good))], f.where)
    n = w.rng.randrange(1, len(good))
    f.client.send_run([good[n:]] * 20, f.where)
    for _ in range(20):
        f.client.send(good + os.urandom(w.rng.randrange(1, 200)), f.where)


def replayed(w: World, f: Foothold) -> None:
    cells = [f.legitimate(w.rng.choice((10, 100))) for _ in range(8)]
    for c in cells:
        f.client.send(c, f.where)
    for c in cells + w.old_cells:
        w.rng.choice((f.client, w.other, w.stranger)).send_run([c] * 12, f.where)
    w.old_cells = (w.old_cells + cells)[-16:]


def reordered(w: World, f: Foothold) -> None:
    """Each must be forwarded, and once, though they come shuffled and doubled."""
    cells = [f.legitimate(20) for _ in range(100)]
    cells += cells[:50]
    w.rng.shuffle(cells)
    for c in cells:
        f.client.send(c, f.where)
    w.expected += 100


def other_circuit(w: World, f: Foothold) -> None:
    """Cells of one circuit under another's id, and of one relay at another."""
    g = w.foothold(f.relay, f)
    h = w.foothold(w.other_relay(f.relay))
    good = f.seal(S.DATA, os.urandom(100), 1)
    f.client.send_run([f.rename(good, g.cid)] * 60, f.where)
    g.client.send_run([f.rename(good, cell.make_cid(os.urandom(8)))] * 60, f.where)
    w.stranger.send_run([good] * 20, h.where)
    if f.link:  # what the next hop would get, sent to the relay; what the relay would get, at the next hop's id
        f.client.send_run([f.rename(good, f.link.cid)] * 30, f.where)
        f.client.send_run([f.rename(good, f.link.own_cid)] * 10, f.where)


def counters(w: World, f: Foothold) -> None:
    """Sealed with the right key, under counters that are too old, too high, or somebody else's."""
    # The relay's window moves only by what is authentic: what no valid cell has passed is not too old yet.
    f.client.send_run([f.seal(S.PAD, b"")] * 2, f.where)
    now = f.circuit.sent
    inner = os.urandom(60)
    bad = [f.forge(S.RELAY, inner, 5, origin=o) for o in range(1, 8)]
    bad += [f.forge(S.RELAY, inner, 5, high=1 << b) for b in range(31)]
    bad += [f.forge(S.RELAY, inner, c) for c in (S.COUNTER_LIMIT - 1,) if False]
    if now > 1200:
        bad += [f.forge(S.RELAY, inner, now - back) for back in (1050, 1100, 1200)]
    f.client.send_run(bad, f.where)


def commands(w: World, f: Foothold) -> None:
    """Every command with nothing, with something, and with rubbish; none may be forwarded or crash the relay."""
    for code in [*range(14), 14, 127, 128, 255]:
        if code in (S.RELAY, S.DESTROY):
            continue
        for size in (0, 1, 2, 7, 8, 15, 16, 19, 20, 34, 35, 36, w.rng.randrange(400), 1200):
            f.client.send(f.seal(code, os.urandom(size)), f.where)
    f.client.send_run([f.seal(S.RELAY, os.urandom(n)) for n in (0,) * 5], f.where)


def pays(w: World, f: Foothold) -> None:
    """Wrong preimages, serials, indices, units; tickets that the gateway refuses; on a circuit of its own."""
    g = w.throwaway(f.relay)
    if g is None:
        return
    top = os.urandom(32)
    chain = T.Chain(top, 64)
    ticket = (b"k" * 8, chain.anchor, os.urandom(64), 64)
    bad = [
        T.pack_pay(0, 1, chain.word(2), ticket), T.pack_pay(0, 65, top, ticket), T.pack_pay(0, 0, os.urandom(32)),
        T.pack_pay(9, 0, chain.anchor, ticket), T.pack_pay(255, 0, chain.anchor), os.urandom(34), os.urandom(36),
        T.pack_pay(0, 3, chain.word(3), (ticket[0], chain.anchor, ticket[2], 63)),
    ]  # fmt: skip
    w.rng.shuffle(bad)
    key = w.rng.choice((b"k" * 8, b"refused!", b"silence!"))
    for serial in range(w.rng.choice((0, 1, 40, 260))):
        g.client.send(g.seal(S.PAY, pay_for(0, key, serial & 255)), g.where)
    for payload in bad:
        g.client.send(g.seal(S.PAY, payload), g.where)
    for _ in range(w.rng.choice((0, 70))):
        g.client.send(g.seal(S.PAY, T.pack_pay(0, 1024, os.urandom(32))), g.where)
    w.leave(g)


def extends(w: World, f: Foothold) -> None:
    """To descriptors that nobody signed, to private, loopback and own addresses, to a hop that is silent."""
    g = w.throwaway(f.relay)
    if g is None:
        return
    sink = w.sink
    good = sink.descriptor().raw
    bad = [flip(good, w.rng) for _ in range(6)] + [good[:-1] + bytes([good[-1] ^ 1])]
    for ip in ("192.168.1.5", "10.0.0.1", "127.0.0.1", "169.254.0.1", "224.0.0.1", "100.64.0.1", f.relay.ip, "0.0.0.0"):
        bad.append(sink.descriptor(v4=net.ip_bytes(ip)).raw)
    none = {"v4": bytes(4), "port4": 0}
    for ip6 in ("::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:198.18.9.9", "ff02::1", "64:ff9b::7f00:1", "::"):
        bad.append(sink.descriptor(v6=net.ip_bytes(ip6), port6=sink.peer.port, **none).raw)
    bad += [sink.descriptor(until=int(time.time()) - 1).raw, sink.descriptor(**none).raw]
    for raw in bad:
        g.client.send(g.seal(S.EXTEND, raw + os.urandom(16 + S.NOISE1)), g.where)
    for size in (0, 1, S.EXTEND_SIZE - 1):
        g.client.send(g.seal(S.EXTEND, os.urandom(size)), g.where)
    w.leave(g)


def answers(w: World, f: Foothold) -> None:
    """The next hop answers an EXTEND with rubbish: spoiled CREATEDs, COOKIEs without end, cells before their time."""
    g = w.throwaway(f.relay)
    if g is None:
        return
    sink, obf, link_key = w.sink, f.relay.obf, os.urandom(16)
    sink.silent = True
    noise1 = os.urandom(S.NOISE1)
    g.client.send(g.seal(S.EXTEND, sink.descriptor().raw + link_key + noise1), g.where)
    asked = []
    for raw, where in sink.peer.wait(0.5):
        packet = unmask(raw, sink.peer.obf)
        if packet[:8] == bytes(8):
            asked.append((packet[8:16], where))
    for cid, where in asked[-1:]:
        good = handshake.created(obf, cid, cell.make_cid(os.urandom(8)), link_key, os.urandom(S.NOISE2), 400)
        for _ in range(30):
            sink.peer.send(flip(good, w.rng, 0, 99), where)
        for n in (len(good) - 1, 116, 115, 114, 60, 41):
            sink.peer.send(good[: min(n, len(good) - 1)], where)
        for at, value in ((0, b"\x01"), (0, b"\x03"), (0, b"\xff"), (1, b"\x00\x00"), (1, b"\xff\xff")):
            sink.peer.send(spoil_body(good, obf, at, value), where)
        for key in (obf, sink.peer.obf):
            for _ in range(8):
                sink.peer.send(handshake.cookie(key, cid, os.urandom(16), 300), where)
        sink.peer.send(os.urandom(64), where)
    sink.silent = False
    w.leave(g)


def inner_packets(w: World, f: Foothold) -> None:
    """At the exit: inner packets too short, too long, lying about their length, from and to where they must not be."""
    g, v4, v6 = w.session
    head = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 60, 0, 0, 64, 17, 0, v4, net.ip_bytes("198.18.9.7")))
    head6 = bytearray(struct.pack(">IHBB16s16s", 6 << 28, 20, 59, 64, v6, net.ip_bytes("2001:2::9")))
    for _ in range(80):
        packet = (head if w.rng.getrandbits(1) else head6) + os.urandom(w.rng.choice((0, 20, 40, 1300)))
        what = w.rng.randrange(6)
        if what == 0:
            packet = packet[: w.rng.randrange(len(packet))]
        elif what == 1:
            packet[2:6] = os.urandom(4)
        elif what == 2:
            packet[w.rng.choice((9, 12, 15, 19))] ^= 1 << w.rng.getrandbits(3)
        elif what == 3:
            packet[0] = w.rng.getrandbits(8)
        elif what == 4 and packet[0] >> 4 == 4:
            packet[16:20] = net.ip_bytes(w.rng.choice(("10.213.0.1", "127.0.0.1", "192.168.1.1", "224.1.1.1", g.relay.ip)))
        elif what == 5:
            packet = bytearray(flip(bytes(packet), w.rng))
        g.client.send(g.seal(S.DATA, bytes(packet)), g.where)


def resumes(w: World, f: Foothold) -> None:
    """Session keys of others and of nobody, modes and rates out of range, sessions left behind by the dozen."""
    exit = w.exit
    a, b = w.throwaway(exit), w.throwaway(exit)
    for g in (a, b):
        if g is None:
            continue
        for _ in range(20):
            key = w.rng.choice((bytes(16), os.urandom(16)))
            mode, rate = w.rng.choice(((0, 0), (1, 0), (3, 1), (255, 9), (2, 0), (2, 1001), (2, 65535)))
            g.client.send(g.seal(S.RESUME, struct.pack("<16sBBH", key, mode, 0, rate)), g.where)
        for size in (0, 15, 16, 19):
            g.client.send(g.seal(S.RESUME, bytes(size)), g.where)
        w.leave(g)


def destroys(w: World, f: Foothold) -> None:
    """Circuits made and torn down at once; cells of the dead."""
    for _ in range(3):
        g = w.throwaway(f.relay)
        if g is None:
            return
        late = [g.seal(S.PING, b"x" * 8) for _ in range(10)]
        g.client.send_run([g.seal(S.DESTROY, b"\0")] * 3, g.where)
        g.client.send_run(late, g.where)
        w.leave(g)


def reflected(w: World, f: Foothold) -> None:
    """Authentic cells that come from an address which never shows that it hears: it must not get more than it sent."""
    g = w.throwaway(w.exit)
    if g is None:
        return
    g.client.send(g.seal(S.RESUME, bytes(S.RESUME_FORWARD)), g.where)
    for size in (0, 1, 8, 40):
        w.victim.send(g.seal(S.PING, bytes(size)), g.where)
    w.victim.send(g.seal(S.RESUME, struct.pack("<16sBBH", bytes(16), 2, 0, 1000)), g.where)
    w.victim.send(g.seal(S.PAY, pay_for(3)), g.where)
    w.victim.send(g.seal(S.EXTEND, b""), g.where)
    w.victim.send(g.seal(S.PONG, os.urandom(8)), g.where)
    time.sleep(0.02)
    g.client.send_run([g.seal(S.DESTROY, b"\0")] * 2, g.where)
    g.close()


# -- from behind: the next hop is the attacker ------------------------------------------------


def backward_cell(w: World, f: Foothold) -> bytes:
    """A good one: the relay must pass it to the client."""
    assert f.link is not None
    v = scratch()
    payload = os.urandom(w.rng.choice((0, 50, 500)))
    ffi.poke(v.address + 24, payload + bytes([S.DATA]))
    number = f.link.counter | f.circuit.hops[1].origin << 61
    v.d[2], v.d[3] = number & 0xFFFFFFFF, number >> 32
    n = 25 + len(payload)
    cell.seal_layer(v.address, n, v.d, f.circuit.hops[1].k_backward, cell.BACKWARD)
    return w.sink.backward(f.link, f.circuit.hops[1].origin, bytes(ffi.peek(v.address + 24, n + 16 - 24)))


def backward_spoiled(w: World, f: Foothold) -> None:
    """Headers and nonces spoiled, cells cut, lengthened, replayed, under another id: none may reach the client."""
    assert f.link is not None
    send, where = w.sink.peer.send_run, f.link.where
    for _ in range(4):
        good = backward_cell(w, f)
        n = len(good)
        send([flip(good, w.rng, 0, 24) for _ in range(20)], where)
        send([flip(good, w.rng, n - 12) for _ in range(20)], where)
        for _ in range(10):
            w.sink.peer.send(good[: w.rng.randrange(n)], where)
            w.sink.peer.send(good + os.urandom(w.rng.randrange(1, 64)), where)
    g = w.foothold(f.relay, f)
    if g.link:
        send([f.rename(good, g.link.cid)] * 20, where)
    send([f.rename(good, f.cid)] * 20, where)
    body = os.urandom(40)
    others = [o for o in range(8) if o in (0, f.label)]
    send([w.sink.backward(f.link, o, body, counter=9) for o in others] * 5, where)
    send([w.sink.backward(f.link, 5, body, counter=9, high=1 << b) for b in range(31)], where)
    w.sink.peer.send(w.sink.backward(f.link, f.circuit.hops[1].origin, os.urandom(1456 - 24)), where)


def backward_replayed(w: World, f: Foothold) -> None:
    assert f.link is not None
    cells = [backward_cell(w, f) for _ in range(30)]
    w.rng.shuffle(cells)
    for c in cells:
        w.sink.peer.send(c, f.link.where)
    for c in cells:
        w.rng.choice((w.sink.peer, w.other)).send_run([c] * 5, f.link.where)


WEIGHTS: dict[Any, int] = {
    garbage: 30, oversized: 4, creates: 3, creates_replayed: 4, creates_spoiled: 3, flipped: 60, truncated: 25,
    replayed: 30, reordered: 10, other_circuit: 20, counters: 5, commands: 5, pays: 3, extends: 2, answers: 2,
    inner_packets: 8, resumes: 2, destroys: 2, reflected: 2, backward_spoiled: 30, backward_replayed: 15,
}  # fmt: skip
__all__ = ["WEIGHTS", "D", "address", "enter"]
