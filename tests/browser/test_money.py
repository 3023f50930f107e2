"""Wallet and activity against a gateway with its chain: stake, earn, claim, unstake, keys; and a gateway that is slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

from bwclient.wallet import Wallet
from tests.agent.parts import GatewayProcess
from tests.browser.conftest import OpenPage, settled, shot
from tests.browser.router import Router, wait_running

pytestmark = pytest.mark.slow
UNITS = 64
COIN = 10**18


@pytest.fixture(scope="module")
def wallet(folder: Path, gateway: GatewayProcess) -> Wallet:
    buyer = Wallet(os.urandom(32), gateway.url, gateway.rpc, folder / "buyer", bytes.fromhex(gateway.key))
    gateway.fund(buyer.address, 100, 1)
    return buyer


@pytest.fixture
def paired(router: Router, gateway: GatewayProcess) -> Router:
    """The router with the gateway set."""
    uci = router.uci()
    if not uci.of("gateway"):
        uci.add("gateway", {"url": gateway.url, "key": gateway.key})
        uci.commit()
        router.service("reload")
        wait_running(router)
    return router


def confirm(page: Page, button: str) -> str:
    """Press a button of the dialog that is open; its text."""
    page.wait_for_selector(".modal")
    text = page.inner_text(".modal")
    page.locator(".modal").get_by_role("button", name=button).click()
    return text


def _fact(page: Page, name: str) -> str:
    """The value beside a name in the page's facts."""
    lines = page.inner_text("#view").replace("\t", "\n").split("\n")
    return lines[lines.index(name) + 1].strip() if name in lines else ""


def claim_said(page: Page) -> str:
    """What came of `Claim…`: the dialog's text, the line under it, or the error; empty while nothing did."""
    for selector in (".modal", ".alert-message", "section[aria-label=Earnings] [role=status]"):
        if found := page.query_selector(selector):
            if text := found.inner_text():
                return text
    return ""


def test_stake_from_the_page(paired: Router, gateway: GatewayProcess, open_page: OpenPage) -> None:
    page = open_page("wallet")
    address = page.inner_text("#bw-address")
    assert address == paired.agent.status()["wallet"]
    assert page.locator(".bw-qr svg path").count() == 1
    gateway.fund(address, 50)
    settled(lambda: _fact(page, "Free") == "50 BWT", page, 40)
    page.get_by_label("Stake to hold (BWT)").fill("twenty")
    page.get_by_role("button", name="Stake…", exact=True).click()
    assert "This is no amount: twenty" in page.inner_text(".alert-message")
    page.get_by_label("Stake to hold (BWT)").fill("20")
    page.get_by_role("button", name="Stake…", exact=True).click()
    said = confirm(page, "Stake")
    assert "Stake 20 BWT?" in said and "No fee is taken" in said and "lost" in said
    settled(lambda: (paired.uci().get("main") or {}).get("stake_wei") == str(20 * COIN), page)
    relay = paired.agent.status()["relay_id"]
    settled(lambda: gateway.get("/v1/stake/" + relay)["state"] == "active", page, 40)
    assert gateway.get("/v1/stake/" + relay)["stake"] == str(20 * COIN)
    settled(lambda: "20 BWT, active" in page.inner_text("#view"), page)
    settled(lambda: "by this router at block" in page.inner_text("#view"), page, 60)
    settled(lambda: _fact(page, "Free") == "30 BWT", page, 40)
    over = open_page("overview")
    settled(lambda: "verified by this router at block" in over.inner_text(".bw-facts"), over)
    settled(lambda: "buyers can find this router" in over.inner_text(".bw-facts"), over, 40)


def test_earnings_and_claim(paired: Router, gateway: GatewayProcess, wallet: Wallet, open_page: OpenPage) -> None:
    """The test buys, and plays the relay towards the agent; tickets, roots and claims are real."""
    paired._stop_relay()
    from tests.agent.parts import RelayPeer
    from tests.agent.test_agent import meter, open_message

    peer = RelayPeer(paired.agent)
    try:
        peer.hello(True)
        (ticket,) = wallet.buy(1, UNITS, 1)
        peer.tell(open_message(ticket))
        peer.expect("opened", id=ticket.id.hex(), ok=True)
        peer.tell(meter(ticket, 40, True))
        peer.expect("redeemed", id=ticket.id.hex(), index=40)
    finally:
        peer.close()
    paired.service("reload")
    page = open_page("wallet")
    earned = settled(lambda: (paired.agent.status().get("earnings") or {}).get("cumulative_wei", "0") != "0" and paired.agent.status()["earnings"], page, 60)
    for _ in range(10):  # what is due is shown until the gateway's own claim is on chain
        page.get_by_role("button", name="Claim…").click()
        said = settled(lambda: claim_said(page), page, 60)
        if "Nothing is due" in said:
            break
        assert "They go to " in said, said
        confirm(page, "Cancel")
        page.wait_for_timeout(2000)
    else:
        raise AssertionError("the gateway does not claim")
    relay = paired.agent.status()["relay_id"]
    assert gateway.get("/v1/earnings/" + relay)["claimed_wei"] == earned["cumulative_wei"]
    page.get_by_role("button", name="Check against the chain").click()
    settled(lambda: "The chain bears it out at block" in page.inner_text("#view"), page, 60)
    settled(lambda: paired.agent.status()["earnings"]["claimed_wei"] == earned["cumulative_wei"], page, 60)
    whole = int(earned["cumulative_wei"]) / COIN
    assert f"{int(whole * 1e6) / 1e6:.6f}".rstrip("0") + " tokens" in page.inner_text("#view")
    shot(page, "wallet-earned")
    log = open_page("activity")
    text = log.inner_text("#view")
    assert "registration sent" in text and "Units redeemed since the start" in text
    assert "NaN" not in text and "undefined" not in text
    log.get_by_role("button", name="Check the installation").click()
    settled(lambda: "libsodium" in log.inner_text("#view"), log, 30)
    shot(log, "activity-checked")


