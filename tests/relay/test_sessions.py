"""Resume, padding, priority, cookies, IPv6 between hops and inside: against real relay processes."""

from __future__ import annotations

import os
import socket
import time

import pytest

from bwclient.datapath import Padding
from bwclient.tunnel import Tunnel
from bwrouter.platform import net
from bwrouter.relay import exit as exit_module
from bwrouter.wire import handshake
from bwrouter.wire import sizes as S

from .scene import Scene, Source
from .test_relay import Pipe, echo_request, flood

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone]


@pytest.fixture(scope="module")
def scene():
    with Scene(count=4) as s:
        yield s


def test_session_survives_the_death_of_its_path(scene):
    """A new circuit over another middle hop takes the session over: the inner address stays."""
    a, b, c, last = scene.path()
    first = Tunnel(Source())
    first.build([a, b, last])
    inner, key = first.inner_v4, first.session
    second = Tunnel(Source())
    second.session = key
    second.build([a, c, last])
    assert second.inner_v4 == inner and second.session == key
    pipe = Pipe(second)
    pipe.near.send(echo_request(inner, "198.18.9.7", 1))
    assert len(pipe.read(second)) == 1
    first.close(patience=0.2)
    second.close(patience=0.5)
    # and after all circuits are gone, for a while
    third = Tunnel(Source())
    third.session = key
    third.build([b, c, last])
    assert third.inner_v4 == inner
    third.close(patience=0.5)
    # a key that nobody was given opens a session of its own
    stranger = Tunnel(Source())
    stranger.session = os.urandom(16)
    stranger.build([b, c, last])
    assert stranger.inner_v4 != inner
    stranger.close(patience=0.5)


FULL = [24 + 17 * hops + 1368 for hops in (1, 2, 3)]


