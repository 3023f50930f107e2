"""Strings from outside are text, wherever they are shown; a hundred audits; errors in words; languages."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import PHONE, OpenPage, settled, shot
from tests.browser.router import Router
from tests.browser.site import PAGES, Site, translations

pytestmark = pytest.mark.slow
EVIL = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script><b class=evil>\'${window.hacked=1}%s'
STATUS_PAGE = "/cgi-bin/luci/admin/status/overview"
REASONS = ("Good", "Slow", "Unreachable", "Busy", "Corrupt", "Inconclusive")


def audits(count: int) -> list[dict[str, Any]]:
    """Verdicts as the agent gives them, the oldest first."""
    return [
        {
            "epoch": i, "time": 1_795_000_000 + 600 * i, "reason": REASONS[i % 6], "kbps": 18_000 + i,
            "claimed_kbps": 20_000, "latency_ms": 20 + i % 9, "loss_bps": i,
        }
        for i in range(count)
    ]  # fmt: skip


def full(status: dict[str, Any]) -> dict[str, Any]:
    """A status in which every field has something to show."""
    now = int(time.time())
    return {
        **status,
        "verdicts": audits(3),
        "proved": None,
        "proof_error": "proof",
        "gateways": [{"url": "u", "error": "e", "published_until": now + 9, "ok": False}, {"url": "v", "error": "", "published_until": 0, "ok": True}],
        "stake": {"chain": {"stake": "1", "state": "active", "rate_kbps": 1}, "error": "e", "tx": "t", "wanted_wei": "1"},
        "earnings": {"cumulative_wei": "1", "claimed_wei": "1", "balance_wei": "1", "posted": {"cumulative_wei": "1", "epoch": 1}},
        "exit": {"enabled": True, "error": "e", "tun": "t"},
        "reach": {"state": "s", "error": ""},
        "shortfall": {"epoch": "e", "code": "root-below-receipt"},
        "receipt_errors": [{"gateway": "g", "code": "receipt-forged", "text": "t"}, {"gateway": "g", "code": "receipt-missing", "text": "t"}],
    }  # fmt: skip


def evil(value: Any) -> Any:
    """Every string and, one level in, every key's value turned hostile; numbers stay."""
    if isinstance(value, dict):
        return {k: v if k[:1] == "." else evil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(v) for v in value]
    return EVIL if isinstance(value, str) else value


def everything_evil(name: str, method: str, answer: Any) -> Any:
    if (name, method) == ("luci.bwrouter", "status"):
        status = evil(full(answer["status"]))
        return {"now": answer["now"], "status": status, "fault": EVIL}
    if name == "uci":
        values = evil(answer["values"]) if "values" in answer else None
        if values:
            values["main"]["enabled"] = "1"
            values["cfg99"] = {".name": "cfg99", ".type": "gateway", ".anonymous": True, ".index": 9, "url": EVIL, "key": EVIL}
        return {"values": values} if values else answer
    if method == "result":
        return {"running": False, "code": 1, "output": EVIL}
    return evil(answer)


def clean(page: Page, what: str) -> None:
    page.wait_for_timeout(300)
    found = page.evaluate("[window.hacked, document.querySelectorAll('img[src=\"x\"], b.evil, script:not([src]):not(body *)').length]")
    inside = page.evaluate("document.querySelectorAll('#view script, #view img, .modal script, .modal img, b.evil').length")
    assert found[0] is None and inside == 0, f"{what}: {found}, {inside}"


def evil_settings(page: Page) -> None:
    for link in page.query_selector_all(".cbi-tabmenu a"):
        link.click()
    page.get_by_text("Save & Apply", exact=True).first.click()  # errors quote the value


def evil_overview(page: Page) -> None:
    page.get_by_role("button", name="Last day").click()
    page.get_by_role("button", name="Pause for 1 hour").click()
    settled(page.get_by_role("button", name="Go on sharing").is_visible, page)
    clean(page, "overview, paused")
    page.get_by_role("button", name="Go on sharing").click()
    settled(page.get_by_role("button", name="Pause for 1 hour").is_visible, page)


