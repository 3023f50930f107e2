"""Bad input against the whole pool: real gateway, agents and relays on MicroPython; only the buyer is dishonest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import net, proc
from tests.lab.pool import Pool, Router, fresh_folder, write_json
from tests.lab.proc import RUN
from tests.lab.run import only_one

GRACE, UNIT = 2, 65536  # docs/protocol.md, section 6


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    processes = proc.Processes()
    with only_one():
        fresh_folder()
        with net.Lab(homes=2) as lab:
            built = Pool(lab, processes, 100_000, lambda: 60.0)
            try:
                built.start_internet()
                built.start_gateway()
                built.make_routers()
                built.fund()
                built.start_routers()
                built.wait_listed()
                yield built
            finally:
                processes.stop()
                built.remove_files()


def rogue(pool: Pool, wrong: str) -> dict[str, Any]:
    """Run the dishonest buyer with a stock of its own; what it printed."""
    pool.save_wallet()
    config = write_json(RUN / "buyer" / "config.json", pool.buyer_settings() | {"stock_units": 640})
    buyer = pool.python(
        f"rogue-{wrong}", pool.lab.nodes["buyer"], "tests.lab.rogue", "--config", str(config), "--wrong", wrong
    )
    assert buyer.popen.wait(60) == 0, buyer.tail(30)
    pool.processes.started.remove(buyer)
    told: dict[str, Any] = json.loads(buyer.tail(1))
    return told


def router(pool: Pool, relay: str) -> Router:
    found = pool.by_id(relay)
    assert found
    return found


def settle() -> None:
    """Until every status.json is newer than now: relay to agent and agent to file take a second each."""
    time.sleep(2.2)


def counters(r: Router) -> dict[str, Any]:
    """The relay's own counters."""
    found: dict[str, Any] = r.status()["relay"]
    return found


def eventually(ready: Callable[[], object], limit: float = 8.0) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.1)
    return False


def redeemed(pool: Pool) -> int:
    return sum(int(pool.ask(f"/v1/earnings/{r.id}")["units"]) for r in pool.routers.values())


def test_a_forged_ticket_is_refused_with_its_code(pool: Pool) -> None:
    before = redeemed(pool)
    told = rogue(pool, "forged")
    assert "refused" in told["error"]
    first = router(pool, told["hops"][0])
    assert eventually(lambda: first.status()["tickets"]["refused"].get("forged", 0) > 0)
    assert redeemed(pool) == before


def test_a_ticket_that_another_relay_has_opened_is_refused(pool: Pool) -> None:
    told = rogue(pool, "spent")
    assert "refused" in told["error"]

    def refused() -> bool:
        later = [router(pool, h).status()["tickets"]["refused"] for h in told["hops"][1:]]
        return any(codes.get("elsewhere") for codes in later)

    assert eventually(refused)


def test_a_circuit_that_stops_paying_stops_after_its_grace(pool: Pool) -> None:
    before = {r.id: counters(r) for r in pool.routers.values()}
    told = rogue(pool, "unpaid")
    settle()
    first, second = (router(pool, h) for h in told["hops"][:2])
    assert told["sent"] > (told["paid"][0] + 2 * GRACE) * UNIT, "the flood must be more than what is paid"
    assert counters(first)["drops"].get("unpaid", 0) > before[first.id]["drops"].get("unpaid", 0)
    carried = counters(first)["bytes_in"] - before[first.id]["bytes_in"]
    passed = counters(second)["bytes_in"] - before[second.id]["bytes_in"]
    assert carried > (told["paid"][0] + GRACE) * UNIT >= passed


def test_noise_replays_and_truncated_cells_get_no_answer(pool: Pool) -> None:
    before = {r.id: counters(r) for r in pool.routers.values()}
    told = rogue(pool, "noise")
    settle()
    assert told["replayed"] >= 5
    assert told["answers"] == 0
    first = router(pool, told["hops"][0])
    dropped = {k: v - before[first.id]["drops"].get(k, 0) for k, v in counters(first)["drops"].items()}
    assert sum(dropped.values()) >= told["sent"] - 1, dropped  # an empty datagram may vanish in the kernel
    assert dropped.get("replay", 0) > 0 and dropped.get("create-replayed", 0) > 0, dropped
    assert dropped.get("size", 0) >= 2 and dropped.get("unknown-circuit", 0) >= 1, dropped
