"""The program behind a covert audit: its own process, over the real SOCKS5 server of `bw proxy`, from the verifier's web server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from bwclient import proxy
from bwverifier.browser import Browser, Visit
from bwverifier.web import Web


@pytest.fixture
def socks() -> Iterator[int]:
    """The proxy's server without its namespace: it connects to where it is asked to."""
    s = proxy.listen(0)
    port = int(s.getsockname()[1])
    loop = asyncio.new_event_loop()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(lambda r, w: proxy._guarded(proxy._socks, r, w), sock=s)

    server = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield port
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web("127.0.0.1:0")
    yield web
    web.close()


@pytest.fixture
def browser(socks: int) -> Iterator[Browser]:
    b = Browser(socks)
    yield b
    b.close()


def test_every_object_comes_with_its_digest(browser: Browser, web: Web) -> None:
    pages = [web.page(size) for size in (1, 20_000, 300_000)]
    browser.open("127.0.0.1", web.port, [Visit((), 0.01), Visit(tuple(pages[:2]), 0.05), Visit((pages[2],), 0.0)])
    assert browser.pid != os.getpid() and browser.poll(20)
    assert [(g.path, g.size) for g in browser.got] == list(zip(pages, (1, 20_000, 300_000))) and not browser.why
    for g in browser.got:
        assert g.digest == hashlib.sha256(web.content(g.path[1:]) or b"").hexdigest() and 0 < g.seconds < 20


def test_a_session_that_is_stopped_gives_way_to_the_next(browser: Browser, web: Web) -> None:
    first = web.page(5)
    browser.open("127.0.0.1", web.port, [Visit((first,), 30.0), Visit((web.page(7),), 0.0)])
    end = time.monotonic() + 20
    while not browser.got:
        assert not browser.poll(0.05) and time.monotonic() < end
    browser.stop()
    browser.rest()
    assert [g.size for g in browser.got] == [5]
    browser.open("127.0.0.1", web.port, [Visit((web.page(9),), 0.0)])
    assert browser.poll(20) and [g.size for g in browser.got] == [9]


def test_another_thread_may_end_a_session_that_is_waited_for(browser: Browser, web: Web) -> None:
    browser.open("127.0.0.1", web.port, [Visit((web.page(5),), 30.0), Visit((web.page(7),), 0.0)])
    over: list[bool] = []
    waiting = threading.Thread(target=lambda: over.append(browser.poll(20)))
    waiting.start()
    end = time.monotonic() + 20
    while not browser.got:
        time.sleep(0.02)
        assert time.monotonic() < end
    browser.halt()
    waiting.join(10)
    assert over == [True] and [g.size for g in browser.got] == [5]
    browser.rest()
    browser.open("127.0.0.1", web.port, [Visit((web.page(9),), 0.0)])
    assert browser.poll(20) and [g.size for g in browser.got] == [9]


def test_what_cannot_be_reached_is_told(browser: Browser, web: Web) -> None:
    port = web.port
    web.close()
    browser.open("127.0.0.1", port, [Visit(("/x",), 0.0)])
    assert browser.poll(20) and not browser.got and "refused" in browser.why


def test_a_browser_that_died_is_told_and_replaced(browser: Browser, web: Web) -> None:
    browser.open("127.0.0.1", web.port, [Visit((), 60.0)])
    os.kill(browser.pid, 9)
    assert browser.poll(20) and "ended" in browser.why
    browser.rest()
    browser.open("127.0.0.1", web.port, [Visit((web.page(3),), 0.0)])
    assert browser.poll(20) and [g.size for g in browser.got] == [3]
    os.kill(browser.pid, 9)  # between two sessions
    end = time.monotonic() + 20
    dead = browser.pid
    while browser.pid == dead:
        browser.rest()
        assert time.monotonic() < end
    browser.open("127.0.0.1", web.port, [Visit((web.page(4),), 0.0)])
    assert browser.poll(20) and [g.size for g in browser.got] == [4]
