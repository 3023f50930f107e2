"""The rate that the agent gives, on a line with a dumb queue: the household keeps its upstream, the relay the rest.

The relay is played by a sender that obeys; both are datagrams of known rates, so loss and delay are exact.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.agent.parts import ROOT, AgentProcess, RelayPeer, until
from tests.lab.net import inside

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone]
ROUTER, WORLD = (f"bwi{os.getpid()}{name}" for name in "rw")
UPLINK = 10000  # kbit/s
SIZE = 1200
WIRE = SIZE + 42
RELAY_PORT, HOUSE_PORT = 6000, 6001
SETUP = f"""
ip netns add {ROUTER}
ip netns add {WORLD}
ip -n {ROUTER} link add wan0 type veth peer name r0 netns {WORLD}
ip -n {ROUTER} link set lo up
ip -n {ROUTER} link set wan0 up
ip -n {WORLD} link set r0 up
ip -n {ROUTER} addr add 198.18.0.11/24 dev wan0
ip -n {WORLD} addr add 198.18.0.2/24 dev r0
tc -n {ROUTER} qdisc add dev wan0 root tbf rate {UPLINK}kbit burst 8kb limit 300kb
"""


class Flow(threading.Thread):
    """Datagrams of SIZE bytes at `kbps` on the wire (0: none) from the router to a port of the world."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.kbps = 0
        self.sent = 0
        self.stop = False
        self.times: list[float] = []
        with inside(ROUTER):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("198.18.0.2", port))

    def run(self) -> None:
        tokens, before = 0.0, time.monotonic()
        while not self.stop:
            time.sleep(0.002)
            now = time.monotonic()
            tokens = min(tokens + self.kbps * 125 * (now - before), self.kbps * 125 * 0.02 + WIRE)
            before = now
            while tokens >= WIRE:
                tokens -= WIRE
                self.sent += 1
                self.socket.send(struct.pack("<d", time.monotonic()) + bytes(SIZE - 8))


class Sink(threading.Thread):
    """What arrives at a port of the world: (arrival, delay) in seconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, float]] = []
        with inside(WORLD):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("198.18.0.2", port))
        self.socket.settimeout(0.2)
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            try:
                text = self.socket.recv(2048)
            except TimeoutError:
                continue
            now = time.monotonic()
            self.seen.append((now, now - struct.unpack("<d", text[:8])[0]))


@pytest.fixture
def agent() -> Iterator[AgentProcess]:
    folder = ROOT / "build/tmp" / f"idle-{os.getpid()}"
    try:
        for line in SETUP.strip().splitlines():
            subprocess.run(line.split(), check=True, timeout=20)
        dead = {"url": "http://127.0.0.1:9", "key": "ee" * 32}
        found = AgentProcess(folder, [dead], ns=ROUTER, wan="wan0", uplink_kbps=UPLINK, rate_kbps=UPLINK)
        try:
            yield found
        finally:
            found.stop()
    finally:
        for ns in (ROUTER, WORLD):
            subprocess.run(["ip", "netns", "del", ns], check=False, capture_output=True, timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


class Scene:
    """Relay, household and both sinks; `advance` plays the relay's part of the control protocol meanwhile."""

    def __init__(self, agent: AgentProcess) -> None:
        self.peer = RelayPeer(agent)
        self.relay, self.house = Flow(RELAY_PORT), Flow(HOUSE_PORT)
        self.relay_sink, self.house_sink = Sink(RELAY_PORT), Sink(HOUSE_PORT)
        self.threads = (self.relay, self.house, self.relay_sink, self.house_sink)
        self.rates: list[tuple[float, int]] = []
        for thread in self.threads:
            thread.start()

    def advance(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.peer.messages.clear()
            self.peer.pump(0.02)
            for when, message in self.peer.messages:
                if message["t"] == "rate":
                    self.relay.kbps = message["kbps"]
                    self.rates.append((when, message["kbps"]))
                    self.peer.tell({"t": "sent", "bytes": self.relay.sent * SIZE, "packets": self.relay.sent})

    def close(self) -> None:
        for thread in self.threads:
            thread.stop = True
        for thread in self.threads:
            thread.join()
            thread.socket.close()
        self.peer.close()


def test_the_household_keeps_its_upstream(agent: AgentProcess) -> None:
    agent.start()
    scene = Scene(agent)
    try:
        scene.peer.hello(True)
        until("the whole line", lambda: scene.advance(0.2) or scene.relay.kbps >= UPLINK * 95 // 100 * 97 // 100, 20)
        scene.advance(1.5)
        began = time.monotonic()
        scene.house.kbps = 6000
        scene.advance(5)
        idle = [kbps for when, kbps in scene.rates if when > began + 2]
        yielded = next(when for when, kbps in scene.rates if when > began and kbps <= 4000) - began
        scene.house.kbps = 0
        scene.advance(0.5)
        delays = sorted(delay for when, delay in scene.house_sink.seen if when > began + 1)
        lost = 1 - len(scene.house_sink.seen) / scene.house.sent
        p99 = delays[len(delays) * 99 // 100] * 1000
        used = sum(idle) / len(idle) / (UPLINK * 0.95 - 6000)
        print(f"lost {lost:.4f}, p99 {p99:.1f} ms after the first second, yield {yielded:.3f} s, idle used {used:.3f}")
        assert lost <= 0.01
        assert p99 <= 40
        assert yielded <= 0.8
        assert 0.85 <= used <= 1.05
        scene.advance(6)
        assert scene.relay.kbps >= UPLINK * 95 // 100 * 97 // 100  # and it comes back
    finally:
        scene.close()
