"""`bw wallet, quote, buy, refund, relays` against a real gateway and chain on loopback, each command a process."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from bwclient import purse
from bwclient.directory import DirectoryError
from bwclient.relays import Relays
from bwclient.settings import load
from bwclient.tickets import Store
from tests.gateway.rig import ROOT, Relay, Rig, opening

pytestmark = pytest.mark.slow
KEY = secrets.token_bytes(32)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("gateway")).start()
    try:
        rig.fund(Account.from_key(KEY).address, 500, 10)
        yield rig
    finally:
        assert rig.stop() == 0


class Buyer:
    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.file = rig, folder / "client.json"
        self.settings: dict[str, Any] = {
            "gateway": {"url": rig.url, "key": rig.get("/v1/info")["gateway_key"]}, "rpc_url": rig.rpc,
            "max_impact_pct": 100,
        }  # fmt: skip
        self.write()
        (folder / "wallet.key").write_text(KEY.hex())

    def write(self, **more: Any) -> None:
        self.file.write_text(json.dumps(self.settings | more))

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "COLUMNS": "200", **environment}
        argv = [sys.executable, "-m", "bwclient", *words, "--config", str(self.file)]
        return subprocess.run(
            argv, capture_output=True, text=True, env=env, timeout=60, check=False, stdin=subprocess.DEVNULL
        )

    def json(self, *words: str, **environment: str) -> Any:
        done = self.run(*words, "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def buyer(rig: Rig, tmp_path: Path) -> Buyer:
    return Buyer(rig, tmp_path)


def test_quote_buy_and_wallet_agree(buyer: Buyer) -> None:
    before = int(buyer.json("wallet")["bwt_wei"])
    quote = buyer.json("quote", "0.125")
    assert quote["units"] == 2048 and int(quote["bwt_wei"]) * 1.02 >= int(quote["most_bwt_wei"]) > int(quote["bwt_wei"])
    assert buyer.json("buy", "0.125") == {"region": 1, "units": 2048}
    after = buyer.json("wallet")
    assert before - int(after["bwt_wei"]) == int(quote["bwt_wei"]), "the quote is what was paid, to the wei"
    assert after["regions"]["1"] == {
        "deposit_wei": "0", "issued_wei": str(2048 * 10**18 // 16384), "tickets": 2, "ticket_units": 2048
    }  # fmt: skip
    assert after["encrypted"] is False and "bw wallet encrypt" in buyer.run("wallet").stdout


def test_limits_are_kept_and_named(buyer: Buyer) -> None:
    buyer.write(spend_limit_hour_units=128)
    assert buyer.json("buy", "0.00390625")["units"] == 64
    refused = buyer.run("buy", "0.0078125")
    assert refused.returncode == 1 and "more than the 64" in refused.stderr
    assert buyer.json("buy", "0.00390625")["units"] == 64
    refused = buyer.run("buy", "0.00390625")
    assert refused.returncode == 1 and "128 units per hour" in refused.stderr
    assert "raise spend_limit_hour_units" in refused.stderr
    buyer.write(max_impact_pct=0.0001)
    refused = buyer.run("buy", "2")
    assert refused.returncode == 1 and "would move its price by" in refused.stderr and "max_impact_pct" in refused.stderr
    assert buyer.json("wallet")["regions"]["1"]["ticket_units"] >= 128, "what was bought is kept"


def test_unspent_deposit_comes_back(buyer: Buyer) -> None:
    from bwclient.purse import open_wallet

    wallet = open_wallet(load(str(buyer.file)))
    assert buyer.json("refund")["state"] == "none"
    token = wallet.info["contracts"]["regions"]["1"]["token"]
    amount = 163 * 10**18 // 16384  # whole units: the gateway credits no less
    wallet.swap(1, amount)
    wallet.deposit(1, amount)
    wallet.wait_for_credit(1, amount)
    asked = buyer.json("refund")
    assert asked["state"] == "requested" and int(asked["wei"]) == amount
    end = time.monotonic() + 40
    while (told := buyer.json("refund"))["state"] == "waiting":
        assert time.monotonic() < end
        time.sleep(1)
    assert told["state"] == "done" and int(told["wei"]) == amount
    assert wallet.chain.balance(token) == amount


def test_what_ended_circuits_did_not_use_comes_back_while_the_tunnel_runs(
    rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large tickets: one of which a relay was paid a few units, one that no relay saw, one that a relay still holds, and
    one that is used up, of which no relay ever says more."""
    monkeypatch.setattr(purse, "RECLAIM_SECONDS", 0.5)
    buyer.write(stock_units=8192)
    mine = purse.Purse(load(str(buyer.file)))
    mine.stock_up()
    relay = Relay(rig).register()
    try:
        closed, unseen, held, used = (mine.take(1) for _ in range(4))
        assert all(o["ok"] for o in relay.open(closed, held, used))
        whole = {"id": used.id.hex(), "index": used.units, "preimage": used.top.hex()}
        assert relay.post("/v1/redeem", {"items": [whole]})["results"][0]["ok"]
        body = {"items": [{"id": closed.id.hex(), "index": 100, "preimage": closed.preimage(100).hex(), "final": True}]}
        assert relay.post("/v1/redeem", body)["results"][0]["ok"]
        before, bought = mine.status()["stock_units"], mine.bought_units
        for ticket in (closed, unseen, held, used):
            mine.give_back(ticket)
        rest = unseen.units + (closed.units - 100) // 64 * 64
        rig.until(lambda: mine.reclaimed_units == rest, 15, "the rest of two tickets")
        time.sleep(1.0)
        assert mine.reclaimed_units == rest and mine.status()["stock_units"] == before + rest
        assert mine.bought_units == bought, "nothing was bought for it"
        out = {t.id for t in mine.wallet.store.handed_out(1)}
        assert held.id in out, "a later run asks for it"
        assert used.id not in out, "there is nothing to ask for"
    finally:
        mine.close()


