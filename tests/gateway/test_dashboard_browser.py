"""The dashboard in headless Chromium: its pictures in light and dark, on a desk and on a phone; audits with reasons.

The pictures are left in build/screenshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bwrouter.agent import verdicts
from tests.gateway.audits import WINDOWS, Auditors
from tests.gateway.rig import LAB_WINDOWS, ROOT, TOKEN, Relay, Rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
SHOTS = ROOT / "build/screenshots"
SIZES = {"desk": (1280, 1400), "phone": (390, 844)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, list[Relay]]]:
    """A pool of two regions with trades, three routers, audits good and bad, and a settled epoch."""
    folder = tmp_path_factory.mktemp("browser")
    rig = Rig(folder, regions=[1, 2], deploy={**LAB_WINDOWS, **WINDOWS}, descriptor_seconds=604_800).start()
    try:
        relays = [Relay(rig, rate).register() for rate in (40_000, 12_000, 940_000)]
        for i, relay in enumerate(relays):
            raw = relay.descriptor(ahead=86_400, v4=bytes((198, 18, i, 11)))
            relay.post("/v1/descriptors", {"descriptor": raw.hex()})
        wallet = rig.wallet(bwt=50_000)
        ticket = wallet.buy(1, 1024, 1)[0]
        rig.spare = wallet.buy(1, 64, 1)[0]
        relays[0].open(ticket)
        relays[0].redeem((ticket.id, 700, ticket.preimage(700)))
        rig.until(lambda: int(relays[0].earnings()["balance_wei"]), 60, "claim")
        for amount in (4000, 9000):
            wallet.swap(1, amount * TOKEN, 1000)
        rig.auditors = auditors = Auditors(rig)
        auditors.audit(relays[0].id, [(40_100, 0)] * 4)
        auditors.audit(relays[1].id, [(6_000, 1), (5_900, 1), (6_100, 1), (6_050, 1)])
        auditors.audit(relays[2].id, [(940_000, 0), (0, 2), (100, 1), (0, 4)])
        rig.until(lambda: len(rig.get("/v1/audits")["audits"]) == 3, 60, "the verdicts")
        rig.until(lambda: len(rig.get("/v1/overview")["regions"][0]["history"]) >= 2, 60, "prices")
        yield rig, relays
    finally:
        rig.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.fail("Debian's chromium is missing: run make test, which installs it", pytrace=False)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield found
        found.close()


def test_audits_are_told_with_their_reasons(pool: tuple[Rig, list[Relay]]) -> None:
    rig, relays = pool
    told = {a["relay"]: a for a in rig.get("/v1/audits")["audits"]}
    good, slow, split = (told[r.id.hex()] for r in relays)
    assert (good["reason"], good["kbps"], good["strikes"]) == ("good", 40_100, 0)
    assert (good["latency_ms"], good["loss_bps"], good["votes"], good["reveals"]) == (21, 7, 4, 4)
    assert (slow["reason"], slow["strikes"]) == ("slow", 1) and 5_900 <= slow["kbps"] <= 6_100
    assert split["reason"] == "inconclusive"
    assert rig.get(f"/v1/audits/{relays[1].id.hex()}")["audits"] == [slow]

    def classes() -> dict[str, Any]:
        return {r["relay"]: (r["class"], r["audited_kbps"]) for r in rig.get("/v1/relays")["relays"]}

    wanted = [("interactive", 40_100), ("interactive", slow["kbps"]), ("unaudited", 0)]
    rig.until(lambda: [classes()[r.id.hex()] for r in relays] == wanted, 30, "classes in the directory")
    scores = [r["score"] for r in rig.get(f"/v1/relays?id={relays[0].id.hex()}")["relays"]]
    assert scores == [312]  # a good verdict closes 1/32 of the gap to 10,000


def open_page(browser: Browser, rig: Rig, size: str, scheme: Any, errors: list[str]) -> Page:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(rig.url + "/")
    page.wait_for_selector("#relays tr")
    page.wait_for_selector("#price canvas")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(SIZES))
def test_pictures(pool: tuple[Rig, list[Relay]], browser: Browser, size: str, scheme: str) -> None:
    rig, relays = pool
    errors: list[str] = []
    page = open_page(browser, rig, size, scheme, errors)
    page.fill("#id", relays[1].id.hex()[:8])
    page.click("#search button")
    page.wait_for_selector("#own-audits tr")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"dashboard-{size}-{scheme}.png"), full_page=True)
    assert "slow" in page.inner_text("#own-audits") and "under suspicion" in page.inner_text("#audits")
    assert page.inner_text("#router").count(relays[1].id.hex()) == 1
    assert page.locator("#relays tr").count() == 3 and page.locator("#epochs tr").count() >= 1
    # Nothing sticks out sideways: wide tables scroll inside their own box.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if size == "desk":
        for table in ("relays", "audits", "own-audits", "epochs"):
            box = f"document.getElementById('{table}').closest('.scroll')"
            assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth"), table
    # The charts show something: their canvases are not of one colour.
    for chart in ("price", "depth"):
        colours = page.evaluate(
            f"""() => {{ const c = document.querySelector('#{chart} canvas');
                const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
                return new Set(d).size; }}"""
        )
        assert colours > 3, chart
        marks = page.evaluate(f"charts['{chart}'].axes[1]._values")
        assert len(marks) == len(set(marks)) > 1, f"{chart}: marks of one height or another read alike: {marks}"
    assert _contrast(page, "body", "color", "background-color") >= 7
    assert not errors, errors
    page.close()


def _contrast(page: Page, selector: str, ink: str, ground: str) -> float:
    """Contrast of two computed colours (WCAG 2.1, 1.4.3)."""
    script = f"""() => {{ const s = getComputedStyle(document.querySelector('{selector}'));
        return ['{ink}', '{ground}'].map((n) => s.getPropertyValue(n).match(/[\\d.]+/g).slice(0, 3).map(Number)); }}"""

    def luminance(rgb: list[float]) -> float:
        parts = [c / 255 for c in rgb]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(c) for c in page.evaluate(script)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_search_regions_and_errors(pool: tuple[Rig, list[Relay]], browser: Browser) -> None:
    rig, relays = pool
    errors: list[str] = []
    page = open_page(browser, rig, "desk", "light", errors)
    for text, words in (
        ("zz", "64 hex digits"),
        ("00000000", "no live router begins like that"),
        ("ab" * 32, "not registered"),
    ):
        page.fill("#id", text)
        page.click("#search button")
        page.locator("#router", has_text=words).wait_for()
    page.fill("#id", relays[0].id.hex())
    page.press("#id", "Enter")
    page.locator("#router", has_text="700 units").wait_for()
    assert "region 1" in page.inner_text("#price-now")
    page.click("#regions button:nth-child(2)")
    page.locator("#price-now", has_text="region 2").wait_for()
    page.click(f"#audits button[title='{relays[1].id.hex()}']")
    page.locator("#own-audits", has_text="slow").wait_for()
    assert page.get_attribute("#regions button:nth-child(2)", "aria-pressed") == "true"
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("#price canvas")
    assert not errors, errors
    page.close()


def test_suspended_relays_are_for_verifiers_only(pool: tuple[Rig, list[Relay]]) -> None:
    """Buyers are not told of one, verifiers are, and it may publish on; its verdicts are signed."""
    rig, relays = pool
    relay = relays[1]
    rig.auditors.audit(relay.id, [(6_000, 1)] * 4)
    rig.until(lambda: rig.get(f"/v1/stake/{relay.id.hex()}")["state"] == "suspended", 30, "the suspension")
    rig.until(lambda: len(rig.get("/v1/directory/unlisted")["descriptors"]) == 1, 30, "unlisted")
    answer = relay.post("/v1/descriptors", {"descriptor": relay.descriptor(ahead=90_000, v4=bytes((198, 18, 1, 11))).hex()})
    assert rig.get("/v1/directory/unlisted")["descriptors"] == [answer["descriptor"]]
    assert answer["descriptor"] not in rig.get("/v1/directory")["descriptors"]
    assert relay.open(rig.spare)[0]["ok"], "its verifiers pay it"
    rig.until(lambda: len(rig.get(f"/v1/audits/{relay.id.hex()}")["audits"]) == 2, 30, "the verdict of the second audit")
    newest, older = rig.get(f"/v1/audits/{relay.id.hex()}")["audits"]
    assert (newest["strikes"], newest["reason"], newest["claimed_kbps"]) == (2, "slow", 12_000)
    assert newest["time"] > older["time"]
    assert rig.get(f"/v1/audits/{relay.id.hex()}?limit=1")["audits"] == [newest]
    gateway = rig.get("/v1/info")["gateway_key"]
    assert verdicts.checked({"audits": [newest, older]}, relay.id, gateway)[1]["kbps"] == 6_000
    with pytest.raises(verdicts.Malformed):
        verdicts.checked({"audits": [newest | {"kbps": 12_000}]}, relay.id, gateway)
