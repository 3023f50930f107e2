"""Keys of a long circuit are renewed by time, by cells and by tickets, while packets run: none is lost, none repeated."""

from __future__ import annotations

import time

import pytest

from bwclient import circuit
from bwclient.circuit import Circuit
from bwclient.tunnel import Tunnel
from bwrouter.platform import ffi
from bwrouter.wire import sizes as S

from .scene import Scene, Source
from .test_relay import Pipe, echo_request

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture(scope="module")
def scene():
    with Scene() as s:
        yield s


@pytest.fixture
def tunnel(scene):
    t = Tunnel(Source())
    t.build(scene.path())
    yield t
    t.close(patience=0.5)


def keys(c: Circuit) -> set[bytes]:
    return {ffi.peek(k, 32) for hop in c.hops for k in (hop.k_forward, hop.k_backward)}


def test_by_time_under_load(scene: Scene, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "AGE_SECONDS", 0.5)
    pipe = Pipe(tunnel)
    inner = tunnel.inner_v4
    got: list[int] = []
    every: list[bytes] = []
    number, due = 0, 0.0
    step = tunnel.step

    def busy_step(timeout_ms: int = 100) -> None:
        nonlocal number, due
        # About 10 Mbit/s: packets that outrun their payment are dropped, and this is not about that.
        if time.monotonic() >= due:
            due = time.monotonic() + 0.001
            pipe.near.send(echo_request(inner, "198.18.9.7", number, 1200))
            number += 1
        step(1)
        got.extend(int.from_bytes(answer[26:28], "big") for answer in pipe.take())

    deadline = time.monotonic() + 30
    monkeypatch.setattr(tunnel, "step", busy_step)
    for _ in range(4):
        assert tunnel.circuit is not None
        every += sorted(keys(tunnel.circuit))
        tunnel.run(lambda: tunnel.stale or time.monotonic() > deadline)
        assert tunnel.stale
        tunnel.build(scene.path())  # as bwclient.up does
    monkeypatch.setattr(tunnel, "step", step)
    assert len(every) == len(set(every)) == 4 * 6
    deadline = time.monotonic() + 5
    while len(got) < number and time.monotonic() < deadline:
        got += [int.from_bytes(answer[26:28], "big") for answer in pipe.read(tunnel)]
    assert sorted(got) == list(range(number)) and number > 100
    assert tunnel.inner_v4 == inner and tunnel.reroutes == 4
    deadline = time.monotonic() + 12
    while any(r.fresh_stats()["circuits"] != 1 for r in scene.relays):
        assert time.monotonic() < deadline, "old circuits stay"
        tunnel.step(20)


def test_by_cells_in_either_direction(tunnel: Tunnel) -> None:
    c = tunnel.circuit
    assert c is not None and not c.stale
    c.sent = S.COUNTER_LIMIT // 2 + 1
    assert c.stale
    c.sent = 5
    assert not c.stale
    windows = circuit._windows().u32
    for hop in c.hops:
        before = windows[hop.window]
        windows[hop.window] = S.COUNTER_LIMIT // 2 + 1
        assert c.stale
        windows[hop.window] = before
    assert not c.stale


def test_by_tickets(tunnel: Tunnel) -> None:
    c = tunnel.circuit
    assert c is not None and not c.stale
    meter = c.hops[1].meter
    before = list(meter.tickets)
    meter.tickets.extend(before[:1] * circuit.TICKETS_MOST)
    assert c.stale
    meter.tickets[:] = before


def test_a_relay_seals_nothing_past_the_last_counter(scene: Scene, tunnel: Tunnel) -> None:
    """Forward, the relay drops what comes under a number that may not be; the client refuses to make it."""
    c = tunnel.circuit
    assert c is not None
    pipe = Pipe(tunnel)
    c.sent = S.COUNTER_LIMIT - 1
    pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", 1))
    with pytest.raises(circuit.CircuitError, match="used up"):
        while True:
            tunnel.step(20)
            pipe.near.send(echo_request(tunnel.inner_v4, "198.18.9.7", 2))
    c.sent = 5