def test_a_slow_gateway_holds_nothing_up(paired: Router, gateway: GatewayProcess, open_page: OpenPage) -> None:
    gateway.freeze()
    try:
        page = open_page("wallet")
        page.get_by_role("button", name="Check against the chain").click()
        over = open_page("overview")
        before = paired.agent.status()["time"]
        settled(lambda: paired.agent.status()["time"] > before + 1, over)
        over.get_by_role("button", name="Pause for 1 hour").click()
        settled(lambda: "Paused" in over.inner_text(".bw-chip"), over, 8)
        over.get_by_role("button", name="Go on sharing").click()
        settled(lambda: "Sharing" in over.inner_text(".bw-chip"), over, 8)
        settled(lambda: "The gateway does not answer." in page.inner_text("body"), page, 60)
    finally:
        gateway.thaw()
    settled(lambda: all(g["error"] == "" for g in paired.agent.status()["gateways"]), page, 90)


def test_keys_are_backed_up_under_a_passphrase(paired: Router, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("wallet")
    wallet_key = (paired.agent.state_dir / "wallet.key").read_text().strip()
    address = page.inner_text("#bw-address")
    page.get_by_label("Passphrase for a new backup").fill("short")
    page.get_by_role("button", name="Back up keys").click()
    assert "passphrase" in page.inner_text(".alert-message").lower()
    phrase = "correct horse battery 'staple' $(touch x) \"q\""
    page.get_by_label("Passphrase for a new backup").fill(phrase)
    page.get_by_label("The same again").fill(phrase)
    with page.expect_download(timeout=90_000) as got:
        page.get_by_role("button", name="Back up keys").click()
    file = tmp_path / "keys.backup"
    got.value.save_as(file)
    text = file.read_text()
    assert text and wallet_key not in text and phrase not in text
    assert not list((paired.folder / "orders").glob("passphrase")) and not list((paired.folder / "orders").glob("*.keys"))
    # Another router's keys, then the backup: the same address again.
    paired.stop()
    for path in paired.agent.state_dir.glob("*.key"):
        path.unlink()
    paired.service("start")
    wait_running(paired)
    assert paired.agent.status()["wallet"] != address
    page.get_by_label("Backup file").set_input_files(file)
    page.get_by_label("Passphrase of the backup").fill("another passphrase")
    page.get_by_role("button", name="Restore keys…").click()
    confirm(page, "Restore")
    settled(lambda: "passphrase is wrong" in page.inner_text("body"), page, 60)
    page.get_by_label("Passphrase of the backup").fill(phrase)
    page.get_by_role("button", name="Restore keys…").click()
    confirm(page, "Restore")
    settled(lambda: paired.agent.status().get("wallet") == address, page, 90)
    assert (paired.agent.state_dir / "wallet.key").read_text().strip() == wallet_key


def test_unstake_from_the_page(paired: Router, gateway: GatewayProcess, open_page: OpenPage) -> None:
    page = open_page("wallet")
    relay = paired.agent.status()["relay_id"]
    page.get_by_role("button", name="Unstake…").click()
    assert "earns nothing" in confirm(page, "Cancel")
    page.wait_for_timeout(500)
    assert gateway.get("/v1/stake/" + relay)["state"] == "active"
    page.get_by_role("button", name="Unstake…").click()
    confirm(page, "Give notice")
    settled(lambda: gateway.get("/v1/stake/" + relay)["state"] == "unbonding", page, 60)
    settled(lambda: "notice given" in page.inner_text("#view"), page, 90)  # an active stake is looked at once a minute
    assert (paired.uci().get("main") or {}).get("stake_wei", "0") == "0"
