"""A page in Chromium: prints one JSON object of what the page found.

    python -m tests.client.page http://site.lab/page.html
"""

from __future__ import annotations

import json
import os
import shutil
import sys

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
# The browser may call nobody by itself; QUIC and names are the page's own.
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run",
         "--disable-features=OptimizationHints,MediaRouter,DnsOverHttps,AsyncDns")  # fmt: skip


def main() -> int:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page()
        page.goto(sys.argv[1], wait_until="load")
        page.wait_for_function("window.found !== undefined", timeout=20_000)
        print(json.dumps(page.evaluate("window.found")))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
