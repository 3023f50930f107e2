"""The dashboard's files and figures."""

from __future__ import annotations

import pytest

from tests.gateway.rig import TOKEN, Relay, Rig

pytestmark = pytest.mark.slow


def test_page_and_files(rig: Rig) -> None:
    page = rig.http.get(rig.url + "/", timeout=10)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name, kind in (
        ("dashboard.js", "text/javascript"),
        ("style.css", "text/css"),
        ("uPlot.iife.min.js", "text/javascript"),
        ("uPlot.min.css", "text/css"),
    ):
        assert f"/static/{name}" in page.text
        file = rig.http.get(f"{rig.url}/static/{name}", timeout=10)
        assert file.status_code == 200 and file.headers["content-type"].startswith(kind) and len(file.text) > 500
    for name in ("../settings.py", "..%2fsettings.py", "index.htm", "uPlot.cjs.js"):
        assert rig.http.get(f"{rig.url}/static/{name}", timeout=10).status_code == 404


def test_overview_follows_the_pool_and_the_directory(rig: Rig) -> None:
    before = rig.get("/v1/overview")["regions"][0]
    assert (before["relays"], before["capacity_kbps"], before["price_wei"]) == (0, 0, str(TOKEN))
    relay = Relay(rig).register()
    relay.post("/v1/descriptors", {"descriptor": relay.descriptor().hex()})
    rig.wallet(bwt=50_000).swap(1, 10_000 * TOKEN, 1000)
    after = rig.get("/v1/overview")["regions"][0]
    assert (after["relays"], after["capacity_kbps"]) == (1, 40_000)
    assert int(after["token_wei"]) == 90_000 * TOKEN
    assert int(after["price_wei"]) == int(after["bwt_wei"]) * TOKEN // int(after["token_wei"]) > int(1.2 * TOKEN)

    def sampled() -> bool:
        history = rig.get("/v1/overview")["regions"][0]["history"]
        return bool(history) and history[-1]["price_wei"] == after["price_wei"]

    rig.until(sampled, 30, "the price in the history")
