"""Each view, desktop and phone, light and dark, into build/screenshots/; and what a phone and a keyboard need."""

from __future__ import annotations

import pytest

from tests.browser.conftest import DESKTOP, PHONE, OpenPage, shot
from tests.browser.router import Router
from tests.browser.site import PAGES

pytestmark = pytest.mark.slow
STATUS = "/cgi-bin/luci/admin/status/overview"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screens(router: Router, open_page: OpenPage, size: tuple[int, int], dark: bool) -> None:
    suffix = f"{'phone' if size == PHONE else 'desktop'}-{'dark' if dark else 'light'}"
    for name in (*PAGES, "include"):
        page = open_page(name, size, dark, STATUS if name == "include" else "")
        if name == "overview":
            page.wait_for_timeout(5000)
        shot(page, f"{name}-{suffix}")
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} px wider than the screen"
        if name == "settings":
            for tab in page.query_selector_all(".cbi-tabmenu a"):
                tab.click()
                shot(page, f"settings-{(tab.get_attribute('data-tab') or tab.inner_text()).split()[0].lower()}-{suffix}")
