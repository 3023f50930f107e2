"""The settings: from the page into UCI, from there into config.json and the agent's rate."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import OpenPage, settled
from tests.browser.router import Router
from tests.browser.site import LUCI

pytestmark = pytest.mark.slow


def widget(page: Page, option: str, section: str = "main"):
    return page.locator(f'[id="widget.cbid.bwrouter.{section}.{option}"]')


def tab(page: Page, name: str) -> None:
    page.locator(".cbi-tabmenu").get_by_text(name, exact=True).click()


def save_and_apply(page: Page) -> None:
    with page.expect_navigation(timeout=30_000):
        page.get_by_text("Save & Apply", exact=True).first.click()
    page.wait_for_selector("#view h2")


def refused(page: Page) -> str:
    """Save & Apply, which must not be done; what the page says."""
    page.get_by_text("Save & Apply", exact=True).first.click()
    page.wait_for_selector(".alert-message, .modal, .cbi-value-error, .cbi-input-invalid")
    page.wait_for_timeout(500)
    return page.inner_text("body")


def test_the_cap_reaches_the_rate(router: Router, open_page: OpenPage) -> None:
    settled(lambda: router.agent.status()["rate"]["allowed_kbps"] > 15000, open_page("overview"))
    pid = router.relay.pid if router.relay else 0
    page = open_page("settings")
    assert widget(page, "cap_kbps").input_value() == ""
    page.get_by_label("Most that is shared (Mbit/s)").fill("3.5")
    save_and_apply(page)
    assert (router.uci().get("main") or {})["cap_kbps"] == "3500"
    settled(lambda: router.agent.status().get("rate", {}).get("limit_kbps") == 3500, page)
    settled(lambda: router.agent.status()["rate"]["allowed_kbps"] == 3500, page)
    assert widget(page, "cap_kbps").input_value() == "3.5"
    # The relay keeps its circuits: a cap is nothing to it.
    assert router.relay and router.relay.pid == pid and router.relay.poll() is None
    page.get_by_label("Most that is shared (Mbit/s)").fill("")
    save_and_apply(page)
    assert "cap_kbps" not in (router.uci().get("main") or {})
    settled(lambda: router.agent.status().get("rate", {}).get("limit_kbps") == 19000, page)


def test_all_tabs_reach_config(router: Router, open_page: OpenPage) -> None:
    page = open_page("settings")
    for option, value in (("share_pct", "50"), ("quota_day_mb", "1.5"), ("quota_month_mb", "30"), ("billing_day", "9")):
        widget(page, option).fill(value)
    widget(page, "reserve_pct").fill("10")
    tab(page, "Schedule")
    field = page.locator('[id="cbi-bwrouter-main-hours"] input[type="text"]')
    field.fill("mon-sun 00:00-24:00")
    field.press("Enter")
    tab(page, "Region and role")
    widget(page, "rate_kbps").fill("12.5")
    tab(page, "Payout and gateways")
    widget(page, "payout").fill("0x" + "Ab" * 20)
    widget(page, "stake_wei").fill("12.5")
    tab(page, "Advanced")
    widget(page, "floor_kbps").fill("100")
    widget(page, "max_circuits").fill("64")
    widget(page, "log_level").select_option("warning")
    save_and_apply(page)
    main = router.uci().get("main") or {}
    wanted = {
        "share_pct": "50", "quota_day_mb": "1500", "quota_month_mb": "30000", "billing_day": "9", "reserve_pct": "10",
        "hours": ["mon-sun 00:00-24:00"], "rate_kbps": "12500", "payout": "0x" + "Ab" * 20,
        "stake_wei": "12500000000000000000", "floor_kbps": "100", "max_circuits": "64", "log_level": "warning",
    }  # fmt: skip
    assert {name: main[name] for name in wanted} == wanted
    config = json.loads(router.agent.config.read_text())
    assert (config["quota_day_mb"], config["hours"], config["stake_wei"]) == (1500, wanted["hours"], wanted["stake_wei"])
    # 20 Mbit/s less 10 %, half of it.
    settled(lambda: router.agent.status().get("rate", {}).get("limit_kbps") in (9000, 10000), page)
    assert router.agent.status()["payout"] == "0x" + "Ab" * 20
    uci = router.uci()
    uci.delete("main", list(wanted))
    uci.commit()
    router.service("reload")


def test_a_gateway_is_added_and_removed(router: Router, open_page: OpenPage) -> None:
    page = open_page("settings")
    tab(page, "Payout and gateways")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator('input[id$=".url"]').fill("http://127.0.0.1:9")
    page.locator('input[id$=".key"]').fill("ee" * 32)
    save_and_apply(page)
    assert [(g["url"], g["key"]) for g in router.uci().of("gateway")] == [("http://127.0.0.1:9", "ee" * 32)]
    settled(lambda: [g for g in router.agent.status().get("gateways", []) if g["error"]], page)
    over = open_page("overview")
    settled(lambda: "The gateway does not answer." in over.inner_text(".bw-facts"), over)
    tab(page, "Payout and gateways")
    page.get_by_role("button", name="Delete", exact=True).click()
    save_and_apply(page)
    assert not router.uci().of("gateway")


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("Caps", "cap_kbps", "-1"),
        ("Caps", "cap_kbps", "fast"),
        ("Caps", "share_pct", "101"),
        ("Caps", "billing_day", "29"),
        ("Region and role", "region", "0"),
        ("Payout and gateways", "payout", "0x12"),
        ("Payout and gateways", "stake_wei", "1e18"),
        ("Advanced", "listen_port", "70000"),
        ("Advanced", "public_v4", "300.1.1.1"),
        ("Advanced", "floor_kbps", "1"),
        ("Advanced", "wan", "a b"),
    ],
)
def test_bad_input_is_refused(router: Router, open_page: OpenPage, name: str, option: str, value: str) -> None:
    before = router.uci_path.read_text()
    page = open_page("settings")
    tab(page, name)
    field = widget(page, option)
    field.fill(value)
    field.blur()
    text = refused(page)
    assert "invalid" in text.lower() or "Expecting" in text
    assert router.uci_path.read_text() == before and router.staged is None


def test_bad_hours_are_refused(router: Router, open_page: OpenPage) -> None:
    before = router.uci_path.read_text()
    page = open_page("settings")
    tab(page, "Schedule")
    field = page.locator('[id="cbi-bwrouter-main-hours"] input[type="text"]')
    field.fill("monday 25:00-26:00")
    field.press("Enter")
    assert page.locator("#cbi-bwrouter-main-hours .item").count() == 0
    assert router.uci_path.read_text() == before


def test_the_exit_asks_again(router: Router, open_page: OpenPage) -> None:
    page = open_page("settings")
    tab(page, "Region and role")
    box = widget(page, "exit")
    allow = page.locator("#cbi-bwrouter-main-exit_allow")
    assert allow.is_hidden()
    box.check()
    assert "as if it came from your household" in page.inner_text(".modal")
    page.get_by_role("button", name="Keep relay only").click()
    assert not box.is_checked() and allow.is_hidden()
    box.check()
    page.get_by_role("button", name="I understand: allow the exit").click()
    assert box.is_checked() and allow.is_visible()
    # Nothing is done before it is saved.
    assert (router.uci().get("main") or {})["exit"] == "0"


def test_settings_that_the_agent_refuses_are_named(router: Router, open_page: OpenPage) -> None:
    """A cap above the uplink is known to the agent alone."""
    page = open_page("settings")
    widget(page, "cap_kbps").fill("50")
    try:
        page.get_by_text("Save & Apply", exact=True).first.click()
        settled(lambda: (router.uci().get("main") or {}).get("cap_kbps") == "50000", page)
        over = open_page("overview")
        settled(lambda: "Not running" in over.inner_text(".bw-chip"), over)
        settled(lambda: "cap_kbps" in over.inner_text("[role=status]"), over)
    finally:
        uci = router.uci()
        uci.delete("main", ["cap_kbps"])
        uci.commit()


def test_the_real_runtime_is_named() -> None:
    """Only where LUCI names a checkout: that the tests above ran over it."""
    if LUCI:
        assert (LUCI / "modules/luci-base/htdocs/luci-static/resources/form.js").is_file()
