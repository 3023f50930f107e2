"""A browser, a site with a router behind it, and a gateway with its chain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.agent.parts import ROOT, GatewayProcess, free_port
from tests.browser.router import Router, wait_running
from tests.browser.site import Site

SHOTS = ROOT / "build/screenshots"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
DESKTOP, PHONE = (1100, 900), (375, 720)
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = ROOT / "build/tmp" / f"browser-{os.getpid()}"  # unix sockets want a short path
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[GatewayProcess]:
    found = GatewayProcess(folder / "g")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """A router that shares 20 Mbit/s and knows no gateway yet; its service runs."""
    made = Site()
    made.router = Router(folder, made.url, {"public_v4": "198.18.0.11"})
    uci = made.router.uci()
    uci.set("main", {"enabled": "1", "listen_port": str(free_port()), "uplink_kbps": "20000", "rate_kbps": "20000"})
    uci.commit()
    try:
        yield made
    finally:
        made.router.close()
        made.close()


@pytest.fixture(autouse=True)
def reset(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "site" in request.fixturenames:
        site = request.getfixturevalue("site")
        site.rewrite, site.lang, site.router.readonly, site.router.staged = None, "en", False, None


@pytest.fixture
def router(site: Site) -> Router:
    """The router with its service running."""
    assert site.router
    site.router.service("start")
    wait_running(site.router)
    return site.router


@pytest.fixture(scope="module")  # while it lives no asyncio loop runs in this process: others' tests want theirs
def browser() -> Iterator[Browser]:
    with sync_playwright() as player:
        made = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[OpenPage]:
    """open_page(name, size=DESKTOP, dark=False): a page that is loaded. Any error of its own, and any request to
    another host, fails the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_one(name: str, size: tuple[int, int] = DESKTOP, dark: bool = False, path: str = "") -> Page:
        view = {"width": size[0], "height": size[1]}
        context = browser.new_context(
            viewport=view, color_scheme="dark" if dark else "light", is_mobile=size == PHONE, has_touch=size == PHONE
        )  # fmt: skip
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"{name}: {error}"))
        page.on("dialog", lambda dialog: (faults.append(f"{name}: dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith((site.url, "blob:", "data:")) or faults.append(f"request {r.url}"))
        page.goto(site.url + path if path else site.page_url(name))
        page.wait_for_selector("#view h2, #view h3")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


def shot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def settled(work: Callable[[], Any], page: Page, seconds: float = 20) -> Any:
    """The first true value of `work`, asked again while the page lives on."""
    for _ in range(int(seconds * 10)):
        if value := work():
            return value
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {seconds} s; the page says:\n{page.inner_text('#view')}")
