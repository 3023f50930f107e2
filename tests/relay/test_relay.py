"""A client against real relay processes on MicroPython: what must work, and what must be dropped in silence."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any

import pytest

from bwclient.circuit import CircuitError
from bwclient.meter import MeterError
from bwclient.tunnel import Tunnel
from bwrouter.platform import ffi, net
from bwrouter.wire import sizes as S

from .scene import Scene, Source, send_inner

pytestmark = [pytest.mark.slow, pytest.mark.root]


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~((total >> 16) + total) & 0xFFFF


def ipv4(src: str, dst: str, proto: int, payload: bytes) -> bytes:
    size = 20 + len(payload)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, proto, 0, net.ip_bytes(src), net.ip_bytes(dst))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def echo_request(src: str, dst: str, number: int, size: int = 56) -> bytes:
    body = struct.pack(">BBHHH", 8, 0, 0, 77, number) + os.urandom(size)
    return ipv4(src, dst, 1, body[:2] + struct.pack(">H", checksum(body)) + body[4:])


class Pipe:
    """Stands where the client's TUN would: a socket pair, so that a test sees inner packets as they come."""

    def __init__(self, tunnel: Tunnel):
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        far.setblocking(False)
        tunnel.attach(far.detach())

    def take(self) -> list[bytes]:
        """Packets that are here now."""
        out: list[bytes] = []
        try:
            while True:
                out.append(self.near.recv(2048))
        except BlockingIOError:
            return out

    def read(self, tunnel: Tunnel, seconds: float = 1.0) -> list[bytes]:
        """Packets of the next turn of the tunnel that brings any."""
        out: list[bytes] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until and not out:
            tunnel.step(20)
            out = self.take()
        return out


@pytest.fixture(scope="module", params=["micropython", "cpython"])
def scene(request):
    with Scene(runtime=request.param) as s:
        yield s


@pytest.fixture
def tunnel(scene):
    t = Tunnel(Source())
    yield t
    t.close(patience=0.5)


def test_echo_through_three_hops(scene, tunnel):
    tunnel.build(scene.path())
    pipe = Pipe(tunnel)
    for size in (0, 56, 1340):
        pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", size, size))
        (answer,) = pipe.read(tunnel)
        assert answer[12:16] == net.ip_bytes("198.18.9.7") and answer[20] == 0 and len(answer) == 28 + size
    tunnel.close()
    time.sleep(0.3)
    paid = [h["paid_units"] for h in tunnel.status()["hops"]]
    assert [h["acked_units"] for h in tunnel.status()["hops"]] == paid and min(paid) > 0
    for relay in scene.relays:
        assert relay.fresh_stats()["circuits"] == 0


def test_exit_refuses_private_destinations_and_foreign_sources(scene, tunnel):
    tunnel.build(scene.path())
    before = scene.relays[-1].fresh_stats()["drops"]
    for dst in ("10.213.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "100.64.0.1", "172.16.0.1"):
        send_inner(tunnel, echo_request(tunnel.inner_v4, dst, 1))
    send_inner(tunnel, echo_request("10.213.0.99", "198.18.9.7", 1))
    send_inner(tunnel, echo_request(tunnel.inner_v4, "198.18.9.7", 1)[:30])
    send_inner(tunnel, b"\x00" * 40)
    tunnel._flush()
    time.sleep(0.3)
    drops = scene.relays[-1].fresh_stats()["drops"]
    change = {k: drops[k] - before.get(k, 0) for k in drops}
    assert change["policy"] == 7 and change["inner-source"] == 1
    assert change["inner-length"] == 1 and change["inner-version"] == 1


def raw_udp(scene):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("198.18.9.8", 0))
    s.settimeout(0.4)
    return s


def test_garbage_gets_no_answer(scene):
    relay = scene.relays[0]
    before, last = relay.fresh_stats(), None
    while before["drops"] != last:  # what an ended tunnel had under way may still come
        last, before = before["drops"], relay.fresh_stats()
    s = raw_udp(scene)
    for size in (0, 1, 23, 40, 41, 64, 167, 300, 1472, 1473, 1480):
        for _ in range(20):
            s.sendto(os.urandom(size), (relay.ip, relay.port))
    with pytest.raises(TimeoutError):
        s.recv(2048)
    after = relay.fresh_stats()
    drops = sum(after["drops"].values()) - sum(before["drops"].values())
    assert drops == 220 and after["cells_out"] == before["cells_out"]
    s.close()


def test_replayed_flipped_and_truncated_cells_are_dropped(scene, tunnel):
    tunnel.build(scene.path())
    relay = scene.relays[0]
    c = tunnel.circuit
    i = tunnel._slot()
    v = tunnel._tx[i]
    ffi.poke(v.address + 24, b"ping....")
    cell = ffi.peek(v.address, c.seal(0, v, 8, S.PING))
    n = len(cell)
    tunnel._next = 0
    s = raw_udp(scene)
    s.sendto(cell, (relay.ip, relay.port))
    assert len(s.recv(2048)) == 24 + 8 + 1 + 16  # the PONG follows the client's new address
    before = relay.fresh_stats()["drops"]
    with pytest.raises(TimeoutError):
        while True:  # CREDITs of the tickets that the gateway has confirmed meanwhile
            s.recv(2048)
    s.sendto(cell, (relay.ip, relay.port))
    for at in (24, 30, n - 13):
        s.sendto(cell[:at] + bytes([cell[at] ^ 1]) + cell[at + 1 :], (relay.ip, relay.port))
    s.sendto(cell[:-1], (relay.ip, relay.port))
    with pytest.raises(TimeoutError):
        s.recv(2048)
    after = relay.fresh_stats()["drops"]
    change = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
    assert change.pop("replay") >= 1
    assert sum(change.values()) <= 4 and set(change) <= {"tag", "unknown-circuit", "replay", "counter"}
    s.close()


