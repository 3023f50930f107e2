"""Refunds: the rest of a closed ticket comes back once, whoever asks how often, and no unit is paid twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
import requests

from bwclient.tickets import Ticket
from bwclient.wallet import Wallet, WalletError, _blinded
from bwgateway.mint import UNIT_WEI
from tests.gateway.postgres import postgres
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow
CLOSE_SECONDS = 4


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp(request.param)
    changes: dict[str, Any] = {"mint": {"close_seconds": CLOSE_SECONDS}}

    def run(url: str) -> Iterator[Rig]:
        rig = Rig(folder, database_url=url, **changes).start()
        try:
            yield rig
        finally:
            assert rig.stop() == 0

    if request.param == "sqlite":
        yield from run("")
        return
    with postgres() as url:
        yield from run(url)


@pytest.fixture(scope="module")
def relay(rig: Rig) -> Relay:
    return Relay(rig).register()


@pytest.fixture
def wallet(rig: Rig) -> Wallet:
    return rig.wallet(secrets.token_hex(4))


def body(tickets: list[Ticket], units: int, count: int, seed: bytes = b"") -> dict[str, Any]:
    blinded = [b.hex() for b in _blinded(seed or secrets.token_bytes(32), units, count)]
    shown = [{"key": t.key_id.hex(), "output": t.output.hex(), "units": t.units, "top": t.top.hex()} for t in tickets]
    return {"region": 1, "units": units, "tickets": shown, "blinded": blinded}


def refund(rig: Rig, tickets: list[Ticket], units: int, count: int) -> requests.Response:
    return rig.post("/v1/refund", body(tickets, units, count))


def close(relay: Relay, ticket: Ticket, index: int) -> dict[str, Any]:
    item = {"id": ticket.id.hex(), "index": index, "preimage": ticket.preimage(index).hex(), "final": True}
    result: dict[str, Any] = relay.post("/v1/redeem", {"items": [item]})["results"][0]
    return result


def test_the_rest_of_a_closed_ticket_comes_back(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    ticket = wallet.buy(1, 1024, 1)[0]
    wallet.store.take(ticket)
    relay.open(ticket)
    units = relay.earnings()["units"]
    relay.redeem((ticket.id, 200, ticket.preimage(200)))
    assert wallet.reclaim(1) == [] and wallet.store.unspent(1) == []  # still open
    assert close(relay, ticket, 300)["ok"]
    state = rig.get(f"/v1/tickets/{ticket.id.hex()}")
    assert (state["left"], state["closed"], state["index"]) == (724, True, 300)
    new = wallet.reclaim(1)
    assert [t.units for t in new] == [64] * 11 == [t.units for t in wallet.store.unspent(1)]
    assert rig.get(f"/v1/tickets/{ticket.id.hex()}")["left"] == 724 - 704
    assert wallet.reclaim(1) == [] and not wallet.store.handed_out(1)
    # They are tickets like any other, and what was refunded can't be redeemed any more.
    other = Relay(rig).register()
    assert all(r["ok"] for r in other.open(*new))
    assert other.redeem((new[0].id, 64, new[0].top))[0]["ok"]
    assert relay.redeem((ticket.id, 1024, ticket.top))[0]["code"] == "refunded"
    assert relay.redeem((ticket.id, 320, ticket.preimage(320)))[0]["index"] == 320  # the rest that nobody took
    assert relay.redeem((ticket.id, 321, ticket.preimage(321)))[0]["code"] == "refunded"
    assert relay.earnings()["units"] == units + 320


def test_an_open_ticket_waits_for_its_relay(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    ticket = wallet.buy(1, 64, 1)[0]
    relay.open(ticket)
    answer = refund(rig, [ticket], 64, 1)
    assert (answer.status_code, answer.json()["code"]) == (409, "open")
    time.sleep(CLOSE_SECONDS / 2)
    relay.redeem((ticket.id, 1, ticket.preimage(1)))  # it moved: the wait begins again
    assert refund(rig, [ticket], 64, 1).json()["code"] == "open"
    at = rig.get(f"/v1/tickets/{ticket.id.hex()}")["refundable_at"]
    time.sleep(max(0, at - time.time()) + 1)
    assert refund(rig, [ticket], 64, 1).json()["code"] == "rest"  # 63 units
    second = wallet.buy(1, 64, 1)[0]
    both = refund(rig, [ticket, second], 64, 1)  # 63 of the one, 1 of the other
    assert both.status_code == 200 and both.json()["left"] == 63
    assert relay.open(second)[0]["code"] == "spent"
    assert relay.redeem((ticket.id, 2, ticket.preimage(2)))[0]["code"] == "refunded"


def test_a_ticket_that_nobody_opened(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    ticket = wallet.buy(1, 1024, 1)[0]
    wallet.store.take(ticket)  # handed out to a tunnel that never came up
    (new,) = wallet.reclaim(1)
    assert new.units == 1024
    assert relay.open(ticket)[0]["code"] == "spent" and relay.open(new)[0]["ok"]
    opened = wallet.buy(1, 64, 1)[0]
    relay.open(opened)
    forged = Ticket(opened.key_id, opened.output, 64, secrets.token_bytes(32), 1)
    wrong = refund(rig, [forged], 64, 1)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "ticket")
    for change, code in (({"units": 1024}, "ticket"), ({"key": "00" * 8}, "open")):
        asked = body([opened], 64, 1)
        asked["tickets"][0] |= change
        assert rig.post("/v1/refund", asked).json()["code"] == code
    assert refund(rig, [opened, opened], 64, 1).json()["code"] == "twice"
    missing = rig.http.get(f"{rig.url}/v1/tickets/{forged.id.hex()}", timeout=10)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown")


def test_the_same_refund_again_gets_the_same_answer(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    ticket = wallet.buy(1, 64, 1)[0]
    asked = body([ticket], 64, 1)
    first, again = rig.post("/v1/refund", asked), rig.post("/v1/refund", asked)
    assert first.status_code == 200 and first.json() == again.json()
    assert refund(rig, [ticket], 64, 1).json()["code"] == "rest"


def test_a_wallet_that_lost_the_answer_gets_its_refund(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    ticket = wallet.store.take(wallet.buy(1, 64, 1)[0])
    send = wallet._post

    def lose(path: str, document: dict[str, Any]) -> Any:
        send(path, document)
        raise WalletError("the answer was lost")

    wallet._post = lose  # type: ignore[method-assign]
    with pytest.raises(WalletError, match="lost"):
        wallet.reclaim(1)
    again = Wallet(bytes(wallet.chain.account.key), rig.url, rig.rpc, wallet.store.folder)
    (new,) = again.store.unspent(1)
    assert relay.open(new)[0]["ok"] and relay.open(ticket)[0]["code"] == "spent"
    assert again.reclaim(1) == [] and not again.store.handed_out(1)


def test_a_storm_of_refunds_and_redeems(rig: Rig, relay: Relay, wallet: Wallet) -> None:
    """Relay and buyer ask at once, each often: every ticket is paid or refunded to the unit, never both."""
    tickets = wallet.buy(1, 64, 24)
    before = relay.earnings()["units"]
    assert all(r["ok"] for r in relay.open(*tickets))
    for ticket in tickets:
        assert close(relay, ticket, 0)["ok"]

    def redeem(ticket: Ticket) -> int:
        result = relay.redeem((ticket.id, 64, ticket.top))[0]
        return 64 if result["ok"] else 0

    def back(ticket: Ticket) -> int:
        answer = refund(rig, [ticket], 64, 1)
        assert answer.status_code in (200, 409), answer.text
        return 64 if answer.status_code == 200 else 0

    with ThreadPoolExecutor(16) as pool:
        jobs = [(t, pool.submit(redeem, t), [pool.submit(back, t) for _ in range(3)]) for t in tickets]
        won = [(redeemed.result(), sum(job.result() for job in refunds)) for _, redeemed, refunds in jobs]
    assert all(a + b == 64 for a, b in won), won
    assert relay.earnings()["units"] - before == sum(a for a, _ in won)
    account = wallet.account(1)
    assert account[1] == 24 * 64 * UNIT_WEI  # a refund needs no deposit


def test_a_refund_does_not_name_its_tickets(rig: Rig, wallet: Wallet) -> None:
    """What the mint signs is blind: the new ticket's input occurs nowhere in the request."""
    ticket = wallet.buy(1, 64, 1)[0]
    seed = secrets.token_bytes(32)
    asked = body([ticket], 64, 1, seed)
    answer = rig.post("/v1/refund", asked).json()
    (new,) = wallet._unblind(seed, asked, answer)
    assert sha256(new.anchor).digest().hex() not in str(asked) and new.top.hex() not in str(asked)
