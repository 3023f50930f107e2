"""The overview: what the agent says, in words; pause, service, consent, hostile text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import OpenPage, settled
from tests.browser.router import Router, wait_running
from tests.browser.site import Site

pytestmark = pytest.mark.slow


def test_it_shows_what_the_agent_does(router: Router, open_page: OpenPage) -> None:
    page = open_page("overview")
    settled(lambda: "may be shared now, of at most 19 Mbit/s." in page.inner_text("[role=status]"), page)
    text = page.inner_text("#view")
    status = router.agent.status()
    assert "Sharing" in page.inner_text(".bw-chip")
    assert status["version"] in text and "off: relay only" in text
    assert "none: add one in Settings" in text
    page.wait_for_timeout(6500)
    drawn = page.get_attribute(".bw-svg .bw-relay", "d") or ""
    assert drawn.count("L") >= 2, drawn
    label = page.get_attribute(".bw-svg", "aria-label") or ""
    assert "Household" in label and "19 Mbit/s" in label


def test_pause_and_go_on(router: Router, open_page: OpenPage) -> None:
    page = open_page("overview")
    page.get_by_role("button", name="Pause for 1 hour").click()
    settled(lambda: "Paused" in page.inner_text(".bw-chip"), page)
    settled(lambda: router.agent.status()["rate"]["allowed_kbps"] == 0, page)  # a router at rest looks every few seconds
    rate = router.agent.status()["rate"]
    assert 3500 < rate["paused_until"] - router.agent.status()["time"] <= 3600
    assert "Nothing is shared at the moment." in page.inner_text("[role=status]")
    assert page.get_by_role("button", name="Pause for 1 hour").is_hidden()
    page.get_by_role("button", name="Go on sharing").click()
    settled(lambda: router.agent.status()["rate"]["allowed_kbps"] > 0, page)
    settled(lambda: "Sharing" in page.inner_text(".bw-chip"), page)
    page.get_by_role("button", name="Pause until tomorrow").click()
    until = settled(lambda: router.agent.status()["rate"]["paused_until"], page)
    midnight = page.evaluate("(until) => { const d = new Date(until * 1000); return d.getHours() + d.getMinutes(); }", until)
    assert midnight == 0
    page.get_by_role("button", name="Go on sharing").click()
    settled(lambda: not router.agent.status()["rate"]["paused_until"], page)


def test_service_down_and_started_by_the_button(router: Router, open_page: OpenPage) -> None:
    router.stop()
    page = open_page("overview")
    assert "Not running" in page.inner_text(".bw-chip")
    page.get_by_role("button", name="Start the service").click()
    settled(lambda: "Sharing" in page.inner_text(".bw-chip"), page)
    wait_running(router)
    router.agent.kill()  # it leaves its last status behind, and that must not pass for life
    settled(lambda: "Not running" in page.inner_text(".bw-chip"), page, 30)
    router.stop()


def test_first_run_asks_for_consent(router: Router, open_page: OpenPage) -> None:
    router.stop()
    uci = router.uci()
    uci.set("main", {"enabled": "0"})
    uci.commit()
    page = open_page("overview")
    start = page.get_by_role("button", name="Start sharing")
    assert start.is_disabled()
    text = page.inner_text("#view")
    assert "Relay only" in text and "What leaves your home" in text and "second consent" in text
    assert router.running is None and (router.uci().get("main") or {})["enabled"] == "0"
    page.get_by_label("I have read this").check()
    with page.expect_navigation(timeout=20_000):
        start.click()
    settled(lambda: "Sharing" in page.inner_text(".bw-chip"), page)
    assert (router.uci().get("main") or {})["enabled"] == "1" and "enable" in router.orders


def test_an_observer_changes_nothing(router: Router, open_page: OpenPage) -> None:
    router.readonly = True
    page = open_page("overview")
    assert page.get_by_role("button", name="Pause for 1 hour").is_disabled()
    denied = page.evaluate(
        """() => L.require('bwrouter.backend').then((b) => Promise.all(['pause', 'service', 'order', 'backup', 'restore'].map(
        (name) => L.require('rpc').then((rpc) => rpc.declare({ object: 'luci.bwrouter', method: name, expect: { '': {} } })())
            .then((got) => JSON.stringify(got), () => '{}'))))"""
    )
    assert denied == ["{}"] * 5
    assert router.agent.status()["rate"]["paused_until"] == 0


def test_the_day_behind(router: Router, open_page: OpenPage) -> None:
    page = open_page("overview")
    settled(lambda: (router.agent.run_dir / "history.json").exists(), page, 70)
    page.get_by_role("button", name="Last day").click()
    settled(lambda: "the last 5 min" in page.inner_text("figcaption"), page)
    assert ("luci.bwrouter", "history") in router.calls
    assert page.get_by_role("button", name="Last day").get_attribute("aria-pressed") == "true"


def test_the_box_on_the_status_page(router: Router, open_page: OpenPage) -> None:
    path = "/cgi-bin/luci/admin/status/overview"
    page = open_page("include", path=path)
    assert "up to " in page.inner_text("#view") and "Shared today" in page.inner_text("#view")
    router.stop()
    assert "The service is not running" in open_page("include", path=path).inner_text("#view")


def test_receipts_that_do_not_hold_are_told(router: Router, site: Site, open_page: OpenPage) -> None:
    """In words, and only when there is something to say."""
    page = open_page("overview")
    assert "Receipts" not in page.inner_text("#view")

    def short(name: str, method: str, answer: Any) -> Any:
        if (name, method) != ("luci.bwrouter", "status"):
            return answer
        gone = {"gateway": "https://g.example", "code": "receipt-missing", "text": "none"}
        status = {**answer["status"], "shortfall": {"epoch": 41, "code": "root-below-receipt"}, "receipt_errors": [gone]}
        return {**answer, "status": status}

    site.rewrite = short
    page = open_page("overview")
    settled(lambda: "The root of epoch 41 on the chain holds less" in page.inner_text("#view"), page)
    assert "no receipt that the chain would take: https://g.example." in page.inner_text("#view")
