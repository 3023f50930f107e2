"""Many clients, several processes, one ledger on PostgreSQL, and a `kill -9` now and then.

The sizes are the ones that the goals name; BW_STORM=0.1 runs a tenth.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from bwclient.tickets import Ticket
from bwgateway.mint import UNIT_WEI
from tests.gateway.cluster import cluster
from tests.gateway.postgres import postgres
from tests.gateway.rig import Relay, Rig, opening

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SCALE = float(os.environ.get("BW_STORM", "1"))
PROCESSES = 4
CLIENTS = 50
NET_WEI = UNIT_WEI * 9 // 10


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[list[Rig]]:
    with postgres(200) as url, cluster(tmp_path, url, PROCESSES, epoch_seconds=6, log_level="warning") as found:
        yield found


def register(rig: Rig, count: int) -> list[Relay]:
    """Relays on chain; all registrations are under way at once."""
    relays = [Relay(rig) for _ in range(count)]
    rig.fund_all([r.owner.address for r in relays], 100)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda r: rig.post("/v1/register", r.registration()), relays))
    assert {a.status_code for a in answers} == {200}, [a.text for a in answers]
    for relay in relays:
        rig.until(lambda r=relay: rig.get(f"/v1/stake/{r.id.hex()}")["state"] == "active", 30, "registration")
    return relays


def post(session: requests.Session, rigs: list[Rig], path: str, body: Any) -> Any:
    """POST until somebody answers: the same body again, as a router does, at whichever process."""
    data = json.dumps(body)
    deadline = time.monotonic() + 240
    while True:
        try:
            url = random.choice(rigs).url + path
            answer = session.post(url, data=data, headers={"content-type": "application/json"}, timeout=30)
            if answer.status_code == 200:
                return answer.json()
            assert answer.status_code in (500, 503), answer.text
        except requests.RequestException:
            pass
        assert time.monotonic() < deadline, f"no answer to {path}"
        time.sleep(0.05)


def test_double_spend_storm(rigs: list[Rig]) -> None:
    """10^5 opens of 10^3 tickets by 50 relays at 4 processes: each ticket has exactly one owner, everywhere the same."""
    tickets = rigs[0].wallet(bwt=1000).buy(1, 64, int(1000 * SCALE))
    relays = register(rigs[0], CLIENTS)
    opens, batch = int(100_000 * SCALE), 20
    won: dict[bytes, set[bytes]] = {t.id: set() for t in tickets}
    lock = threading.Lock()
    outcomes: Counter[str] = Counter()

    def client(number: int) -> None:
        rng, relay, session = random.Random(number), relays[number], requests.Session()
        session.trust_env = False
        for _ in range(opens // CLIENTS // batch):
            picked = rng.sample(tickets, batch)
            body = relay.sign("/v1/open", {"tickets": [opening(t) for t in picked]})
            results = post(session, rigs, "/v1/open", body)["results"]
            with lock:
                for ticket, result in zip(picked, results, strict=True):
                    outcomes[result.get("code", "ok")] += 1
                    if result["ok"]:
                        won[ticket.id].add(relay.id)

    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    print(f"\n{sum(outcomes.values())} opens in {time.monotonic() - start:.1f} s: {dict(outcomes)}")
    assert set(outcomes) == {"ok", "elsewhere"} and sum(outcomes.values()) == opens
    owners = {id: relay for id, found in won.items() for relay in found}
    assert all(len(found) <= 1 for found in won.values())
    # Every process names the same owner: only it may redeem.
    by_id = {r.id: r for r in relays}
    for ticket in random.Random(0).sample(tickets, 40):
        if ticket.id in owners:
            owner = by_id[owners[ticket.id]]
            thief = next(r for r in relays if r.id != owner.id)
            thief.rig = random.choice(rigs)
            assert thief.redeem((ticket.id, 1, ticket.preimage(1)))[0]["code"] == "elsewhere"
            assert owner.redeem((ticket.id, 1, ticket.preimage(1)))[0]["ok"]


class Load:
    """One relay that opens its tickets and redeems them step by step; it remembers what was acknowledged."""

    def __init__(self, relay: Relay, tickets: list[Ticket], rigs: list[Rig]) -> None:
        self.relay, self._tickets, self._rigs = relay, tickets, rigs
        self.acknowledged = 0
        self.stop = threading.Event()
        self._session = requests.Session()
        self._session.trust_env = False

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return post(self._session, self._rigs, path, self.relay.sign(path, body))

    def run(self) -> None:
        for at in range(0, len(self._tickets), 8):
            batch = self._tickets[at : at + 8]
            opened = self._post("/v1/open", {"tickets": [opening(t) for t in batch]})["results"]
            assert all(r["ok"] for r in opened)
            for index in range(4, 65, 4):
                if self.stop.is_set():
                    return
                items = [{"id": t.id.hex(), "index": index, "preimage": t.preimage(index).hex()} for t in batch]
                for result in self._post("/v1/redeem", {"items": items})["results"]:
                    assert result["ok"] and result["index"] >= index
                self.acknowledged += 4 * len(batch)


def test_kill_storm(rigs: list[Rig]) -> None:
    """100 times kill -9 of a random process under load: every acknowledged unit is paid, none twice, never above deposits."""
    wallet = rigs[0].wallet(bwt=1000)
    relays = register(rigs[0], 4)
    each = int(1500 * SCALE) + 8
    tickets = wallet.buy(1, 64, each * len(relays))
    loads = [Load(r, tickets[i * each : (i + 1) * each], rigs) for i, r in enumerate(relays)]
    kills, start = int(100 * SCALE), time.monotonic()
    rng = random.Random(1)
    with ThreadPoolExecutor(len(loads)) as pool:
        running = [pool.submit(load.run) for load in loads]
        try:
            for _ in range(kills):
                time.sleep(rng.uniform(0.0, 0.5))
                victim = rng.choice(
                    rigs[0].until(lambda: [r for r in rigs if r.answers()], 120, "a process that answers")
                )
                victim.kill()
                victim.start(wait=False)
        finally:
            for load in loads:
                load.stop.set()
        for task in running:
            task.result()
    print(
        f"\n{kills} kills in {time.monotonic() - start:.0f} s, {sum(x.acknowledged for x in loads)} units acknowledged"
    )
    for rig in rigs:
        rig.wait()
    assert all(load.acknowledged for load in loads)
    rig = rigs[0]
    for load in loads:
        units = rig.get(f"/v1/earnings/{load.relay.id.hex()}")["units"]
        assert units == load.acknowledged
    for load in loads:
        path = f"/v1/earnings/{load.relay.id.hex()}"
        due = str(load.acknowledged * NET_WEI)
        rig.until(lambda path=path, due=due: rig.get(path)["balance_wei"] == due, 120, "claim")
    total = sum(load.acknowledged for load in loads)
    info = rig.get("/v1/info")
    fields = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128", "uint128"]
    ledger = wallet.chain.call(info["contracts"]["settlement"], "ledger(address,uint16)", fields, info["account"], 1)
    assert ledger[5] == total * NET_WEI  # the sum of all leaves of the final root
    assert ledger[7] <= len(tickets) * 64 * UNIT_WEI  # what vouchers released, at most what was deposited
    assert total * UNIT_WEI <= ledger[7]
