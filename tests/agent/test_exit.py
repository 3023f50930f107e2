"""What leaves through an exit, by packets: the agent's TUN, addresses and nftables rules in namespaces of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from tests.agent.parts import ROOT, AgentProcess, RelayPeer, until
from tests.lab.net import inside

pytestmark = [pytest.mark.slow, pytest.mark.root]
ROUTER, WORLD, LAN = (f"bwx{os.getpid()}{name}" for name in "rwl")
INNER4, INNER6 = IPv4Address("10.213.1.2"), IPv6Address("fd62:7772::102")
WAN4, WAN6 = "198.18.0.11", "2001:2::11"
DATA, SMTP, DNS = 9999, 25, 53

Address = IPv4Address | IPv6Address
ALLOWED = ("203.0.113.7", "8.8.8.8", "2001:2:1::7", "2a00:1450::5")
# The last two are a network at home that lan_prefixes does not name.
REFUSED = (
    "10.9.9.9", "172.16.5.5", "192.168.7.7", "100.64.1.1", "169.254.9.9", "127.0.0.9", "224.0.0.9", "240.0.0.9",
    "0.0.0.9", "192.168.1.2", "fd00::9", "fe80::9", "ff0e::9", "2002:a00:1::1", "64:ff9b::a00:1", "::ffff:10.0.0.1",
    "2001:2:0:5::2", WAN4, WAN6, "192.168.1.1", "2001:2:0:5::1", "10.213.0.1", "fd62:7772::1", "10.213.1.3",
    "198.51.100.9", "203.0.114.2", "2001:2:0:6::2",
)  # fmt: skip

SETUP = f"""
netns add {ROUTER}
netns add {WORLD}
netns add {LAN}
-n {ROUTER} link add wan0 type veth peer name r0 netns {WORLD}
-n {ROUTER} link add lan0 type veth peer name r0 netns {LAN}
-n {ROUTER} link set lo up
-n {ROUTER} link set wan0 up
-n {ROUTER} link set lan0 up
-n {WORLD} link set r0 up
-n {LAN} link set r0 up
-n {ROUTER} addr add {WAN4}/24 dev wan0
-n {ROUTER} addr add {WAN6}/64 dev wan0 nodad
-n {ROUTER} addr add 192.168.1.1/24 dev lan0
-n {ROUTER} addr add 2001:2:0:5::1/64 dev lan0 nodad
-n {ROUTER} addr add 203.0.114.1/24 dev lan0
-n {ROUTER} addr add 2001:2:0:6::1/64 dev lan0 nodad
-n {LAN} addr add 203.0.114.2/24 dev r0
-n {LAN} addr add 2001:2:0:6::2/64 dev r0 nodad
-n {WORLD} addr add 198.18.0.2/24 dev r0
-n {WORLD} addr add 2001:2::2/64 dev r0 nodad
-n {LAN} addr add 192.168.1.2/24 dev r0
-n {LAN} addr add 2001:2:0:5::2/64 dev r0 nodad
-n {ROUTER} route add default via 198.18.0.2
-n {ROUTER} -6 route add default via 2001:2::2
-n {WORLD} link set lo up
-n {WORLD} addr add 203.0.113.7/32 dev lo
-n {WORLD} addr add 2001:2:1::7/128 dev lo nodad
-n {WORLD} route add 10.213.0.0/16 via {WAN4}
-n {WORLD} -6 route add fd62:7772::/64 via {WAN6}
"""


@pytest.fixture(scope="module")
def namespaces() -> Iterator[None]:
    try:
        for line in SETUP.strip().splitlines():
            subprocess.run(["ip", *line.split()], check=True, timeout=20)
        # A new namespace takes this over from the machine.
        forward = ["sysctl", "-qw", "net.ipv4.ip_forward=0"]
        subprocess.run(["ip", "netns", "exec", ROUTER, *forward], check=True, timeout=20)
        yield
    finally:
        for ns in (ROUTER, WORLD, LAN):
            subprocess.run(["ip", "netns", "del", ns], check=False, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def agent(namespaces: None) -> Iterator[AgentProcess]:
    folder = ROOT / "build/tmp" / f"exit-{os.getpid()}"
    dead = {"url": "http://127.0.0.1:9", "key": "ee" * 32}
    found = AgentProcess(
        folder, [dead], ns=ROUTER, wan="wan0", exit=True, public_v4=WAN4, public_v6=WAN6,
        lan_prefixes=["192.168.1.0/24", "2001:2:0:5::/64"], exit_deny=["198.51.100.0/24", "[2001:2:1::/48]:53"],
    )  # fmt: skip
    peer = RelayPeer(found)
    try:
        found.start()
        peer.hello(False)
        peer.expect("hello", exit=True)
        until("TUN", lambda: peer.pump() or peer.fds)
        found.tun = peer.fds[-1]  # type: ignore[attr-defined]
        yield found
    finally:
        found.stop()
        peer.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tun(agent: AgentProcess) -> int:
    return int(agent.tun)  # type: ignore[attr-defined]


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def packet(source: Address, target: Address, port: int, protocol: int) -> bytes:
    """An IP packet with a UDP datagram or a TCP SYN from port 40000."""
    if protocol == socket.IPPROTO_UDP:
        body = struct.pack(">HHHH", 40000, port, 13, 0) + b"probe"
        place = 6
    else:
        body, place = struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 0x50, 2, 1024, 0, 0), 16
    pseudo = source.packed + target.packed + struct.pack(">II", len(body), protocol)
    body = body[:place] + struct.pack(">H", checksum(pseudo + body)) + body[place + 2 :]
    if source.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + source.packed + target.packed
        return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + source.packed + target.packed + body


class Tap:
    """Every IP packet that comes into a namespace's interface: (source, target, protocol, target port)."""

    def __init__(self, ns: str, interface: str) -> None:
        with inside(ns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.bind((interface, 3))
        self.socket.setblocking(False)

    def seen(self) -> set[tuple[str, str, int, int]]:
        found = set()
        while True:
            try:
                raw, where = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if where[2] == socket.PACKET_OUTGOING:
                continue
            if raw[0] >> 4 == 4:
                source, target, protocol, body = raw[12:16], raw[16:20], raw[9], raw[(raw[0] & 15) * 4 :]
            else:
                source, target, protocol, body = raw[8:24], raw[24:40], raw[6], raw[40:]
            if protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
                port = struct.unpack(">H", body[2:4])[0]
                found.add((str(ip_address(source)), str(ip_address(target)), protocol, port))


@pytest.fixture
def taps() -> Iterator[dict[str, Tap]]:
    found = {"world": Tap(WORLD, "r0"), "lan": Tap(LAN, "r0")}
    yield found
    for tap in found.values():
        tap.socket.close()


def send(tun: int, target: str, port: int, protocol: int = socket.IPPROTO_UDP, source: Address | None = None) -> None:
    where = ip_address(target)
    os.write(tun, packet(source or (INNER4 if where.version == 4 else INNER6), where, port, protocol))


def test_only_the_public_internet_is_reached(tun: int, taps: dict[str, Tap]) -> None:
    with inside(ROUTER):
        local = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    local.bind(("::", DATA))
    local.setblocking(False)
    for target in (*ALLOWED, *REFUSED):
        send(tun, target, DATA)
        send(tun, target, DATA, socket.IPPROTO_TCP)
    time.sleep(0.5)
    left = {(t, p) for _, t, p, port in taps["world"].seen() if port == DATA}
    assert left == {(t, p) for t in ALLOWED for p in (socket.IPPROTO_UDP, socket.IPPROTO_TCP)}
    assert not [s for s in taps["lan"].seen() if s[3] == DATA]
    with pytest.raises(BlockingIOError):
        local.recv(100)
    local.close()


def test_mail_is_refused_and_the_owners_rules_hold(tun: int, taps: dict[str, Tap]) -> None:
    for target in ALLOWED:
        for port in (SMTP, DNS):
            send(tun, target, port)
            send(tun, target, port, socket.IPPROTO_TCP)
    time.sleep(0.5)
    left = {(t, port) for _, t, _, port in taps["world"].seen() if port in (SMTP, DNS)}
    assert left == {(t, DNS) for t in ALLOWED if t != "2001:2:1::7"}


def test_no_foreign_source_leaves(tun: int, taps: dict[str, Tap]) -> None:
    for source in ("192.168.1.2", "198.18.0.11", "8.8.4.4", "2001:2:0:5::2", "2001:2::11", "fd00::1"):
        given = ip_address(source)
        send(tun, "203.0.113.7" if given.version == 4 else "2001:2:1::7", 7777, source=given)
    time.sleep(0.5)
    assert not [s for s in taps["world"].seen() if s[3] == 7777]


def test_answers_come_back_and_nothing_else(tun: int, taps: dict[str, Tap]) -> None:
    for family, target, wan in ((socket.AF_INET, "203.0.113.7", WAN4), (socket.AF_INET6, "2001:2:1::7", WAN6)):
        with inside(WORLD):
            server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((target, 8888))
        server.settimeout(5)
        send(tun, target, 8888)
        text, peer = server.recvfrom(100)
        assert text == b"probe" and peer[0] == wan  # the inner address is nobody's business
        server.sendto(b"reply", peer)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                got = os.read(tun, 2048)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if got.endswith(b"reply"):
                break
        assert got.endswith(b"reply")
        inner = INNER4 if family == socket.AF_INET else INNER6
        assert inner.packed in got[:40]
        server.sendto(b"unasked", (str(inner), 40000))  # WORLD routes the inner prefix to the router
        server.close()
    time.sleep(0.3)
    while True:
        try:
            assert not os.read(tun, 2048).endswith(b"unasked")
        except BlockingIOError:
            return


def in_router(*command: str) -> str:
    run = subprocess.run(["ip", "netns", "exec", ROUTER, *command], capture_output=True, text=True, timeout=20)
    return run.stdout


def test_stopping_undoes_everything(agent: AgentProcess, tun: int) -> None:
    forwarding = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
    assert in_router("cat", *forwarding).split() == ["1", "1"]
    assert "bwexit0" in in_router("ip", "-br", "link") and "bwrouter_exit" in in_router("nft", "list", "tables")
    assert agent.stop() == 0
    # The test, as a relay, still holds the device's descriptor: the device is gone all the same.
    assert "bwexit0" not in in_router("ip", "-br", "link") and in_router("nft", "list", "ruleset") == ""
    assert in_router("cat", *forwarding).split() == ["0", "0"]
    assert not Path(agent.run_dir / "exit.json").exists()