def evil_activity(page: Page) -> None:
    page.get_by_role("button", name="Check the installation").click()
    settled(lambda: EVIL[:20] in page.inner_text("#view"), page)


def evil_wallet(page: Page) -> None:
    for button in ("Check against the chain", "Claim…"):
        page.get_by_role("button", name=button).click()
        settled(lambda: page.query_selector(".alert-message"), page)
        clean(page, button)
    for amount in (EVIL, "1"):
        page.get_by_label("Stake to hold (BWT)").fill(amount)
        page.get_by_role("button", name="Stake…", exact=True).click()
        clean(page, amount)


EVIL_DEEDS = {"settings": evil_settings, "overview": evil_overview, "activity": evil_activity, "wallet": evil_wallet}


@pytest.mark.parametrize("name", [*PAGES, "include"])
def test_hostile_strings_stay_text(router: Router, site: Site, open_page: OpenPage, name: str) -> None:
    site.rewrite = everything_evil
    page = open_page(name, path=STATUS_PAGE if name == "include" else "")
    clean(page, name)
    if name != "settings":
        assert "<img src=x" in page.inner_text("#view"), f"{name} does not show it: the test proves nothing"
    if name in EVIL_DEEDS:
        EVIL_DEEDS[name](page)
        clean(page, name + ", used")


def test_a_hostile_claim(router: Router, site: Site, open_page: OpenPage) -> None:
    """A whole claim of an evil gateway, in the dialog."""
    claim = json.dumps({"data": EVIL, "to": EVIL, "account": EVIL, "due_wei": EVIL, "final": True})

    def rewrite(name: str, method: str, answer: Any) -> Any:
        return {"running": False, "code": 0, "output": claim} if method == "result" else answer

    site.rewrite = rewrite
    page = open_page("wallet")
    page.get_by_role("button", name="Claim…").click()
    page.wait_for_selector(".modal")
    assert "<img src=x" in page.inner_text(".modal")
    clean(page, "the claim's dialog")


def test_the_test_would_see_markup(router: Router, open_page: OpenPage) -> None:
    page = open_page("overview")
    page.evaluate("(evil) => document.getElementById('view').appendChild(E('p', {}, evil))", EVIL)
    with pytest.raises(AssertionError):
        clean(page, "a bare string child")


