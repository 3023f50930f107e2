"""The page's web server: LuCI's page frame, the app's files, the runtime, and /ubus.

The runtime is the stand-in in tests/browser/luci; with LUCI=path in the environment it is that of a checkout of LuCI.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from package.lmo import sfh
from scripts import i18n
from tests.agent.parts import ROOT
from tests.browser.router import Router

APP_FILES = ROOT / "luci-app/htdocs/luci-static/resources"
HERE = Path(__file__).parent / "luci"
LUCI = Path(os.environ["LUCI"]) if os.environ.get("LUCI") else None
RUNTIME = LUCI / "modules/luci-base/htdocs/luci-static/resources" if LUCI else HERE
THEME = LUCI / "themes/luci-theme-bootstrap/htdocs/luci-static/bootstrap" if LUCI else HERE
UQR = ROOT / "build/node/node_modules/uqr/dist/index.cjs"
KINDS = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
PAGES = ("overview", "settings", "wallet", "activity")
# LuCI's header.ut as far as a view sees it. data-darkmode is set as the bootstrap theme sets it.
FRAME = """<!DOCTYPE html>
<html lang="{lang}">
<head><meta charset="utf-8"><title>{title} - LuCI</title><meta name="viewport" content="initial-scale=1.0, width=device-width">
<script>
const dark = window.matchMedia('(prefers-color-scheme: dark)');
document.documentElement.setAttribute('data-darkmode', dark.matches);
dark.addEventListener('change', (ev) => document.documentElement.setAttribute('data-darkmode', ev.matches));
</script>
{style}
<script src="/cgi-bin/luci/admin/translations/{lang}"></script>
{cbi}
</head>
<body class="lang_{lang}" data-page="admin-services-bwrouter-{page}">
<header><b>OpenWrt</b>{links}</header>
<div id="maincontent" class="container">
<div id="view"><div class="spinning">Loading view…</div></div>
<script src="/luci-static/resources/luci.js"></script>
<script>
L = new LuCI({env});
L.require('ui').then((ui) => ui.instantiateView('{view}'));
</script>
</div></body></html>
"""


def translations(lang: str) -> dict[str, str]:
    """msgid to msgstr of a language's catalogue; empty for English."""
    path = ROOT / f"luci-app/po/{lang}/bwrouter.po"
    return {k: v for k, v in i18n.read(path).items() if v} if path.exists() else {}


class Site:
    """Serves until `close`. `router` is given later; `rewrite` may change what a ubus call answered."""

    def __init__(self) -> None:
        self.router: Router | None = None
        self.rewrite: Callable[[str, str, Any], Any] | None = None
        self.lang = "en"
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.requests.append(self.path)
                self.answer(*site.get(self.path.partition("?")[0]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.answer(*site.post(self.path.partition("?")[0], body))

            def answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind + ("; charset=utf-8" if kind.startswith("text/") else ""))
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def page_url(self, page: str) -> str:
        return f"{self.url}/cgi-bin/luci/admin/services/bwrouter/{page}"

    def get(self, path: str) -> tuple[int, str, bytes]:
        if match := re.fullmatch(r"/cgi-bin/luci/admin/services/bwrouter/(\w+)", path):
            return 200, "text/html", self.frame(match[1], f"bwrouter/{match[1]}").encode()
        if path == "/cgi-bin/luci/admin/status/overview":
            return 200, "text/html", self.frame("status", "status-box").encode()
        if path.startswith("/cgi-bin/luci/admin/translations/"):
            return 200, "text/javascript", self.catalogue().encode()
        if match := re.fullmatch(r"/-/init/(\w+)", path):
            assert self.router
            self.router.service(match[1])
            return 200, "text/plain", b""
        if match := re.fullmatch(r"/luci-static/(resources|theme)/([\w./-]+)", path):
            return self.file(match[1], match[2])
        return 404, "text/plain", b"no such page"

    def file(self, area: str, name: str) -> tuple[int, str, bytes]:
        if name == "uqr.js" and area == "resources":
            # LuCI's luci-lib-uqr is this npm package as a class of LuCI.
            text = "'use strict';\nconst exports = {};\n" + UQR.read_text() + "\nreturn L.Class.extend({ renderSVG: exports.renderSVG });\n"
            return 200, KINDS[".js"], text.encode()
        places = [APP_FILES, RUNTIME, HERE] if area == "resources" else [THEME]
        for place in places:
            path = (place / name).resolve()
            if path.is_relative_to(place.resolve()) and path.is_file():
                return 200, KINDS.get(path.suffix, "application/octet-stream"), path.read_bytes()
        return 404, "text/plain", b"no such file"

    def catalogue(self) -> str:
        found = translations(self.lang)
        if LUCI:
            found = {f"{sfh(key.encode()):08x}": value for key, value in found.items()}
        return f"window.TR = {json.dumps(found)};"

    def frame(self, page: str, view: str) -> str:
        env = {
            "media": "/luci-static/theme", "resource": "/luci-static/resources", "scriptname": "/cgi-bin/luci",
            "pathinfo": "", "documentroot": "/www", "requestpath": ["admin", "services", "bwrouter", page],
            "dispatchpath": ["admin", "services", "bwrouter", page], "pollinterval": 5, "ubuspath": "/ubus",
            "sessionid": "0" * 32, "token": "0" * 32, "apply_rollback": 90, "apply_holdoff": 1, "apply_timeout": 5,
            "apply_display": 1, "rollback_token": None,
            "nodespec": {"satisfied": True, "readonly": bool(self.router and self.router.readonly), "title": page},
        }  # fmt: skip
        names = ["cascade.css", "mobile.css"] if LUCI else ["theme.css"]
        style = "".join(
            f'<link rel="stylesheet" href="/luci-static/theme/{name}"'
            + (' media="only screen and (max-device-width: 854px)">' if name == "mobile.css" else ">")
            for name in names
        )
        links = " ".join(f'<a href="{self.page_url(name)}">{name.capitalize()}</a>' for name in PAGES)
        cbi = '<script src="/luci-static/resources/cbi.js"></script>' if LUCI else ""
        return FRAME.format(
            lang=self.lang, title=page, style=style, page=page, links=links, env=json.dumps(env), view=view, cbi=cbi
        )

    def post(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        if path.rstrip("/") == "/ubus":
            asked = json.loads(body)
            answers = [self.call(one) for one in (asked if isinstance(asked, list) else [asked])]
            return 200, "application/json", json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
        if match := re.fullmatch(r"/cgi-bin/luci/admin/uci/(apply_rollback|apply_unchecked|confirm)", path):
            assert self.router
            self.router.ubus("uci", "confirm" if match[1] == "confirm" else "apply", {})
            return 200, "application/json", b"null"
        return 404, "text/plain", b"no such page"

    def call(self, one: dict[str, Any]) -> dict[str, Any]:
        assert self.router
        if one["method"] != "call":
            return {"jsonrpc": "2.0", "id": one["id"], "result": {}}
        _, name, method, args = one["params"]
        result = self.router.ubus(name, method, args)
        if self.rewrite and len(result) > 1:
            result = [result[0], self.rewrite(name, method, result[1])]
        if result == [6]:
            return {"jsonrpc": "2.0", "id": one["id"], "error": {"code": -32002, "message": "Access denied"}}
        return {"jsonrpc": "2.0", "id": one["id"], "result": result}
