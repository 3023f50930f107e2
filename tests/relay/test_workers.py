"""Several relay processes, one descriptor: each takes the circuits that are its own; one that dies dies alone."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from bwclient.circuit import Circuit, CircuitError
from bwclient.tunnel import Tunnel

from .scene import RelayProcess, Scene, Source
from .test_relay import Pipe, echo_request

pytestmark = [pytest.mark.slow, pytest.mark.root]
WORKERS = 3


@pytest.fixture(scope="module")
def scene():
    with Scene(workers=str(WORKERS)) as s:
        yield s


def children(relay: RelayProcess) -> list[int]:
    """The workers' process ids, by worker: the kernel lists children in the order of their birth."""
    pid = relay.process.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def circuits(relay: RelayProcess) -> dict[int, int]:
    """Circuits of each worker, from counters younger than this call."""
    relay.by_worker.clear()
    until = time.monotonic() + 5
    while len(relay.by_worker) < WORKERS:
        assert time.monotonic() < until, relay.by_worker
        time.sleep(0.02)
    return {w: s["circuits"] for w, s in relay.by_worker.items()}


def pinged(tunnel: Tunnel, pipe: Pipe, number: int) -> bool:
    pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", number))
    return len(pipe.read(tunnel)) == 1


def test_circuits_spread_over_all_workers_and_end_where_they_began(scene: Scene) -> None:
    assert [len(children(r)) for r in scene.relays] == [WORKERS] * 3
    tunnels = []
    used: list[set[int]] = [set(), set(), set()]
    while any(len(u) < WORKERS for u in used):
        assert len(tunnels) < 60, used
        t = Tunnel(Source())
        t.build(scene.path())
        tunnels.append(t)
        assert t.circuit is not None
        for u, hop in zip(used, t.circuit.hops, strict=True):
            u.add(hop.worker)
    for i, t in enumerate(tunnels):
        pipe = Pipe(t)
        assert pinged(t, pipe, i), i
    for at, relay in enumerate(scene.relays):
        expected = dict.fromkeys(range(WORKERS), 0)
        for t in tunnels:
            assert t.circuit is not None
            expected[t.circuit.hops[at].worker] += 1
        assert circuits(relay) == expected
    # Inner addresses are one worker's each, or answers would go astray.
    exits = {(t.inner_v4, t.circuit.hops[-1].worker) for t in tunnels if t.circuit is not None}
    assert len({a for a, _ in exits}) == len(tunnels)
    assert all(int(a.split(".")[2]) // 16 == w for a, w in exits)
    for t in tunnels:
        t.close(patience=0.2)


def test_a_session_is_found_again_at_its_worker(scene: Scene) -> None:
    t = Tunnel(Source())
    t.build(scene.path())
    inner = t.inner_v4
    pipe = Pipe(t)
    for number in range(6):  # by chance it would fail with p = 1 - 3^-6
        t.build(scene.path())
        assert t.inner_v4 == inner and pinged(t, pipe, number)
    t.close(patience=0.5)


def test_a_copied_create_is_nothing_to_another_worker(scene: Scene) -> None:
    relay = scene.relays[0]
    c = Circuit(scene.path(), Source(), os.urandom(32))
    packet, own = c.create(), c.hops[0].worker
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(0.5)
    for worker in range(WORKERS):
        s.sendto(packet, ("::ffff:" + relay.ip, relay.port + worker))
    _, where = s.recvfrom(2048)
    assert where[1] == relay.port + own
    with pytest.raises(TimeoutError):
        s.recvfrom(2048)
    s.close()
    circuits(relay)
    assert [relay.by_worker[w]["drops"].get("create-worker", 0) for w in range(WORKERS)] == [
        int(w != own) for w in range(WORKERS)
    ]


def through(scene: Scene, worker: int) -> Tunnel:
    """A tunnel through this worker of the first relay."""
    while True:
        t = Tunnel(Source())
        t.build(scene.path())
        assert t.circuit is not None
        if t.circuit.hops[0].worker == worker:
            return t
        t.close(patience=0.2)


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(scene: Scene) -> None:
    relay = scene.relays[0]
    before = children(relay)
    lives, dies = through(scene, 0), through(scene, 1)
    one, other = Pipe(lives), Pipe(dies)
    assert pinged(lives, one, 1) and pinged(dies, other, 2)
    relay.hellos.clear()
    os.kill(before[1], signal.SIGKILL)
    for number in range(10):
        assert pinged(lives, one, number)
    until = time.monotonic() + 10
    while 1 not in relay.hellos:
        assert time.monotonic() < until, "no new worker"
        time.sleep(0.05)
    assert set(relay.hellos) == {1}
    after = children(relay)
    assert len(after) == WORKERS and set(before) - {before[1]} < set(after)
    through(scene, 1).close(patience=0.5)
    assert pinged(lives, one, 99)
    lives.close(patience=0.5)
    dies.close(patience=0.1)


def test_the_end_of_the_relay_is_the_end_of_all(scene: Scene) -> None:
    relay = scene.relays[1]
    workers = children(relay)
    relay.process.terminate()
    assert relay.process.wait(5) == 0
    assert not [p for p in workers if Path(f"/proc/{p}").exists()]
    # An EXTEND to it is told so, at whichever worker it would be.
    t = Tunnel(Source())
    with pytest.raises(CircuitError, match="hop 2: no answer"):
        t.build(scene.path())
    t.close(patience=0.1)
