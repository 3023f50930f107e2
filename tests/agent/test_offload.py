"""Software flow offloading in a real kernel: found, and its bytes are in the WAN's counter all the same."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bwrouter.agent import offload
from tests.lab.net import inside

pytestmark = [pytest.mark.slow, pytest.mark.root]
HOME, ROUTER, WORLD = (f"bwo{os.getpid()}{name}" for name in "hrw")
LINKS = f"""
ip link add lan0 netns {ROUTER} type veth peer name home0 netns {HOME}
ip link add wan0 netns {ROUTER} type veth peer name world0 netns {WORLD}
ip -n {ROUTER} addr add 192.168.1.1/24 dev lan0
ip -n {ROUTER} addr add 198.18.0.11/24 dev wan0
ip -n {HOME} addr add 192.168.1.2/24 dev home0
ip -n {WORLD} addr add 198.18.0.2/24 dev world0
ip -n {ROUTER} link set lan0 up
ip -n {ROUTER} link set wan0 up
ip -n {HOME} link set home0 up
ip -n {WORLD} link set world0 up
ip -n {HOME} route add default via 192.168.1.1
ip -n {WORLD} route add 192.168.1.0/24 via 198.18.0.11
"""
RULES = """
table inet fw {
  flowtable ft {
    hook ingress priority filter
    devices = { lan0, wan0 }
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    meta l4proto tcp flow add @ft
  }
}
"""


@pytest.fixture
def router() -> Iterator[None]:
    try:
        for ns in (HOME, ROUTER, WORLD):
            subprocess.run(["ip", "netns", "add", ns], check=True, timeout=20)
        for line in LINKS.strip().splitlines():
            subprocess.run(line.split(), check=True, timeout=20)
        with inside(ROUTER):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            made = subprocess.run(["nft", "-f", "-"], input=RULES, text=True, capture_output=True, timeout=20)
        if made.returncode:
            pytest.skip("this kernel has no flowtables: " + made.stderr.splitlines()[0])
        yield
    finally:
        for ns in (HOME, ROUTER, WORLD):
            subprocess.run(["ip", "netns", "del", ns], check=False, capture_output=True, timeout=20)


def test_software_offloading_is_found_and_counted(router: None) -> None:
    with inside(ROUTER):
        tables = subprocess.run(["nft", "list", "flowtables"], capture_output=True, text=True, timeout=20).stdout
    assert offload.detect("/nonexistent", tables) == offload.SOFTWARE
    with inside(WORLD):
        server = socket.create_server(("198.18.0.2", 9))
    with inside(HOME):
        sender = socket.create_connection(("198.18.0.2", 9), timeout=10)
    receiver, _ = server.accept()
    before, total = counter(), 0
    for _ in range(300):
        sender.sendall(bytes(10000))
        while total < 10000 * 300 and len(data := receiver.recv(65536)):
            total += len(data)
            if total % 10000 == 0:
                break
        time.sleep(0.001)
    found = Path("/proc/net/nf_conntrack")
    with inside(ROUTER):
        offloaded = found.exists() and "OFFLOAD" in found.read_text()
    print(f"sent {total}, counted {counter() - before}, conntrack says offloaded: {offloaded}")
    assert total == 3_000_000 and counter() - before >= total
    for s in (sender, receiver, server):
        s.close()


def counter() -> int:
    done = subprocess.run(["ip", "-n", ROUTER, "-s", "link", "show", "wan0"], capture_output=True, text=True, timeout=20)
    return int(done.stdout.split("TX:")[1].splitlines()[1].split()[0])
