"""A verifier's burst against real relay processes on both runtimes, and against relays that cheat."""

from __future__ import annotations

import threading
import time

import pytest

from bwrouter.wire import proof
from bwrouter.wire import sizes as S
from bwverifier.probe import BUSY, CORRUPT, GOOD, UNREACHABLE, Measurement, Probe
from bwverifier.slots import committee_rate, median_rate
from tests.relay.scene import Scene, Source


def test_rate_is_the_median_of_slots():
    # 8 Mbit/s, one tenth of it at once in the beginning, a pause of 50 ms in one slot
    times = [0.0] * 10 + [i * 0.001 + (0.05 if i > 60 else 0) for i in range(1, 91)]
    assert median_rate(times, 1000) == pytest.approx(8000, rel=0.01)
    assert median_rate([0.0, 0.1], 1000) == 0.0
    assert committee_rate([5, 1, 9, 7]) == 5 and committee_rate([]) == 0


@pytest.fixture(scope="module", params=["micropython", "cpython"])
def scene(request):
    with Scene(runtime=request.param) as s:
        yield s


def measured(scene, target, ms=300, path=None):
    p = Probe(Source())
    try:
        return p.measure(path or scene.path(), target, ms, scene.relays[target].rate_kbps)
    finally:
        p.close(patience=0.5)


def pace(scene, target, kbps):
    scene.relays[target].rate_kbps = kbps
    scene.relays[target].fresh_stats()


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("target", [0, 1, 2])
def test_burst_at_each_place_of_a_circuit(scene, target):
    pace(scene, target, 20000)
    m = measured(scene, target)
    pace(scene, target, 1_000_000)
    assert m.reason == GOOD and m.chunks > 300 and not m.wrong
    assert m.rate_said == 20000 and 10000 < m.kbps < 24000
    fields = proof.verify(m.relay, m.close)
    assert fields[1] == proof.proof_id(m.seed) and fields[2] >= m.chunks


@pytest.mark.slow
@pytest.mark.root
def test_what_customers_take_meanwhile_is_told(scene):
    """Others' bursts from the exit pass the entry, which is measured meanwhile, and fill it."""
    pace(scene, 0, 20000)
    pace(scene, 2, 100_000)
    alone = measured(scene, 0)
    over = threading.Event()
    others: list[Measurement] = []

    def load():
        while not over.is_set():
            others.append(measured(scene, 2))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        end, m = time.monotonic() + 30, alone
        while time.monotonic() < end and m.carried_kbps < 4000:
            m = measured(scene, 0)
    finally:
        over.set()
        thread.join()
        pace(scene, 0, 1_000_000)
        pace(scene, 2, 1_000_000)
    assert alone.carried_kbps < 500 and all(o.reason == GOOD for o in others)
    assert m.reason == GOOD and m.chunks < alone.chunks * 7 // 8, m
    assert 4000 <= m.carried_kbps < 26000, "what found no room in the queue was not carried"


@pytest.mark.slow
@pytest.mark.root
def test_unpaid_unreachable_and_forged(scene):
    relay = scene.relays[0]
    path = scene.path()
    path[2] = relay.descriptor(port4=9)  # nobody there
    assert measured(scene, 2, path=path).reason == UNREACHABLE


class Twisted(Probe):
    """Sees what a dishonest relay would send: `twist` changes each payload of PROVE."""

    twist = staticmethod(lambda payload: payload)

    def _on_command(self, c, hop, command, payload):
        super()._on_command(c, hop, command, type(self).twist(payload) if command == S.PROVE else payload)


def twisted(scene, twist):
    p = type("T", (Twisted,), {"twist": staticmethod(twist)})(Source())
    try:
        return p.measure(scene.path(), 0, 100, 20000)
    finally:
        p.close(patience=0.5)


@pytest.mark.slow
@pytest.mark.root
def test_other_bytes_and_doubled_bytes_are_no_proof(scene):
    other = bytes(range(32))
    cached = lambda p: p[:8] + proof.keystream(other, int.from_bytes(p[4:8], "little")) if p[0] == S.PROVE_CHUNK else p
    assert twisted(scene, cached).reason == CORRUPT
    doubled = lambda p: p[:4] + bytes(4) + p[8:] if p[0] == S.PROVE_CHUNK else p
    assert twisted(scene, doubled).reason == CORRUPT
    shorter = lambda p: p[:-1] if p[0] == S.PROVE_CHUNK else p
    assert twisted(scene, shorter).reason == CORRUPT
    forged = lambda p: p[:20] + b"\xff" + p[21:] if p[0] == S.PROVE_CLOSE else p
    m = twisted(scene, forged)
    assert m.reason == GOOD and m.close == b""
    busy = lambda p: p[:1] + b"\1" + p[2:] if p[0] == S.PROVE_ANSWER else p
    assert twisted(scene, busy).reason == BUSY