def captured_sizes(run) -> list[int]:
    """Sizes of the UDP payloads that loopback carried while `run` ran."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    s.bind(("lo", 3))
    s.setblocking(False)
    run()
    sizes = []
    while True:
        try:
            frame, where = s.recvfrom(65535)
        except BlockingIOError:
            break
        if where[2] == socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00" and frame[23] == 17:
            sizes.append(int.from_bytes(frame[38:40], "big") - 8)
    s.close()
    return sizes


def test_bucket_padding(scene):
    t = Tunnel(Source(), padding=Padding(exit_module.BUCKETS))
    t.build(scene.path()[1:])
    pipe = Pipe(t)

    def talk():
        for size in (0, 30, 56, 200, 300, 500, 900, 1200, 1340):
            pipe.near.send(echo_request(t.inner_v4, "198.18.9.7", size, size))
            (answer,) = pipe.read(t)
            assert len(answer) == 28 + size or answer[2:4] == (28 + size).to_bytes(2, "big")

    sizes = captured_sizes(talk)
    allowed = {24 + 17 * hops + p for hops in (1, 2, 3) for p in (128, 384, 640, 1024, 1368)}
    data = [n for n in sizes if n >= 24 + 17 + 128 and n not in (24 + 17 * h + S.PAY_FULL for h in (1, 2, 3))]
    assert len(data) >= 9 * 6 and set(data) <= allowed
    t.close(patience=0.5)


def test_constant_padding_hides_idle_and_busy(scene):
    rate = 100
    t = Tunnel(Source(), padding=Padding(exit_module.CONSTANT, rate))
    t.build(scene.path()[1:])
    pipe = Pipe(t)

    def seconds(busy: bool) -> dict[int, int]:
        def run():
            until = time.monotonic() + 2
            while time.monotonic() < until:
                if busy:
                    pipe.near.send(echo_request(t.inner_v4, "198.18.9.7", 1, 100))
                pipe.read(t, 0.05)

        counts: dict[int, int] = {}
        for size in captured_sizes(run):
            # loopback carries a run of GSO unsegmented: count its cells
            cell = next((n for n in FULL if size % n == 0), size)
            if cell > 1000:
                counts[cell] = counts.get(cell, 0) + size // cell
        return counts

    idle, busy = seconds(False), seconds(True)
    for counts in (idle, busy):
        # three links, both directions; PADs of the client end at the exit and cross all links as well
        assert set(counts) == set(FULL)
        for n, count in counts.items():
            assert 2 * 2 * rate * 0.85 <= count <= 2 * 2 * rate * 1.15, (n, count)
    pipe.near.send(echo_request(t.inner_v4, "198.18.9.7", 7, 100))
    assert pipe.read(t, 1.0)
    t.close(patience=0.5)


def test_priority_shares_a_full_uplink(scene):
    """Two circuits load a slow hop; the one that pays fourfold gets about four times as much, and pays for it."""
    slow = scene.relays[1]
    path = scene.path()
    tunnels = [Tunnel(Source()), Tunnel(Source(), priority=4)]
    for t in tunnels:
        t.build([path[1], path[2], path[3]])
    slow.rate_kbps = 1500
    try:
        time.sleep(0.3)
        exits = [0, 0]
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
        s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
        s.settimeout(0.001)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for t in tunnels:
                flood(t, 3)
                t.step(0)
            try:
                while True:
                    packet = s.recv(2048)
                    for i, t in enumerate(tunnels):
                        exits[i] += packet[12:16] == net.ip_bytes(t.inner_v4)
            except TimeoutError:
                pass
        assert exits[0] > 20
        assert 3.0 <= exits[1] / exits[0] <= 5.5, exits
        assert slow.fresh_stats()["drops"]["queue-full"] > 0
        first = [t.circuit.hops[0].meter for t in tunnels]
        assert first[1].relay_used > 2 * first[0].relay_used
    finally:
        slow.rate_kbps = 1_000_000
        s.close()
        for t in tunnels:
            t.close(patience=1)


def test_busy_relay_answers_those_who_return_a_cookie():
    with Scene(count=1, max_circuits=64) as scene:
        relay = scene.relays[0]
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("198.18.9.8", 0))
        until = time.monotonic() + 20
        spent = False
        while time.monotonic() < until and not spent:
            # Well-formed CREATEs whose Noise message is random: each costs the relay an X25519, and us nothing.
            for _ in range(40):
                for _ in range(200):
                    packet = handshake.create(relay.obf, os.urandom(8), os.urandom(S.NOISE1))
                    s.sendto(packet, (relay.ip, relay.port))
                time.sleep(0.01)
            drops = relay.fresh_stats()["drops"]
            spent = drops.get("cookie", 0) > 100
            if spent:
                assert relay.process.poll() is None
                t = Tunnel(Source())
                t.build(scene.path())
                assert t.circuit.hops[0].ready
                t.close(patience=0.3)
        assert spent, drops
        s.close()


def test_hops_and_payload_over_ipv6():
    with Scene(count=3) as scene:
        path = []
        for i, relay in enumerate(scene.relays):
            os.system(f"ip -6 addr add 2001:2::{i + 1:x}1/128 dev lo")
            path.append(
                relay.descriptor(v4=bytes(4), port4=0, v6=net.ip_bytes(f"2001:2::{i + 1:x}1"), port6=relay.port)
            )
        os.system("ip -6 addr add fd62:7772::1/64 dev bwexit0")
        t = Tunnel(Source())
        t.build(path)
        pipe = Pipe(t)
        body = b"\x80\x00\0\0\0\x4d\0\x01" + os.urandom(40)
        src, dst = net.ip_bytes(t.inner_v6), net.ip_bytes("2001:2::9")
        pseudo = src + dst + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body
        total = sum(int.from_bytes(pseudo[i : i + 2], "big") for i in range(0, len(pseudo), 2))
        total = (total >> 16) + (total & 0xFFFF)
        total = ~((total >> 16) + total) & 0xFFFF
        body = body[:2] + total.to_bytes(2, "big") + body[4:]
        pipe.near.send(b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\x40" + src + dst + body)
        answers = [p for p in pipe.read(t, 2.0) if p[6] == 58 and p[40] == 129]
        assert len(answers) == 1 and answers[0][8:24] == dst and answers[0][24:40] == src
        t.close(patience=0.5)


def test_rerouting_loses_no_packet(scene):
    """Echo requests every few milliseconds while the tunnel moves to another path five times: every one comes back."""
    a, b, c, last = scene.path()
    t = Tunnel(Source())
    t.build([a, b, last])
    pipe = Pipe(t)
    inner = t.inner_v4
    sent = 0
    got: set[int] = set()

    def exchange(seconds: float) -> None:
        nonlocal sent
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sent += 1
            pipe.near.send(echo_request(inner, "198.18.9.7", sent))
            for answer in pipe.read(t, 0.004):
                got.add(int.from_bytes(answer[26:28], "big"))

    step = t.step

    due = 0.0

    def busy_step(timeout_ms: int = 100) -> None:
        """A turn returns at once while there is anything to read: what is sent is paced by the clock, or it is a flood."""
        nonlocal sent, due
        if time.monotonic() >= due:
            due = time.monotonic() + 0.004
            sent += 1
            pipe.near.send(echo_request(inner, "198.18.9.7", sent))
        step(4)
        for answer in pipe.take():
            got.add(int.from_bytes(answer[26:28], "big"))

    before = [r.fresh_stats()["drops"] for r in scene.relays]
    exchange(0.2)
    for path in ([b, c, last], [c, a, last], [a, c, last], [c, b, last], [b, a, last]):
        t.step = busy_step
        t.build(path)
        t.step = step
        exchange(0.2)
    until = time.monotonic() + 2
    while len(got) < sent and time.monotonic() < until:
        for answer in pipe.read(t, 0.1):
            got.add(int.from_bytes(answer[26:28], "big"))
    assert t.inner_v4 == inner and t.reroutes == 5
    after = [r.fresh_stats()["drops"] for r in scene.relays]
    drops = [{k: n - b.get(k, 0) for k, n in a.items() if n != b.get(k, 0)} for a, b in zip(after, before, strict=True)]
    assert sent > 300
    assert len(got) == sent, f"{sent - len(got)} of {sent} lost; {drops} {t.status()['drops']}"
    t.close(patience=1)


def test_a_dead_middle_hop_is_left_behind():
    """kill -9 of the middle relay: the tunnel is built anew over another one, to the same session."""
    with Scene(count=4) as scene:
        a, b, c, last = scene.path()
        t = Tunnel(Source())
        t.build([a, b, last])
        pipe = Pipe(t)
        inner = t.inner_v4
        scene.relays[1].process.kill()
        pipe.near.send(echo_request(inner, "198.18.9.7", 1))
        assert pipe.read(t, 0.5) == []
        start = time.monotonic()
        t.build([a, c, last])
        pipe.near.send(echo_request(inner, "198.18.9.7", 2))
        assert len(pipe.read(t, 1.0)) == 1 and t.inner_v4 == inner
        assert time.monotonic() - start < 1.0
        t.close(patience=0.3)