def test_a_hundred_audits(router: Router, site: Site, open_page: OpenPage) -> None:
    """Verdicts reach the agent with the audits' part; here they are added to what it says."""

    def add(name: str, method: str, answer: Any) -> Any:
        return {**answer, "status": {**answer["status"], "verdicts": audits(100)}} if method == "status" else answer

    site.rewrite = add
    page = open_page("activity")
    rows = page.locator("section[aria-label=Audits] .tr:not(.table-titles)")
    assert rows.count() == 100
    first = rows.first.inner_text()
    assert "gave wrong bytes" not in first and "18.1 Mbit/s" in first and "0.99 %" in first  # number 99, the newest
    text = page.inner_text("section[aria-label=Audits]")
    for words in ("✓ passed", "✗ slower than claimed", "✗ could not be reached", "– was busy with your household", "✗ gave wrong bytes", "the verifiers disagree"):
        assert words in text
    shot(page, "activity-audits-desktop-light")
    page = open_page("activity", PHONE, True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shot(page, "activity-audits-phone-dark")
    over = open_page("overview")
    assert over.locator("section[aria-label='Last audits'] .tr:not(.table-titles)").count() == 5


def test_reasons_and_errors_are_sentences(router: Router, open_page: OpenPage) -> None:
    page = open_page("overview")
    said = page.evaluate(
        """(given) => L.require('bwrouter.words').then((w) => [given[0].map((c) => w.reason(c)), given[1].map((c) => w.fault(c))])""",
        [
            ["household", "cap", "quota", "schedule", "delay", "cpu", "no demand", "offload", "counters", "rising", "uplink", "starting"],
            [
                "reverted: ERC20InsufficientBalance", "not registered, and stake_wei is 0: set the stake to hold", "the stake is unbonding",
                "it signs with another key than the one set: ab", "no gateway is set (setting gateways)", "http://x: timed out",
                "POST http://x/v1/open: answer 503 ", "interface eth9 (setting wan) does not exist", "the passphrase is wrong, or the backup is damaged",
            ],
        ],
    )  # fmt: skip
    assert not [text for text in said[0] if text.startswith("Reason:")]
    assert all(text[0].isupper() and text.endswith(".") for text in said[0] + said[1]), said
    amounts = page.evaluate(
        """() => L.require('bwrouter.words').then((w) => [w.coins('20000000000000000000'), w.coins('1'), w.coins('1', 18),
        w.coins('115792089237316195423570985008687907853269984665640564039457584007913129639935', 2), w.coins('x'), w.wei('12.5'), w.wei('0'),
        w.wei('1.0000000000000000001'), w.wei('-1'), w.wei('0,000000000000000001'), w.rate(null), w.rate(3500), w.bytes(1234567890), w.bytes(5e5)])"""
    )
    assert amounts == [
        "20", "0", "0.000000000000000001", "115792089237316195423570985008687907853269984665640564039457.58", "unknown",
        "12500000000000000000", "0", None, None, "1", "unknown", "3.5 Mbit/s", "1.23 GB", "0.5 MB",
    ]  # fmt: skip


@pytest.mark.parametrize("lang", ["de", "es"])
def test_languages(router: Router, site: Site, open_page: OpenPage, lang: str) -> None:
    site.lang = lang
    catalogue = translations(lang)
    for name in PAGES:
        page = open_page(name, PHONE)
        text = page.inner_text("#view")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide in {lang}"
        shot(page, f"{name}-phone-light-{lang}")
        # What is shown in English must be no message that has a translation of its own.
        left = [m for m, t in catalogue.items() if m != t and len(m) > 12 and "%" not in m and m in text and m not in t]
        assert not left, left
    assert catalogue["Pause for 1 hour"] in open_page("overview").inner_text("#view")


def test_keyboard_and_labels(router: Router, open_page: OpenPage) -> None:
    for name in PAGES:
        page = open_page(name)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('#view button, #view a[href], #view input, #view select, #view textarea, #view [role=img]')]
            .filter((n) => n.type !== 'hidden' && n.offsetParent !== null && !(n.textContent.trim() || n.getAttribute('aria-label') ||
                n.getAttribute('title') || n.value && n.type === 'button' || (n.labels && n.labels.length && n.labels[0].textContent.trim())))
            .map((n) => n.outerHTML)"""
        )
        assert not nameless, nameless
    page = open_page("overview")
    button = page.get_by_role("button", name="Pause for 1 hour")
    for _ in range(30):
        page.keyboard.press("Tab")
        if button.evaluate("(node) => node === document.activeElement"):
            break
    else:
        raise AssertionError("Tab does not reach the pause button")
    page.wait_for_timeout(4500)  # two polls later the focus is still there
    assert button.evaluate("(node) => node === document.activeElement")
    page.keyboard.press("Enter")
    settled(lambda: "Paused" in page.inner_text(".bw-chip"), page)
    page.get_by_role("button", name="Go on sharing").focus()
    page.keyboard.press("Space")
    settled(lambda: "Sharing" in page.inner_text(".bw-chip"), page)


def test_without_the_qr_library(router: Router, open_page: OpenPage, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """luci-lib-uqr is not on every router."""
    whole = site.file
    monkeypatch.setattr(site, "file", lambda area, name: (404, "text/plain", b"") if name == "uqr.js" else whole(area, name))
    page = open_page("wallet")
    assert page.inner_text("#bw-address").startswith("0x") and page.locator(".bw-qr").count() == 0
    assert page.locator(".alert-message").count() == 0
