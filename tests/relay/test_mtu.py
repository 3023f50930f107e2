"""A home line by PPPoE has 1492 bytes: full cells fit, over IPv4 and IPv6, and nothing is ever cut into fragments."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bwclient.tunnel import Tunnel
from bwrouter.platform import net
from bwrouter.wire import sizes as S
from tests.lab.net import wire_size

from .scene import _CLONE_NEWNET, _LIBC, Scene, Source
from .test_relay import Pipe, echo_request

pytestmark = [pytest.mark.slow, pytest.mark.root]
MTU = 1492
FULL = S.INNER_MTU + S.overhead(3)


@dataclass
class Line:
    """The namespaces at both ends of the line, as open files; relays and scene are at `far`."""

    scene: Scene
    home: int
    far: int
    taps: list[socket.socket] = field(default_factory=list)

    def enter(self, where: int) -> None:
        assert _LIBC.setns(where, _CLONE_NEWNET) == 0

    def packets(self) -> list[bytes]:
        """IP packets that crossed the line, in either direction."""
        out = []
        for tap in self.taps:
            while True:
                try:
                    raw, where = tap.recvfrom(65535)
                except BlockingIOError:
                    break
                # Fragments and whole packets alike; only what came in, as the other end sent it.
                if where[2] != socket.PACKET_OUTGOING and where[1] in (0x0800, 0x86DD):
                    out.append(raw)
        return out


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with Scene() as scene:
        far = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert _LIBC.unshare(_CLONE_NEWNET) == 0
        found = Line(scene, os.open("/proc/thread-self/ns/net", os.O_RDONLY), far)
        try:
            ip(f"link add c0 mtu {MTU} type veth peer name s0 mtu {MTU} netns /proc/{os.getpid()}/fd/{far}")
            for command in ("addr add 198.18.10.2/24 dev c0", "-6 addr add 2001:2:0:a::2/64 dev c0 nodad",
                            "link set lo up", "link set c0 up"):  # fmt: skip
                ip(command)
            found.enter(far)
            for command in ("addr add 198.18.10.1/24 dev s0", "-6 addr add 2001:2:0:a::1/64 dev s0 nodad",
                            "link set s0 up"):  # fmt: skip
                ip(command)
            wire_size("s0")
            found.taps.append(tap("s0"))
            found.enter(found.home)
            ip("route add default via 198.18.10.1")
            ip("-6 route add default via 2001:2:0:a::1")
            wire_size("c0")
            found.taps.append(tap("c0"))
            yield found
        finally:
            found.enter(far)
            for s in found.taps:
                s.close()
            os.close(found.home)
            os.close(far)


def tap(interface: str) -> socket.socket:
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    s.bind((interface, 3))
    s.setblocking(False)
    return s


def fragment(packet: bytes) -> bool:
    if packet[0] >> 4 == 4:
        return bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
    return packet[6] == 44


@pytest.mark.parametrize("version", [4, 6])
def test_full_cells_cross_whole(line: Line, version: int) -> None:
    here = net.ip_bytes("2001:2::9")
    path = [
        r.descriptor(v4=bytes(4), port4=0, v6=here, port6=r.port) if version == 6 else r.descriptor()
        for r in line.scene.relays
    ]
    t = Tunnel(Source())
    t.build(path)
    assert t.mtu == S.INNER_MTU
    pipe = Pipe(t)
    line.packets()
    for number in range(50):
        size = t.mtu - 28 if number % 2 else 700 + number
        pipe.near.send(echo_request(t.inner_v4, "198.18.9.7", number, size))
        (answer,) = pipe.read(t)
        assert len(answer) == size + 28
    t.close(patience=1)
    seen = [p for p in line.packets() if p[0] >> 4 == version and p[9 if version == 4 else 6] in (17, 44)]
    heads = 28 if version == 4 else 48
    assert not [p for p in seen if fragment(p)]
    assert max(len(p) for p in seen) == FULL + heads <= MTU
    assert len([p for p in seen if len(p) == FULL + heads]) >= 50  # 25 there, 25 back
    if version == 4:
        assert all(p[6] & 0x40 for p in seen)  # may not be fragmented on the way either
    assert t.tx.refused == 0


def test_the_checker_knows_a_fragment(line: Line) -> None:
    line.packets()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_PMTUDISC_DONT
    s.sendto(bytes(2000), ("198.18.10.1", 9))
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.sendto(bytes(2000), ("2001:2:0:a::1", 9))
    found = [p for p in line.packets() if fragment(p)]
    assert {p[0] >> 4 for p in found} == {4, 6}
    s.close()
    six.close()
