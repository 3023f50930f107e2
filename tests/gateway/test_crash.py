"""kill -9 at bad moments: what was acknowledged is paid, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bwclient.wallet import Wallet, WalletError
from bwgateway.mint import UNIT_WEI
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow
NET_WEI = UNIT_WEI * 9 // 10


def test_killed_between_redeem_and_post(tmp_path: Path) -> None:
    rig = Rig(tmp_path, epoch_seconds=6).start()
    try:
        relay = Relay(rig).register()
        wallet = rig.wallet()
        ticket = wallet.buy(1, 1024, 1)[0]
        relay.open(ticket)
        assert relay.redeem((ticket.id, 500, ticket.preimage(500)))[0]["ok"]
        rig.kill()
        rig.start()
        assert relay.earnings()["units"] == 500
        assert relay.redeem((ticket.id, 800, ticket.preimage(800)))[0]["index"] == 800
        rig.until(lambda: int(relay.earnings()["balance_wei"]) == 800 * NET_WEI, 40, "claim")
        assert rig.stop() == 0
    finally:
        if rig.process is not None and rig.process.poll() is None:
            rig.kill()


def test_killed_at_every_step_of_an_epoch(tmp_path: Path) -> None:
    """kill -9 as soon as each step shows in the log; the chain may lose its newest blocks each time."""
    rig = Rig(tmp_path).start()
    try:
        relay = Relay(rig).register()
        wallet = rig.wallet()
        ticket = wallet.buy(1, 1024, 1)[0]
        relay.open(ticket)
        redeemed = 0
        for step in ("settlement.closed", "charge:", "post:", "settlement.posted", "claim:", "settlement.settled"):
            redeemed += 100
            assert relay.redeem((ticket.id, redeemed, ticket.preimage(redeemed)))[0]["index"] == redeemed
            _kill_when(rig, step)
            rig.start()
            assert relay.earnings()["units"] == redeemed
        rig.until(lambda: int(relay.earnings()["balance_wei"]) == redeemed * NET_WEI, 60, "claim")
        time.sleep(6)
        assert int(relay.earnings()["balance_wei"]) == redeemed * NET_WEI
        assert rig.stop() == 0
    finally:
        if rig.process is not None and rig.process.poll() is None:
            rig.kill()


def test_a_chain_that_is_far_behind_its_ledger(tmp_path: Path) -> None:
    """The chain's state is replaced by one from before a root, its claim and a registration: all of it comes again."""
    rig = Rig(tmp_path, epoch_seconds=6).start()
    try:
        relay = Relay(rig).register()
        wallet = rig.wallet()
        ticket = wallet.buy(1, 1024, 1)[0]
        relay.open(ticket)
        rig.kill()
        old = (rig.state / "chain.state").read_bytes()  # durable: the deposit was credited
        rig.start()
        relay.redeem((ticket.id, 300, ticket.preimage(300)))
        rig.until(lambda: int(relay.earnings()["balance_wei"]) == 300 * NET_WEI, 40, "claim")
        late = Relay(rig)
        rig.fund(late.owner.address, 100)
        rig.kill()
        (rig.state / "chain.state").write_bytes(old)
        rig.start()
        assert int(relay.earnings()["claimed_wei"]) == 0 and relay.earnings()["units"] == 300
        rig.until(lambda: int(relay.earnings()["balance_wei"]) == 300 * NET_WEI, 60, "the claim again")
        assert "settlement.lost_root" in rig.log.read_text()
        relay.redeem((ticket.id, 500, ticket.preimage(500)))
        rig.until(lambda: int(relay.earnings()["balance_wei"]) == 500 * NET_WEI, 60, "the next claim")
        assert late.register()
    finally:
        if rig.process is not None and rig.process.poll() is None:
            rig.kill()


def _kill_when(rig: Rig, word: str) -> None:
    start = rig.log.stat().st_size
    deadline = time.monotonic() + 30
    while word not in rig.log.read_bytes()[start:].decode():
        if time.monotonic() > deadline:  # that step has no work in this round: kill here all the same
            break
        time.sleep(0.002)
    rig.kill()


def test_a_wallet_that_lost_the_answer_gets_its_tickets(rig: Rig) -> None:
    wallet = rig.wallet("forgetful")
    wallet.swap(1, 128 * UNIT_WEI)
    wallet.deposit(1, 128 * UNIT_WEI)
    wallet.wait_for_credit(1, 128 * UNIT_WEI)
    send = wallet._post

    def lose(path: str, body: dict[str, object]) -> object:
        send(path, body)
        raise WalletError("the answer was lost")

    wallet._post = lose  # type: ignore[method-assign]
    with pytest.raises(WalletError, match="lost"):
        wallet.issue(1, 64, 2)
    assert wallet.account(1)[0] == 0 and len(wallet.store.pending()) == 1
    key = bytes(wallet.chain.account.key)
    again = Wallet(key, rig.url, rig.rpc, wallet.store.folder)
    assert not again.store.pending() and not again.unfinished
    tickets = again.store.unspent(1)
    assert len(tickets) == 2
    relay = Relay(rig).register()
    assert all(r["ok"] for r in relay.open(*tickets))


def test_an_issue_that_never_arrived_is_dropped(rig: Rig) -> None:
    wallet = rig.wallet("late")
    wallet.swap(1, 64 * UNIT_WEI)
    wallet.deposit(1, 64 * UNIT_WEI)
    wallet.wait_for_credit(1, 64 * UNIT_WEI)
    real, wallet_time = wallet._post, time.time

    def unreachable(path: str, body: dict[str, object]) -> object:
        raise WalletError("no answer")

    wallet._post = unreachable  # type: ignore[method-assign]
    time.time = lambda: wallet_time() - 1000
    try:
        with pytest.raises(WalletError):
            wallet.issue(1, 64, 1)
    finally:
        time.time = wallet_time
    wallet._post = real  # type: ignore[method-assign]
    assert len(wallet.store.pending()) == 1
    assert wallet.recover() == 0 and not wallet.store.pending()
    assert len(wallet.issue(1, 64, 1)) == 1
