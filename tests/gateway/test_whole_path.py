"""Deposit, issue, open, redeem, root, claim: every balance to the wei, on a real chain."""

from __future__ import annotations

import struct
from hashlib import sha256
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from bwgateway.merkle import leaf, verify
from bwgateway.mint import UNIT_WEI
from bwgateway.tickets import RECEIPT_PREFIX
from tests.gateway.rig import TOKEN, Relay, Rig

NET_WEI = UNIT_WEI * 9 // 10  # φ = 10 %


@pytest.mark.slow
def test_deposit_to_claim(rig: Rig) -> None:
    info = rig.get("/v1/info")
    token = info["contracts"]["regions"]["1"]["token"]
    relay, other = Relay(rig).register(), Relay(rig).register()
    wallet = rig.wallet(bwt=50)

    before = wallet.chain.balance(info["contracts"]["token"])
    quote = wallet.quote(1, 2 * 1024 * UNIT_WEI)
    tickets = wallet.buy(1, 1024, 2)
    assert before - wallet.chain.balance(info["contracts"]["token"]) == quote.bwt_wei
    assert wallet.chain.balance(token) == 0
    assert wallet.account(1) == (0, 2048 * UNIT_WEI)
    first, second = tickets
    assert sha256(first.preimage(1)).digest() == first.anchor and first.preimage(1024) == first.top

    assert relay.open(first)[0] == {"id": first.id.hex(), "ok": True, "units": 1024}
    assert other.open(second)[0]["ok"]
    result = relay.redeem((first.id, 300, first.preimage(300)))[0]
    assert (result["ok"], result["index"]) == (True, 300)
    _check_receipt(info, result["receipt"], relay.id, first.id, 300, 300)
    assert relay.redeem((first.id, 700, first.preimage(700)))[0]["index"] == 700
    assert other.redeem((second.id, 1024, second.top))[0]["index"] == 1024

    for who, units in ((relay, 700), (other, 1024)):
        assert who.earnings()["cumulative_wei"] == str(units * NET_WEI)
        rig.until(lambda who=who, due=units * NET_WEI: int(who.earnings()["balance_wei"]) == due, 60, "claim")
        earned = who.earnings()
        assert earned["units"] == units
        assert earned["claimed_wei"] == earned["balance_wei"] == str(units * NET_WEI)
        assert wallet.chain.call(token, "balanceOf(address)", ["uint256"], who.payout)[0] == units * NET_WEI
        posted = earned["posted"]
        node = leaf(bytes.fromhex(who.payout[2:]), int(posted["cumulative_wei"]))
        assert verify(bytes.fromhex(posted["root"]), node, [bytes.fromhex(p) for p in posted["proof"]])
    roots = rig.get("/v1/epochs")["epochs"]
    assert sum(int(roots[0][k]) for k in ("total_wei",)) == 1724 * NET_WEI

    # The next epoch adds to the same leaf and pays the difference.
    assert relay.redeem((first.id, 1024, first.top))[0]["index"] == 1024
    rig.until(lambda: relay.earnings()["balance_wei"] == str(1024 * NET_WEI), 40, "second claim")


def _check_receipt(info: dict[str, str], receipt: str, relay: bytes, id: bytes, index: int, units: int) -> None:
    raw = bytes.fromhex(receipt)
    assert len(raw) == 146
    assert struct.unpack("<32s32sHQ", raw[:74]) == (relay, id, index, units)
    VerifyKey(bytes.fromhex(info["gateway_key"])).verify(RECEIPT_PREFIX + raw[:82], raw[82:])


@pytest.mark.slow
def test_swap_is_bounded_by_slippage(rig: Rig) -> None:
    wallet = rig.wallet("slipping", bwt=5000)
    quote = wallet.quote(1, 1000 * TOKEN)
    assert 1000 * TOKEN < quote.bwt_wei < 1020 * TOKEN and quote.impact_bps > 100
    most = wallet.swap(1, 1000 * TOKEN, slippage_bps=0)
    assert most == quote.bwt_wei
    token = rig.get("/v1/info")["contracts"]["regions"]["1"]["token"]
    assert wallet.chain.balance(token) == 1000 * TOKEN


@pytest.mark.slow
def test_withdrawal_pays_only_what_was_not_issued(rig: Rig) -> None:
    """A buyer that takes tickets and then its whole deposit gets the rest only: the gateway brings the voucher."""
    wallet = rig.wallet("leaving", bwt=10)
    info = rig.get("/v1/info")
    settlement, token = info["contracts"]["settlement"], info["contracts"]["regions"]["1"]["token"]
    deposit = 200 * UNIT_WEI
    wallet.swap(1, deposit)
    wallet.deposit(1, deposit)
    wallet.wait_for_credit(1, deposit)
    wallet.issue(1, 64, 2)
    wallet.chain.send(settlement, "requestWithdrawal(address,uint16,uint256)", wallet.gateway, 1, deposit)
    rig.until(lambda: wallet.account(1)[0] == 0, 10, "the notice seen")

    def spent() -> int:
        found = wallet.chain.call(
            settlement,
            "depositOf(address,uint16,address)",
            ["uint128", "uint128", "uint128", "uint40"],
            *(wallet.gateway, 1, wallet.address),
        )
        return int(found[1])

    rig.until(lambda: spent() == 128 * UNIT_WEI, 10, "the voucher on chain")

    def withdraw() -> bool:
        try:
            wallet.chain.send(settlement, "withdraw(address,uint16)", wallet.gateway, 1)
        except Exception:
            return False
        return True

    rig.until(withdraw, 10, "the withdrawal")
    assert wallet.chain.balance(token) == 72 * UNIT_WEI


@pytest.mark.slow
def test_gas_is_paid_back_out_of_the_claim(tmp_path: Path) -> None:
    """The stated share, to the wei: the relay's leaf and the gateway's make up what the units bring."""
    rig = Rig(tmp_path, gas_share_bps=250).start()
    try:
        info = rig.get("/v1/info")
        assert info["gas_share_bps"] == 250
        relay, wallet = Relay(rig).register(), rig.wallet()
        token = info["contracts"]["regions"]["1"]["token"]
        ticket = wallet.buy(1, 1024, 1)[0]
        relay.open(ticket)
        for units in (333, 1000):
            relay.redeem((ticket.id, units, ticket.preimage(units)))
            due = units * NET_WEI * 9750 // 10_000
            assert relay.earnings()["cumulative_wei"] == str(due)
            rig.until(lambda due=due: relay.earnings()["balance_wei"] == str(due), 60, "claim")
            kept = wallet.chain.call(token, "balanceOf(address)", ["uint256"], info["account"])[0]
            assert kept == units * NET_WEI - due > 0
        assert rig.get("/v1/epochs")["epochs"][0]["total_wei"] == str(1000 * NET_WEI)
    finally:
        rig.stop()