def extend_error(scene, tunnel, bad):
    path = scene.path()
    with pytest.raises(CircuitError) as e:
        tunnel.build([path[0], bad, path[2]])
    return str(e.value)


def test_extend_only_to_good_descriptors(scene):
    from bwrouter.wire import descriptor as D

    second = scene.relays[1]
    forged = bytearray(second.descriptor().raw)
    forged[-1] ^= 1
    cases = {
        "descriptor signature": D.parse(bytes(forged)),
        "descriptor expired": second.descriptor(until=int(time.time()) - 5),
        "address refused": second.descriptor(v4=net.ip_bytes("192.168.1.5")),
    }
    own = second.descriptor(v4=net.ip_bytes(scene.relays[0].ip))
    for expected, bad in [*cases.items(), ("address refused", own)]:
        t = Tunnel(Source())
        assert expected in extend_error(scene, t, bad)
        t.close(patience=0.1)


def flood(tunnel, count, size=1300):
    packet = ipv4(tunnel.inner_v4, "198.18.9.7", 1, bytes(size))  # an ICMP echo reply: nobody answers it
    for _ in range(count):
        send_inner(tunnel, packet)
        if tunnel._next == 60:
            tunnel._flush()
            time.sleep(0.005)
    tunnel._flush()


@pytest.mark.parametrize("answer", [False, None])
def test_unpaid_circuit_stops_after_its_grace(scene, answer):
    """A first hop whose gateway refuses (or never confirms) the tickets passes 2 units and no more."""
    relay = scene.relays[0]
    relay.accept = answer
    t = Tunnel(Source())
    try:
        t.build(scene.path())
    except (CircuitError, MeterError) as e:
        assert answer is False, e
    relay.fresh_stats()
    second = scene.relays[1]
    before, before_drops = second.fresh_stats()["bytes_in"], relay.fresh_stats()["drops"].get("unpaid", 0)
    if t.circuit.built == 3:
        t.inner_v4 = t.inner_v4 or "10.213.0.2"
        t._pay = lambda circuit: None
        flood(t, 300)
        time.sleep(0.3)
        passed = second.fresh_stats()["bytes_in"] - before
        assert passed <= S.GRACE_UNITS * S.UNIT
        assert relay.fresh_stats()["drops"]["unpaid"] - before_drops > 150
    else:
        assert answer is False
    relay.accept = True
    t.close(patience=0.1)


def test_full_table_refuses_new_and_keeps_old():
    with Scene(count=1, max_circuits=2) as scene:
        kept = [Tunnel(Source()) for _ in range(2)]
        for t in kept:
            t.build(scene.path())
        late = Tunnel(Source())
        start = time.monotonic()
        with pytest.raises(CircuitError, match="hop 1: table full"):
            late.build(scene.path())
        assert time.monotonic() - start < 1
        assert scene.relays[0].fresh_stats()["drops"]["table-full"] >= 1
        pipe = Pipe(kept[0])
        pipe.near.send(echo_request(kept[0].inner_v4, "198.18.9.7", 1))
        assert len(pipe.read(kept[0])) == 1
        for t in [*kept, late]:
            t.close(patience=0.2)


class Freeloader(Tunnel):
    def _pay(self, *args: Any) -> None:
        """Never."""


def test_circuits_that_never_pay_do_not_keep_buyers_out():
    with Scene(count=1, max_circuits=8) as scene:
        paying = Tunnel(Source())
        paying.build(scene.path())
        flood = [Freeloader(Source()) for _ in range(7)]
        for t in flood:
            t.build(scene.path())
        time.sleep(6.0)
        late = Tunnel(Source())
        late.build(scene.path())
        stats = scene.relays[0].fresh_stats()
        assert stats["drops"]["unpaid-displaced"] == 1 and stats["circuits"] == 8
        for number, t in enumerate((paying, late), 1):
            pipe = Pipe(t)
            pipe.near.send(echo_request(t.inner_v4, "198.18.9.7", number))
            assert len(pipe.read(t)) == 1
        for t in [paying, late, *flood]:
            t.close(patience=0.1)


def test_an_extend_to_a_full_table_is_told_so():
    with Scene(count=2, max_circuits=2) as scene:
        first, last = scene.path()
        kept = [Tunnel(Source()) for _ in range(2)]
        for t in kept:
            t.build([last])
        late = Tunnel(Source())
        start = time.monotonic()
        with pytest.raises(CircuitError, match="hop 1: table full"):
            late.build([first, last])
        assert time.monotonic() - start < 1
        # The first counters may have been on their way already.
        assert any(scene.relays[0].fresh_stats()["drops"].get("extend-5") == 1 for _ in range(3))
        # Once there is room, the same first hop extends to it.
        kept[0].close(patience=0.2)
        late.build([first, last])
        for t in (kept[1], late):
            t.close(patience=0.2)


def test_a_resting_relay_says_at_once_that_something_came() -> None:
    with Scene(1) as scene:
        relay = scene.relays[0]
        scene._stop = True  # the agent falls silent, and the relay rests
        scene._thread.join()
        time.sleep(2.5)

        def told(seconds: float) -> list[str]:
            end, kinds = time.monotonic() + seconds, []
            while time.monotonic() < end and "sent" not in kinds:
                text, _ = relay.socket.recv()
                if text is None:
                    time.sleep(0.01)
                else:
                    kinds.append(json.loads(text)["t"])
            return kinds

        told(0.1)  # what lay there
        while told(0.1):
            pass
        assert "sent" not in told(2.0), "unasked"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(os.urandom(100), (relay.ip, relay.port))
        assert "sent" in told(0.4)
