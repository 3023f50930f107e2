"""The agent and a relay of several processes, both real, on MicroPython; there is no gateway."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.public import PrivateKey

from bwclient.circuit import Circuit
from bwrouter.wire import descriptor
from tests.agent.parts import MICROPYTHON, ROOT, AgentProcess, until
from tests.relay.scene import Namespace, Source

pytestmark = [pytest.mark.slow, pytest.mark.root]
WORKERS = 3


@pytest.fixture(scope="module")
def agent() -> Iterator[AgentProcess]:
    folder = ROOT / "build/tmp" / f"workers-{os.getpid()}"
    dead = {"url": "http://127.0.0.1:9", "key": "ee" * 32}
    with Namespace():
        found = AgentProcess(folder, [dead], workers=str(WORKERS), exit=True, exit_deny=["203.0.113.0/24:53"])
        found.start()
        yield found
        found.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def relay(agent: AgentProcess) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [str(MICROPYTHON), "-m", "bwrouter", "relay", "--config", str(agent.config)],
        env={**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"},
    )
    yield process
    process.kill()
    process.wait()


def whole(agent: AgentProcess) -> Any:
    """The relay's part of the status once every process is heard and has its share of the rate."""
    relay = agent.status().get("relay")
    if not relay or not all(w["alive"] for w in relay["workers"]) or not relay["rate_kbps"]:
        return None
    return relay


def test_status_is_of_all_and_the_rate_is_shared(agent: AgentProcess, relay: subprocess.Popen[bytes]) -> None:
    found = until("all workers", lambda: whole(agent))
    assert len(found["workers"]) == WORKERS and found["runtime"] == "micropython"
    status = until("a rate", lambda: (s := agent.status())["rate"]["allowed_kbps"] > 5000 and s)
    parts = [w["rate_kbps"] for w in status["relay"]["workers"]]
    assert sum(parts) <= status["rate"]["limit_kbps"] + 8 * WORKERS and min(parts) > 0
    assert sum(parts) == status["relay"]["rate_kbps"]
    shown = agent.cli("status", "--json")
    assert shown.returncode == 0 and '"workers"' in shown.stdout


def test_every_process_has_its_own_device(agent: AgentProcess, relay: subprocess.Popen[bytes]) -> None:
    until("all workers", lambda: whole(agent))
    lines = subprocess.run(["ip", "-br", "addr"], capture_output=True, text=True, check=True).stdout.splitlines()
    devices = {line.split()[0]: line.split()[2:] for line in lines if line.startswith("bwexit0")}
    assert sorted(devices) == ["bwexit0", "bwexit0-1", "bwexit0-2"]
    assert "10.213.16.1/20" in devices["bwexit0-1"] and "fd62:7772::2001/116" in devices["bwexit0-2"]
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert 'iifname { "bwexit0", "bwexit0-1", "bwexit0-2" } goto leave' in rules


def test_a_process_that_dies_gets_its_keys_again(agent: AgentProcess, relay: subprocess.Popen[bytes]) -> None:
    until("all workers", lambda: whole(agent))
    def children() -> list[int]:
        return [int(p) for p in Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()]

    before = children()
    assert answers(agent, 2)
    os.kill(before[2], signal.SIGKILL)
    until("another process", lambda: len(now := children()) == WORKERS and before[2] not in now)
    until("its answer", lambda: answers(agent, 2))
    assert before[:2] == children()[:2] and answers(agent, 0) and answers(agent, 1)


def answers(agent: AgentProcess, worker: int) -> bool:
    """Whether a relay process answers a handshake, which it can only with the relay's keys."""
    static = PrivateKey(bytes.fromhex((agent.state_dir / "static.key").read_text())).public_key
    obf = bytes.fromhex((agent.state_dir / "obf.key").read_text())
    d = descriptor.Descriptor(
        bytes(32), bytes(static), obf, b"\xc6\x12\x09\x01", 51900, flags=descriptor.flags(True, WORKERS)
    )
    c = Circuit([d], Source(), os.urandom(32), 0, worker)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(0.3)
        s.sendto(c.create(), ("::ffff:198.18.9.1", 51900 + worker))
        try:
            return len(s.recv(2048)) > 0
        except TimeoutError:
            return False
        finally:
            c.close()


def test_the_descriptor_says_how_many(agent: AgentProcess) -> None:
    script = (
        "import sys; from bwrouter.agent import keys, publish; from bwrouter.platform import config\n"
        f"s = config.load('{agent.config}'); k = keys.load(s['state_dir'])\n"
        "print(publish.own_descriptor(k, s, 2000000000).hex())"
    )
    environment = {**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"}
    out = subprocess.run([str(MICROPYTHON), "-c", script], env=environment, capture_output=True, text=True, check=True)
    d = descriptor.verify_relay_part(bytes.fromhex(out.stdout.strip()))
    assert d.exit and d.workers == WORKERS and d.port4 == 51900


def test_nothing_stays(agent: AgentProcess, relay: subprocess.Popen[bytes]) -> None:
    agent.stop()
    left = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "bwexit0" not in left
    assert subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout == ""