def test_what_is_at_hand_is_enough_to_start_while_the_gateway_is_gone(buyer: Buyer) -> None:
    """A tunnel that is started again while its gateway restarts must not wait for it: it has tickets and relays."""
    buyer.write(stock_units=4096)
    first = purse.Purse(load(str(buyer.file)))
    with pytest.raises(purse.PurseError):
        first.take(1)
    first.stock_up()
    taken = first.take(1)
    first.close()
    held = first.status()["stock_units"]
    away = load(str(buyer.file), {"gateway": buyer.settings["gateway"] | {"url": "http://127.0.0.1:9"}})
    again = purse.Purse(away)
    try:
        again.stock_up()
        assert again.status()["stock_units"] == held and again.take(1).id != taken.id
        assert not again.spent_up, "that the gateway is gone is no limit"
    finally:
        again.close()
    other = away.model_copy(update={"gateway": away.gateway.model_copy(update={"key": "11" * 32})})
    with pytest.raises(purse.PurseError, match="127.0.0.1:9"):
        purse.Purse(other)  # what was told by another gateway says nothing of this one


def test_small_tickets_are_filled_up_before_they_run_out(
    rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier's circuits take nothing else: with three large ones left it held half its stock, and had one circuit."""
    monkeypatch.setattr(purse, "REFILL_SECONDS", 0.2)
    buyer.write(stock_units=4096)
    mine = purse.Purse(load(str(buyer.file)), 16, 8)
    mine.stock_up()
    try:
        assert [mine.take_small(1).units for _ in range(9)] == [64] * 9
        rig.until(lambda: mine.bought_units == 4096 + 9 * 64, 20, "small ones again")
        assert [mine.take_small(1).units for _ in range(8)] == [64] * 8
        assert mine.bought_units == 4096 + 9 * 64, "with as many as eight left none are bought"
    finally:
        mine.close()


def test_a_start_that_waits_for_nothing_buys_beside(rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that is started again has reports to reveal, with tickets or without."""
    monkeypatch.setattr(purse, "RETRY_SECONDS", 0.2)
    buyer.write(stock_units=512)
    mine = purse.Purse(load(str(buyer.file)))
    bought = threading.Event()
    buy, lost = mine.wallet.buy, [purse.WalletError("the gateway is away")]

    def slow(*words: Any) -> Any:
        assert bought.wait(20)
        if lost:
            raise lost.pop()
        return buy(*words)

    monkeypatch.setattr(mine.wallet, "buy", slow)
    mine.stock_up(wait=False)
    try:
        with pytest.raises(purse.PurseError, match="no ticket is left until more are bought"):
            mine.take_small(1)
        bought.set()
        rig.until(lambda: mine.status()["stock_units"] == 512, 20, "tickets")
        assert mine.take_small(1).units == 64 and not lost
    finally:
        bought.set()
        mine.close()


def test_a_start_with_little_waits_for_no_refund(rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that were killed leave tickets behind that a refund would make whole: one request each, on a gateway that
    may be slow. A third of the stock is bought to begin with; refunds and the rest follow."""
    monkeypatch.setattr(purse, "RECLAIM_SECONDS", 0.2)
    buyer.write(stock_units=6144)
    killed = purse.Purse(load(str(buyer.file)))
    killed.stock_up()
    killed.close()
    store = killed.wallet.store
    while len(store.unspent(1)) > 1:
        killed.wallet.take(1)
    assert len(store.handed_out(1)) >= 10
    again = purse.Purse(load(str(buyer.file)))
    asked: list[str] = []
    reclaim_one = again.wallet.reclaim_one

    def noted(ticket: purse.Ticket) -> list[purse.Ticket] | None:
        asked.append(threading.current_thread().name)
        return reclaim_one(ticket)

    monkeypatch.setattr(again.wallet, "reclaim_one", noted)
    monkeypatch.setattr(purse, "REFILL_SECONDS", 2.0)
    again.stock_up()
    try:
        assert again.bought_units <= 2048 and again.status()["stock_units"] >= 2048
        paths = [again.take_small(1) for _ in range(6)]
        assert len({t.id for t in paths}) == 6, "a path and its spare can be built of it"
        rig.until(lambda: again.status()["stock_units"] >= 3072, 20, "refunds of what was left behind")
        assert again.bought_units <= 2048, "what came back was not bought besides"
        assert set(asked) == {"purse"}, "no refund was waited for"
    finally:
        again.close()


def test_refunds_are_waited_for_where_nothing_may_be_bought(buyer: Buyer) -> None:
    buyer.write(stock_units=512)
    first = purse.Purse(load(str(buyer.file)))
    first.stock_up()
    first.close()
    while first.wallet.store.unspent(1):
        first.wallet.take(1)
    again = purse.Purse(load(str(buyer.file), {"spend_limit_hour_units": 512}))
    try:
        again.stock_up()
        assert again.bought_units == 0 and again.status()["stock_units"] >= 512
    finally:
        again.close()


def test_refunds_go_on_while_nothing_can_be_bought(rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price above the limit, or a chain that is away: what ended circuits left is all that may come."""
    monkeypatch.setattr(purse, "RECLAIM_SECONDS", 0.2)
    monkeypatch.setattr(purse, "RETRY_SECONDS", 0.2)
    buyer.write(stock_units=6144)
    first = purse.Purse(load(str(buyer.file)))
    first.stock_up()
    first.close()
    dear = purse.Purse(load(str(buyer.file), {"max_impact_pct": 0.0001}))
    dear.stock_up()
    try:
        tickets = [dear.take(1) for _ in range(len(dear.wallet.store.unspent(1)) - 1)]
        rig.until(lambda: "would move its price" in dear.status()["error"], 10, "a purchase that failed")
        for ticket in tickets:
            dear.give_back(ticket)
        rig.until(lambda: dear.reclaimed_units >= 3072, 20, "refunds")
        assert dear.bought_units == 0
    finally:
        dear.close()


def test_a_purchase_does_not_wait_for_refunds(rig: Rig, buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many circuits have ended, and their relays are not through with any ticket: each is a request in vain. What runs
    low meanwhile is bought at once."""
    monkeypatch.setattr(purse, "RECLAIM_SECONDS", 0.1)
    buyer.write(stock_units=4096)
    mine = purse.Purse(load(str(buyer.file)))
    mine.stock_up()
    asked = threading.Event()
    go = threading.Semaphore(1)

    def in_vain(ticket: purse.Ticket) -> None:
        asked.set()
        go.acquire()

    monkeypatch.setattr(mine.wallet, "reclaim_one", in_vain)
    try:
        for _ in range(3):
            mine.give_back(mine.take(1))
        assert asked.wait(10)
        while len(mine.wallet.store.unspent(1)) > 1:
            mine.take_small(1)
        bought = mine.bought_units
        go.release()  # the request that is under way ends, no other does
        rig.until(lambda: mine.bought_units > bought, 20, "a purchase")
    finally:
        go.release(100)
        mine.close()


def test_a_store_does_not_grow_with_what_was_bought(rig: Rig, buyer: Buyer) -> None:
    """Batches of which nothing can be had back any more are deleted; what is known of the others stays, and of none is a
    ticket handed out twice."""
    wallet = purse.open_wallet(load(str(buyer.file)))
    first, second = (wallet.buy(1, 64, 2, 2000, 10_000) for _ in range(2))
    store, folder = wallet.store, Path(wallet.store.folder)
    for ticket in (*first, second[0]):
        store.take(ticket)
    for ticket in first:
        store.forget(ticket)
    again = Store(folder)
    again.tidy()
    (kept,) = folder.glob("batch-*")
    assert [t.top.hex() in kept.read_text() for t in (*first, *second)] == [False] * 2 + [True] * 2
    assert [t.id for t in again.unspent(1)] == [second[1].id] and [t.id for t in again.handed_out(1)] == [second[0].id]
    assert [t.id for t in store.unspent()] == [second[1].id], "another process, which read it before"
    for ticket in (first[0], second[0]):
        with pytest.raises(ValueError, match="handed out before"):
            again.take(ticket)
    # as earlier versions wrote it
    kept.write_text(json.dumps({"tickets": [{k: v for k, v in t.to_json().items() if k != "id"} for t in second]}))
    assert [t.id for t in Store(folder).handed_out(1)] == [second[0].id]


def test_a_clock_that_is_late_buys_all_the_same(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contracts go by the chain's time: a deadline by a late clock would have passed ("Expired")."""
    wallet = purse.open_wallet(load(str(buyer.file)))
    token = wallet.info["contracts"]["regions"]["1"]["token"]
    amount, before = 64 * 10**18 // 16384, wallet.chain.balance(token)
    late = time.time() - 3600
    monkeypatch.setattr("bwclient.wallet.time.time", lambda: late)
    wallet.swap(1, amount)
    assert wallet.chain.balance(token) == before + amount
    wallet.deposit(1, amount)
    assert wallet.chain.balance(token) == before


def test_the_first_start_without_a_gateway_says_so(buyer: Buyer) -> None:
    with pytest.raises(purse.PurseError, match="127.0.0.1:9"):
        purse.Purse(load(str(buyer.file), {"gateway": buyer.settings["gateway"] | {"url": "http://127.0.0.1:9"}}))


def test_a_directory_of_an_earlier_run_serves_while_the_gateway_is_gone(rig: Rig, buyer: Buyer) -> None:
    relay = Relay(rig).register()
    signed = relay.descriptor()
    assert relay.post("/v1/descriptors", {"descriptor": signed.hex()})
    known = Relays(load(str(buyer.file)))
    rig.until(lambda: known.refresh() or known.listed, 20, "the relay in the directory")
    away = Relays(load(str(buyer.file), {"gateway": buyer.settings["gateway"] | {"url": "http://127.0.0.1:9"}}))
    away.begin()
    assert [d.relay for d in away.listed] == [d.relay for d in known.listed] and "127.0.0.1:9" in away.error
    nothing = Relays(load(str(buyer.file), {"state_dir": "elsewhere"} | {
        "gateway": buyer.settings["gateway"] | {"url": "http://127.0.0.1:9"}}))  # fmt: skip
    with pytest.raises(DirectoryError, match="127.0.0.1:9"):
        nothing.begin()


def test_completion_knows_commands_and_options(buyer: Buyer) -> None:
    for words, place, wanted in (("bw pa", 1, "paths"), ("bw check --d", 2, "--download"), ("bw wallet n", 2, "new")):
        done = buyer.run(_BW_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place))
        assert wanted in done.stdout.split()


def test_a_wallet_encrypted_at_rest(buyer: Buyer, tmp_path: Path) -> None:
    words = {"BW_PASSPHRASE": "four words of mine"}
    assert buyer.run("wallet", "encrypt", **words).returncode == 0
    assert KEY.hex() not in (tmp_path / "wallet.key").read_text()
    assert buyer.json("wallet", **words)["encrypted"] is True
    wrong = buyer.run("wallet", BW_PASSPHRASE="other words")
    assert wrong.returncode == 1 and "passphrase is wrong" in wrong.stderr
    none = buyer.run("wallet")
    assert none.returncode == 1 and "BW_PASSPHRASE" in none.stderr
    again = buyer.run("wallet", "new", **words)
    assert again.returncode == 1 and "may hold money" in again.stderr


def test_errors_name_the_mend(buyer: Buyer, tmp_path: Path) -> None:
    wrong = buyer.run("up", "--hops", "9")
    assert wrong.returncode == 2 and "less than or equal to 5" in wrong.stderr
    wrong = buyer.run("quote", "1", BW_PRIORITY="3")
    assert wrong.returncode == 2 and "setting priority: 3 is not allowed" in wrong.stderr
    for command, mend in (("status", "bw up"), ("paths", "bw up")):
        said = buyer.run(command)
        assert said.returncode == 1 and mend in said.stderr
    (tmp_path / "wallet.key").unlink()
    assert "bw wallet new" in buyer.run("wallet").stderr
    buyer.write(gateway={"url": "http://127.0.0.1:1", "key": "0" * 64})
    said = buyer.run("relays")
    assert said.returncode == 1 and "127.0.0.1:1" in said.stderr and "Traceback" not in said.stderr


def test_tickets_share_nothing_with_their_issue(rig: Rig, tmp_path: Path) -> None:
    """The whole transcript of the mint (each issue's request and answer) beside what relays open later: no eight bytes
    are in both but the key's id, which is the same for all, so no pair is likelier than another."""
    wallet = rig.wallet("unlinked", bwt=50)
    relay = Relay(rig).register()
    need = 64 * 24 * 10**18 // 16384
    wallet.swap(1, need)
    wallet.deposit(1, need)
    wallet.wait_for_credit(1, need)
    issues: list[bytes] = []
    tickets = []
    for _ in range(8):
        seed, body = wallet.prepare(1, 64, 3, wallet.account(1)[1])
        answer = rig.post("/v1/issue", body)
        assert answer.status_code == 200, answer.text
        issues.append(json.dumps(body).encode() + answer.content)
        tickets += wallet._unblind(seed, body, answer.json())
    assert len({t.key_id for t in tickets}) == 1
    key = tickets[0].key_id.hex().encode()
    seen = {text[i : i + 16] for text in issues for i in range(len(text) - 15)}
    for ticket in tickets:
        assert relay.open(ticket)[0]["ok"]
        shown = [str(opening(ticket)[field]).encode() for field in ("anchor", "output")] + [ticket.id.hex().encode()]
        common = {s[i : i + 16] for s in shown for i in range(len(s) - 15)} & seen
        assert common == set()
    assert any(key in text for text in issues), "the comparison finds what is there"
