"""The directory's handshakes against real relay processes: who answers lives, who lies or is gone does not."""

from __future__ import annotations

import os
import threading

import pytest

from bwgateway.probe import MISSES, Prober
from bwrouter.platform import sodium
from tests.relay.scene import Scene
from tests.relay.test_anchor import at_home

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
async def test_relays_that_live_answer(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwgateway.probe.REPEAT_SECONDS", 0.5)
    with Scene(runtime=runtime) as scene:
        relays = scene.relays
        prober = Prober()
        try:
            bodies = [relay.descriptor().raw for relay in relays]
            ids = [relay.id for relay in relays]
            # One more that has the first one's address but not its static key, and one where nothing listens.
            forged = relays[0].descriptor(relay=os.urandom(32), static=sodium.x25519_public(os.urandom(32)))
            gone = relays[0].descriptor(relay=os.urandom(32), port4=1)
            bad = relays[0].descriptor(relay=os.urandom(32), static=bytes(32))
            for turn in range(MISSES):
                found = await prober.round([*bodies, forged.raw, gone.raw, bad.raw])
                assert sorted(found) == sorted(ids)
                for other in (forged, gone, bad):
                    assert prober.alive(other.relay) == (turn < MISSES - 1)
            relays[0].process.kill()
            relays[0].process.wait()
            for _ in range(MISSES):
                assert prober.alive(ids[0])
                assert sorted(await prober.round(bodies)) == sorted(ids[1:])
            assert not prober.alive(ids[0]) and all(prober.alive(id) for id in ids[1:])
            # Every circuit was ended by its DESTROY: the relays' tables are empty.
            for relay in relays[1:]:
                stats = relay.fresh_stats()
                assert stats["circuits"] == 0, stats
        finally:
            await prober.close()


async def test_a_relay_behind_an_anchor_answers_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwgateway.probe.REPEAT_SECONDS", 0.5)
    with Scene() as scene, at_home(scene, 2) as home:
        over = threading.Event()

        def turns() -> None:
            while not over.wait(0.01):
                home.turn()

        thread = threading.Thread(target=turns)
        thread.start()
        prober = Prober()
        try:
            body = home.descriptor().raw
            answered = await prober.round([body, scene.relays[1].descriptor().raw])
            assert sorted(answered) == sorted([home.relay.id, scene.relays[1].id])
            assert home.introductions == 1
            stats = home.relay.fresh_stats()
            assert stats["created"] >= 1 and stats["circuits"] == 0, "its DESTROY went to where the answer came from"
            home.deaf = True
            for turn in range(MISSES):
                assert prober.alive(home.relay.id) and not await prober.round([body]), turn
            assert not prober.alive(home.relay.id)
        finally:
            over.set()
            thread.join()
            await prober.close()
