"""Everything that takes bytes from the wire, one function a target: what it may raise, and what must hold afterwards.

`python -m tests.fuzz.parsers` runs each under atheris (coverage-guided) where there is one for this machine and Python,
else under plain random bytes and bits flipped in good messages. `tests/property` calls the same functions.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bwrouter.platform import ffi, net, sodium
from bwrouter.relay import anchors, credit, setup
from bwrouter.relay import circuit as C
from bwrouter.relay import exit as exits
from bwrouter.relay.rules import Rules
from bwrouter.wire import address, anchor, handshake, noise, replay
from bwrouter.wire import descriptor as D
from bwrouter.wire import sizes as S
from bwrouter.wire import ticket as T

ROOT = Path(__file__).parents[2]
_OBF, _SECRET = bytes(range(32)), bytes(range(32, 64))
_PUBLIC = sodium.x25519_public(_SECRET)
_GATEWAY, _GATEWAY_SECRET = sodium.ed25519_keypair(b"g" * 32)
_RELAY, _RELAY_SECRET = sodium.ed25519_keypair(b"r" * 32)


def good_descriptor(**fields: Any) -> bytes:
    d = D.Descriptor(_RELAY, _PUBLIC, _OBF, b"\xc6\x12\x09\x02", 5000, until=4_000_000_000)
    for name, value in fields.items():
        setattr(d, name, value)
    return bytes(D.endorse(d.sign(_RELAY_SECRET), _GATEWAY, _GATEWAY_SECRET))


# -- targets ------------------------------------------------------------------------------


def target_handshake(data: bytes) -> None:
    for parse in (handshake.parse_create, handshake.parse_reply, handshake.parse_payload1, handshake.parse_payload2):
        try:
            out = parse(data)
        except handshake.Malformed:
            continue
        assert parse is not handshake.parse_create or (len(out[0]), len(out[1])) == (16, S.NOISE1)
        assert parse is not handshake.parse_payload1 or (data[0] == S.VERSION and 1 <= out[0] <= 7)
    try:
        handshake.unmask_body(data, _OBF)
    except handshake.Malformed:
        assert len(data) < 40
    if len(data) >= 24:
        handshake.open_cookie(data, _OBF)
    try:
        noise.Responder(_SECRET, _PUBLIC).read(data)
    except sodium.CryptoError:
        pass


_TABLE = C.Table(4)
_SETUPS: list[tuple[setup.Setup, list[bytes]]] = []


def _setup() -> tuple[setup.Setup, list[bytes]]:
    if not _SETUPS:
        sent: list[bytes] = []
        s = setup.Setup(
            _TABLE, _SECRET, _OBF, lambda datagram, where: sent.append(datagram), lambda name: None, _TABLE.remove
        )
        s.gateway_keys = [_GATEWAY]
        _SETUPS.append((s, sent))
    return _SETUPS[0]


def target_create(data: bytes) -> None:
    """A datagram with circuit id zero whose link MAC holds: only a whole handshake makes a circuit."""
    s, sent = _setup()
    sent.clear()
    head = bytes(8) + data[:8].ljust(8, b"\0")
    packet = head + sodium.shorthash(s.mac_key, head) + data[8:]
    s.budget.left = 400_000
    assert s.on_create(packet, net.pack_addr("198.18.0.1", 9)) is None and not s.table.all
    assert sum(map(len, sent)) <= len(packet)


def target_extend(data: bytes) -> None:
    s, sent = _setup()
    sent.clear()
    c = s.table.add(1)
    try:
        code = s.extend(c, data)
        assert code == 0 or code in S.ERRORS
        raw = data[: S.DESCRIPTOR]
        if code == 0:
            d = D.verify(raw, [_GATEWAY], int(time.time()))
            assert sent and not (d.port4 and address.refused(d.v4) and not d.port6)
        else:
            assert not sent and c.next == C.NEXT_NONE
        s.forget(c)
    finally:
        s.table.remove(c)


def target_reply(data: bytes) -> None:
    """What comes back from a next hop that may be anybody's."""
    s, sent = _setup()
    c = s.table.add(1)
    key = b"l" * 16
    assert s.extend(c, good_descriptor() + key + bytes(S.NOISE1)) == 0
    head = (s.table.words[(c.k - s.table.blocks.base + C.NEXT_CID) // 4]).to_bytes(4, "little").ljust(8, b"\0")
    head += data[:8].ljust(8, b"\0")
    packet = head + sodium.shorthash(handshake.backward_mac_key(key), head) + data[8:]
    try:
        value = s.on_reply(c, packet, net.pack_addr("198.18.0.1", 9)) if len(packet) >= 41 else None
        kind, said = value or ("", b"")
        assert kind in ("", "created", "refused")
        assert kind != "created" or (len(said) == S.NOISE2 and c.next == C.NEXT_READY)
        assert kind != "refused" or (c.next == C.NEXT_NONE and not s.pending)
        s.on_stray(data, _OBF)
    finally:
        s.forget(c)
        s.table.remove(c)


def target_anchor(data: bytes) -> None:
    """What a router says to its anchor, what strangers send there, and what an anchor says to its router."""
    s, sent = _setup()
    sent.clear()
    served = anchors.Anchors(s, lambda name: None, lambda c: None)
    served.most = 2
    c = s.table.add(1)
    try:
        assert served.ask(c, data) in S.ERRORS and not s.table.kept
        served.all = [anchors.Entry(c, bytes(32), _OBF)]
        found = served.find(data, net.pack_addr("198.18.0.1", 9))
        if found is not None:  # masked twice by one key; libFuzzer reads the MAC out of the comparison
            mac = sodium.shorthash(handshake.create_mac_key(_OBF), data[:16])
            assert data[: S.CID] == bytes(S.CID) and data[16 : S.HEADER] == mac and found[0] is c
            assert len(data) < len(found[1]) <= len(data) + 32
        try:
            where, packet = anchor.parse_introduction(data)
        except anchor.Malformed:
            return
        s.budget.left = 400_000
        assert s.introduced(packet, where) is None
        assert not sent or not address.refused(net.unpack_addr(where)[0], s.own)
        assert sum(map(len, sent)) <= len(packet)
    finally:
        s.table.remove(c)


def target_descriptor(data: bytes) -> None:
    for check in (D.parse, D.verify_relay_part, lambda raw: D.verify(raw, [_GATEWAY], 0)):
        try:
            d = check(data)
        except D.BadDescriptor as e:
            assert e.code in S.ERRORS and str(e)
            continue
        assert d.pack() == data[:149]


class _Payer:
    """A circuit as far as credit sees it."""

    def __init__(self) -> None:
        self.tickets: tuple[Any, ...] = ()
        self.paid, self.left, self.priority = 0, S.GRACE_UNITS * S.UNIT, 0

    def used(self) -> int:
        return 0


_CHAIN = T.Chain(b"t" * 32, 64)


def target_pay(data: bytes) -> None:
    """Any sequence of PAYs and of the agent's answers: what is granted never exceeds confirmed preimages."""
    told: list[dict[str, Any]] = []
    ledger = credit.Ledger(told.append, 16)
    c: Any = _Payer()
    fields = (b"k" * 8, _CHAIN.anchor, bytes(64), 64)
    best, confirmed = 0, False
    for i in range(0, len(data) - 2, 3):
        what, a, b = data[i : i + 3]
        if what & 3 == 0:
            payload = data[i : i + (S.PAY_FULL if a & 1 else S.PAY_SHORT)]
        else:
            word = _CHAIN.word(b % 65) if what & 3 != 2 else data[i : i + 32].ljust(32, b"\0")
            ticket = fields if a & 1 else None
            payload = T.pack_pay(a >> 1 & 3, b % (70 if what & 4 else 65), word, ticket)
        try:
            ledger.pay(c, payload)
            _, index, word, _ = T.parse_pay(payload)
            if word == _CHAIN.word(index):
                best = max(best, index)
        except T.BadPayment:
            pass
        if what & 0x18 == 0x18 and c.tickets:
            opening = [m for m in told if m["t"] == "open"]
            ledger.opened({"id": opening[0]["id"], "ok": True})
            confirmed = True
        assert 0 <= c.paid <= best * confirmed, (c.paid, best, confirmed)
        assert c.left == (S.GRACE_UNITS + c.paid) * S.UNIT and len(ledger.credit(c)) == S.CREDIT_SIZE
        assert len(c.tickets) <= S.SERIALS_MAX and len(ledger.open) <= 16
    try:
        T.parse_credit(data)
    except T.BadPayment:
        pass


_PIPE: list[socket.socket] = []


_EXIT: list[exits.Exit] = []


def _exit(count: Callable[[str], None] = lambda name: None) -> exits.Exit:
    """The one exit, as new: each takes memory that is never given back."""
    if not _EXIT:
        _PIPE.extend(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        for s in _PIPE:
            s.setblocking(False)
        _EXIT.append(exits.Exit(_PIPE[0].fileno(), Rules([(b"\xc6\x12\x09\x01", 32)]), count, most=4))
    e = _EXIT[0]
    for session in list(e.by_index.values()):
        e.drop(session)
    e.count = count
    return e


class _Walker:
    """A circuit as far as the exit sees it."""

    session: Any = None
    paid = 0


def target_inner(data: bytes) -> None:
    """An inner packet: what reaches the TUN has the session's source, an allowed destination and its own length."""
    reasons: list[str] = []
    e = _exit(reasons.append)
    e.resume(_Walker(), bytes(S.RESUME_FORWARD))
    (session,) = e.by_index.values()
    if len(data) > 1 and data[0] & 1:  # give the fuzzer the right addresses for nothing
        body = bytearray(data[1:])
        for version, at, own in ((4, 12, session.v4), (6, 8, session.v6)):
            if body[0] >> 4 == version and len(body) >= at + len(own):
                body[at : at + len(own)] = own
        data = bytes(body)
    slot = bytearray(2048)
    slot[24 : 24 + len(data)] = data[:1456]
    out = b""
    for turn in range(2):  # the second time it may be of a flow that has been judged
        e.send(session, ffi.addr(slot), slot, min(len(data), 1456))
        try:
            out = _PIPE[1].recv(4096)
        except BlockingIOError:
            assert len(reasons) == 1 + turn and len(set(reasons)) == 1
            out = b""
            continue
        assert not reasons and out == data[: len(out)]
    if not out:
        return
    four = out[0] >> 4 == 4
    assert out[12:16] == session.v4 if four else out[8:24] == session.v6
    dst = out[16:20] if four else out[24:40]
    assert not address.refused(dst, e.rules.own)
    assert len(out) == (int.from_bytes(out[2:4], "big") if four else 40 + int.from_bytes(out[4:6], "big"))


def target_sessions(data: bytes) -> None:
    """RESUMEs and ends of three circuits: every session is some live circuit's, or waits for one."""
    e = _exit()
    circuits = [_Walker() for _ in range(3)]
    keys = [bytes(16)]
    for i in range(0, len(data) - 3, 4):
        what, key, mode, rate = data[i : i + 4]
        c = circuits[what % 3]
        c.paid = what >> 2 & 1
        if what & 0xC0 == 0xC0:
            e.leave(c)
            circuits[what % 3] = _Walker()
        elif what & 0xC0 == 0x80:
            e.tick()
        else:
            answer = e.resume(c, struct.pack("<16sBBH", keys[key % len(keys)], mode & 3, 0, rate))
            assert (answer is None) or len(answer) == S.RESUME_BACKWARD
            if answer is not None:
                keys.append(answer[:16])
                for _ in range(rate & 15):
                    e.keep(c.session, b"x")
                assert e.take(c.session) in (b"x", b"")
        assert len(e.by_index) == len(e.by_key) <= e.most
        for s in e.by_index.values():
            assert s.circuit is None or (s.circuit in circuits and s.circuit.session is s)
            assert s.circuits == sum(c.session is s for c in circuits)
        assert e.waiting == sum(len(s.kept) for s in e.by_index.values()) <= exits.KEEP_ALL
    try:
        e.resume(circuits[0], data)
    except struct.error:
        assert False, "a RESUME of any size has an answer"


_WINDOWS = replay.Windows(1)


def target_window(data: bytes) -> None:
    """The replay window against a plain set of what was accepted."""
    w = _WINDOWS.take_one()
    seen: set[int] = set()
    top, at = -1, 0
    try:
        for i in range(0, len(data) - 1, 2):
            what, step = data[i], data[i + 1]
            jump = (1, -1, 16, -16, 300, -300, 2000, 1 << 20)[what & 7] * (step if what & 8 else 1)
            at = min(max(at + jump, 0), S.COUNTER_LIMIT - 1)
            for count in range(at, min(at + (step if what & 16 else 1), S.COUNTER_LIMIT)):
                expected = count > top or (count not in seen and top - count <= S.WINDOW)
                following = _WINDOWS.u32[w]
                fresh = count == following or _WINDOWS.fresh(w, count)
                assert fresh == expected, (count, top)
                if fresh and not what & 32:
                    if count == following and what & 64:
                        _WINDOWS.u32[w] = count + 1  # as the data path does it
                    else:
                        _WINDOWS.take(w, count)
                    seen.add(count)
                    top = max(top, count)
    finally:
        _WINDOWS.give(w)


TARGETS: dict[str, Callable[[bytes], None]] = {
    name[7:]: f for name, f in sorted(globals().items()) if name.startswith("target_")
}


def seeds() -> dict[str, list[bytes]]:
    """Good messages for each target."""
    n1 = noise.Initiator(_PUBLIC).write(handshake.payload1(3, b"l" * 16, _OBF, 1_800_000_000))
    pay = T.pack_pay(0, 5, _CHAIN.word(5), (b"k" * 8, _CHAIN.anchor, bytes(64), 64))
    v4 = b"\x01\x45\0\0\x1c\0\0\0\0\x40\x01\0\0" + b"\x0a\xd5\0\x02\xc6\x12\x09\x07" + bytes(8)
    v6 = b"\x01\x60\0\0\0\0\x08\x3a\x40" + S.INNER_V6 + b"\0\x02" + b"\x20\x01\0\x02" + bytes(12) + bytes(8)
    body = bytes([S.CREATE]) + bytes(16) + struct.pack("<H", len(n1)) + n1
    reply = handshake.created(_OBF, b"12345678", b"87654321", b"l" * 16, bytes(S.NOISE2), 400)
    ask = anchor.pack(bytes(32), _SECRET * 2, _OBF, _PUBLIC, bytes(16), 1_800_000_000)
    introduction = anchor.introduction(net.pack_addr("198.18.0.1", 9), handshake.create(_OBF, b"12345678", n1))
    head = bytes(S.CID) + b"87654321"
    heard = head + sodium.shorthash(handshake.create_mac_key(_OBF), head) + bytes(S.CREATE_MIN)
    steps = bytes((i * 37 + 11) & 0xFF for i in range(200))
    return {
        "anchor": [ask, ask + good_descriptor(), introduction, heard],
        "create": [reply, handshake.create(_OBF, b"12345678", n1)[16:]],
        "descriptor": [good_descriptor(), good_descriptor()[: S.DESCRIPTOR_RELAY_PART]],
        "extend": [good_descriptor() + bytes(16) + n1, good_descriptor(v4=b"\x7f\0\0\1") + bytes(16) + n1],
        "handshake": [body, reply, n1, handshake.payload2(5), handshake.payload1(1, bytes(16), _OBF, 9)],
        "inner": [v4, v6], "pay": [pay, pay[: S.PAY_SHORT], steps], "reply": [reply[16:]], "sessions": [steps],
        "window": [steps, b"\x10\xff" * 20, b"\x51\x80\x02\x01\x46\x01" * 8],
    }  # fmt: skip


# -- running them ------------------------------------------------------------------------------


def run_plain(name: str, seconds: float, rng: random.Random) -> int:
    """Without coverage: good messages with flipped bits, cuts, joints. Returns the number of inputs."""
    target, good = TARGETS[name], seeds()[name]
    until = time.monotonic() + seconds
    runs = 0
    while time.monotonic() < until:
        data = bytearray(rng.choice(good) if rng.random() < 0.9 else rng.randbytes(rng.randrange(500)))
        for _ in range(rng.choice((0, 1, 1, 3, 20))):
            if data:
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.choice((0, 0, 1, 30)))
        target(bytes(data))
        runs += 1
    return runs


def run_all(seconds: float, seed: int) -> dict[str, Any]:
    """Every target for its share of `seconds`. {"parsers": inputs, "parser_failures": [...]}"""
    share = max(1, int(seconds / len(TARGETS)))
    total, failures = 0, []
    engine = "atheris"
    for name in TARGETS:
        corpus = ROOT / "build/fuzz" / name
        corpus.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(seeds()[name]):
            (corpus / f"seed{i}").write_bytes(data)
        found = corpus.parent / f"{name}-"
        argv = [
            sys.executable, "-m", "tests.fuzz.covered", name, f"-max_total_time={share}", f"-seed={seed}",
            "-max_len=700", "-print_final_stats=1", f"-artifact_prefix={found}", str(corpus),
        ]  # fmt: skip
        run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        if "No module named 'atheris'" in run.stderr:
            engine = "random"
            try:
                total += run_plain(name, share, random.Random(seed))
            except Exception as e:
                failures.append(f"{name}: {type(e).__name__}: {e}")
            continue
        count = re.search(r"number_of_executed_units:\s*(\d+)", run.stderr)
        total += int(count[1]) if count else 0
        if run.returncode:
            failures.append(f"{name}: " + "\n".join((run.stdout + run.stderr).splitlines()[-30:]))
    return {"parsers": total, "parser_engine": engine, "parser_failures": failures}


def main() -> int:
    p = argparse.ArgumentParser(description="fuzz the parsers; the last line is JSON")
    p.add_argument("--seconds", type=float, default=30)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    result = run_all(a.seconds, a.seed)
    for f in result["parser_failures"]:
        print(f)
    result["parser_failures"] = len(result["parser_failures"])
    print(json.dumps(result))
    return 1 if result["parser_failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
