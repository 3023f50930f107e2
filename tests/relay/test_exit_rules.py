"""What the relay itself lets out of an exit, by packets on the TUN: there is no nftables table in this namespace."""

from __future__ import annotations

import socket
import struct
import subprocess
import time

import pytest

from bwclient.tunnel import Tunnel
from bwrouter.platform import net

from .scene import Scene, Source, send_inner
from .test_relay import ipv4

pytestmark = [pytest.mark.slow, pytest.mark.root]
TCP, UDP, ICMP, SCTP = 6, 17, 1, 132
LAN = "192.168.1.0/24"  # as the scene's agent says it; 198.18.9.2 is the exit itself
V4 = ("203.0.113.7", "8.8.8.8", "100.128.0.1")
V6 = ("2a00:1450::5", "2001:2:1::7")
REFUSED = (
    "10.0.0.1", "10.213.0.1", "10.213.9.9", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1.7", "127.0.0.1",
    "169.254.1.1", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "0.0.0.1",
    "192.0.0.1", "192.88.99.1", "198.18.9.2", "198.51.100.9",
    "::", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "100::1", "fc00::1", "fd62:7772::1", "fe80::1", "fec0::1",
    "ff02::1", "2002:808:808::1", "2001::1", "2001:db8:5::1",
)  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    rules = {"exit_deny": ["198.51.100.0/24", "2001:db8:5::/48", "8.8.8.8:53", "[2001:2:1::/48]:53"]}
    with Scene(count=2, **rules) as s:
        for name in ("all", "bwexit0"):  # the kernel shall drop nothing before the tap sees it
            subprocess.run(["sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0"], check=True)
        yield s


@pytest.fixture(scope="module")
def tunnel(scene):
    t = Tunnel(Source())
    t.build(scene.path())
    yield t
    t.close(patience=0.5)


def packet(t: Tunnel, target: str, protocol: int, port: int) -> bytes:
    body = struct.pack(">HHHH", 40000, port, 20, 0) + bytes(12)
    raw = net.ip_bytes(target)
    if len(raw) == 4:
        return ipv4(t.inner_v4, target, protocol, body)
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + net.ip_bytes(t.inner_v6) + raw + body


def left(t: Tunnel, probes: list[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Which of (target, protocol, port) came out of the TUN."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    tap.bind(("bwexit0", 3))
    tap.setblocking(False)
    for target, protocol, port in probes:
        send_inner(t, packet(t, target, protocol, port))
        t.step(5)
    time.sleep(0.3)
    seen = set()
    while True:
        try:
            raw, where = tap.recvfrom(2048)
        except BlockingIOError:
            break
        if where[2] == socket.PACKET_OUTGOING:
            continue
        if raw[0] >> 4 == 4:
            seen.add((net.ip_text(raw[16:20]), raw[9], int.from_bytes(raw[22:24], "big")))
        else:
            seen.add((net.ip_text(raw[24:40]), raw[6], int.from_bytes(raw[42:44], "big")))
    tap.close()
    return seen


def test_private_and_own_addresses(scene: Scene, tunnel: Tunnel) -> None:
    probes = [(a, p, 443) for a in (*V4, *V6, *REFUSED) for p in (TCP, UDP)]
    before = scene.relays[-1].fresh_stats()["drops"].get("policy", 0)
    assert left(tunnel, probes) == {(a, p, 443) for a in (*V4, *V6) for p in (TCP, UDP)}
    assert scene.relays[-1].fresh_stats()["drops"]["policy"] - before == 2 * len(REFUSED)


def test_ports(scene: Scene, tunnel: Tunnel) -> None:
    probes = [(a, p, port) for a in (*V4, *V6) for p in (TCP, UDP, SCTP) for port in (25, 53)]
    closed = {("8.8.8.8", p, 53) for p in (TCP, UDP)} | {("2001:2:1::7", p, 53) for p in (TCP, UDP)}
    assert left(tunnel, probes) == {p for p in probes if p[2] != 25} - closed


def test_only_what_the_owner_allows() -> None:
    rules = {"exit_allow": ["0.0.0.0/0:443", "[2a00:1450::/32]:53", "203.0.113.0/24"]}
    with Scene(count=2, **rules) as scene:
        t = Tunnel(Source())
        t.build(scene.path())
        probes = [(a, p, port) for a in (*V4, *V6, "10.0.0.1") for p in (TCP, UDP, SCTP) for port in (25, 53, 443)]
        expected = {(a, p, 443) for a in V4 for p in (TCP, UDP)} | {("2a00:1450::5", p, 53) for p in (TCP, UDP)}
        expected |= {("203.0.113.7", p, port) for p in (TCP, UDP, SCTP) for port in (53, 443)}
        assert left(t, probes) == expected
        t.close(patience=0.5)
