"""What the mint refuses, what it repeats, and who wins a race."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bwclient.tickets import Ticket
from bwclient.wallet import Refused, Wallet
from bwgateway.mint import UNIT_WEI
from tests.gateway.postgres import postgres
from tests.gateway.rig import Relay, Rig, opening

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
    else:
        with postgres() as url:
            yield url


@pytest.fixture(scope="module")
def wallet(rig: Rig) -> Wallet:
    return rig.wallet(bwt=200)


@pytest.fixture(scope="module")
def relays(rig: Rig) -> list[Relay]:
    return [Relay(rig).register(), Relay(rig).register()]


@pytest.fixture
def ticket(wallet: Wallet) -> Ticket:
    return wallet.buy(1, 64, 1)[0]


def test_forged_and_misnamed_tickets_are_refused(relays: list[Relay], ticket: Ticket) -> None:
    relay = relays[0]
    forged = replace(ticket, output=os.urandom(64))
    other_chain = replace(ticket, top=os.urandom(32), _chain=[])
    unknown_key = replace(ticket, key_id=os.urandom(8))
    more_units = {**opening(ticket), "units": 1024}
    assert [r["code"] for r in relay.open(forged, other_chain, unknown_key)] == ["forged", "forged", "expired"]
    assert relay.post("/v1/open", {"tickets": [more_units]})["results"][0]["code"] == "units"
    assert relay.open(ticket)[0]["ok"]


def test_a_ticket_of_another_key_is_forged(relays: list[Relay], wallet: Wallet) -> None:
    small, large = wallet.buy(1, 64, 1)[0], wallet.buy(1, 1024, 1)[0]
    crossed = {**opening(small), "key": large.key_id.hex(), "units": 1024}
    assert relays[0].post("/v1/open", {"tickets": [crossed]})["results"][0]["code"] == "forged"


def test_only_the_first_opener_has_it(relays: list[Relay], ticket: Ticket) -> None:
    first, second = relays
    assert first.open(ticket)[0]["ok"] and first.open(ticket, ticket)[1]["ok"]
    assert second.open(ticket)[0]["code"] == "elsewhere"
    assert second.redeem((ticket.id, 1, ticket.preimage(1)))[0]["code"] == "elsewhere"
    assert first.redeem((ticket.id, 1, ticket.preimage(1)))[0]["index"] == 1


def test_readings_that_do_not_hold(relays: list[Relay], ticket: Ticket) -> None:
    relay = relays[0]
    relay.open(ticket)
    word = ticket.preimage
    before = relay.earnings()["units"]
    bad = [
        (os.urandom(32), 1, word(1)),
        (ticket.id, 65, word(64)),
        (ticket.id, 65535, word(64)),
        (ticket.id, 10, word(11)),
        (ticket.id, 10, os.urandom(32)),
    ]
    codes = [r["code"] for r in relay.redeem(*bad)]
    assert codes == ["unknown", "index", "index", "preimage", "preimage"]
    assert relay.earnings()["units"] == before
    # Late, repeated and several readings of one ticket in a batch: each unit counts once.
    results = relay.redeem((ticket.id, 20, word(20)), (ticket.id, 5, word(5)), (ticket.id, 30, word(30)))
    assert [r["index"] for r in results] == [30, 30, 30]
    assert relay.redeem((ticket.id, 30, word(30)))[0]["index"] == 30
    assert relay.redeem((ticket.id, 7, word(8)))[0]["code"] == "preimage"
    assert relay.earnings()["units"] == before + 30


def test_a_repeated_request_has_one_effect(rig: Rig, relays: list[Relay], ticket: Ticket) -> None:
    relay = relays[0]
    relay.open(ticket)
    items = [{"id": ticket.id.hex(), "index": 9, "preimage": ticket.preimage(9).hex()}]
    body = relay.sign("/v1/redeem", {"items": items})
    before = relay.earnings()["units"]
    first, again = rig.post("/v1/redeem", body), rig.post("/v1/redeem", body)
    assert first.status_code == again.status_code == 200 and first.json() == again.json()
    assert relay.earnings()["units"] == before + 9
    other = relay.sign("/v1/redeem", {"items": items}, nonce=body["nonce"], time=body["time"] - 1)
    answer = rig.post("/v1/redeem", other)
    assert (answer.status_code, answer.json()["code"]) == (409, "nonce-used")
    # Signed for one path, sent to another.
    assert rig.post("/v1/open", {**relay.sign("/v1/redeem", {"tickets": [opening(ticket)]})}).status_code == 401


@pytest.mark.parametrize("off", [-301, 301, -10_000])
def test_the_time_window(rig: Rig, relays: list[Relay], ticket: Ticket, off: int) -> None:
    body = relays[0].sign("/v1/open", {"tickets": [opening(ticket)]}, time=int(time.time()) + off)
    answer = rig.post("/v1/open", body)
    assert (answer.status_code, answer.json()["code"]) == (401, "time")


def test_a_wrong_signature(rig: Rig, relays: list[Relay], ticket: Ticket) -> None:
    body = relays[0].sign("/v1/open", {"tickets": [opening(ticket)]})
    for change in ({"sig": "00" * 64}, {"time": body["time"] - 1}, {"relay": relays[1].id.hex()}):
        answer = rig.post("/v1/open", {**body, **change})
        assert (answer.status_code, answer.json()["code"]) == (401, "signature")
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_relay_without_stake_opens_nothing(rig: Rig, ticket: Ticket) -> None:
    stranger = Relay(rig)
    answer = rig.post("/v1/open", stranger.sign("/v1/open", {"tickets": [opening(ticket)]}))
    assert (answer.status_code, answer.json()["code"]) == (403, "unregistered")


def test_twenty_openers_one_winner(rig: Rig, wallet: Wallet) -> None:
    relays = [Relay(rig) for _ in range(20)]
    rig.fund_all([r.owner.address for r in relays], 100)
    with ThreadPoolExecutor(4) as pool:
        bodies = [r.registration() for r in relays]
        answers = list(pool.map(lambda b: rig.post("/v1/register", b), bodies))
    assert {a.status_code for a in answers} == {200}, [a.text for a in answers]
    for relay in relays:
        rig.until(lambda r=relay: rig.get(f"/v1/stake/{r.id.hex()}")["state"] == "active", 20, "registration")
    for ticket in wallet.buy(1, 64, 5):
        bodies = [r.sign("/v1/open", {"tickets": [opening(ticket)]}) for r in relays]
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda b: Rig.post(rig, "/v1/open", b), bodies))
        outcomes = Counter(a.json()["results"][0].get("code", "ok") for a in answers)
        assert outcomes == {"ok": 1, "elsewhere": 19}


def test_redeems_in_parallel_count_each_unit_once(rig: Rig, relays: list[Relay], wallet: Wallet) -> None:
    relay, ticket = relays[1], wallet.buy(1, 1024, 1)[0]
    relay.open(ticket)
    before = relay.earnings()["units"]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: relay.redeem((ticket.id, i, ticket.preimage(i)))[0], range(16, 1025, 16)))
    assert all(r["ok"] for r in results)
    assert relay.earnings()["units"] == before + 1024


def test_issue_without_deposit_or_voucher(rig: Rig, wallet: Wallet) -> None:
    poor = rig.wallet("poor", bwt=1)
    with pytest.raises(Refused) as refused:
        poor.issue(1, 64, 1)
    assert (refused.value.status, refused.value.code) == (402, "deposit")
    poor.swap(1, 64 * UNIT_WEI)
    poor.deposit(1, 64 * UNIT_WEI)
    poor.wait_for_credit(1, 64 * UNIT_WEI)
    honest = poor._voucher
    poor._voucher = lambda region, cumulative: honest(region, cumulative - 1)  # type: ignore[method-assign]
    with pytest.raises(Refused) as refused:
        poor.issue(1, 64, 1)
    assert (refused.value.status, refused.value.code) == (409, "voucher")
    poor._voucher = honest  # type: ignore[method-assign]
    with pytest.raises(Refused) as refused:
        poor.issue(1, 65, 1)
    assert refused.value.code == "denomination"
    assert len(poor.issue(1, 64, 1)) == 1 and not poor.store.pending()
    with pytest.raises(Refused):
        poor.issue(1, 64, 1)


def test_ten_issues_at_once_never_overdraw(rig: Rig) -> None:
    wallet = rig.wallet("racer", bwt=2)
    wallet.swap(1, 5 * 64 * UNIT_WEI)
    wallet.deposit(1, 5 * 64 * UNIT_WEI)
    wallet.wait_for_credit(1, 5 * 64 * UNIT_WEI)

    def issue(_: int) -> int:
        try:
            return len(wallet.issue(1, 64, 1))
        except Refused as e:
            assert e.code in ("voucher", "deposit")
            return 0

    gained = 0
    with ThreadPoolExecutor(10) as pool:
        for _ in range(8):
            gained += sum(pool.map(issue, range(10)))
    assert gained == 5 and wallet.account(1) == (0, 5 * 64 * UNIT_WEI)
