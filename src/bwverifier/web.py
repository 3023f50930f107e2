"""The verifier's own web server, which covert audits fetch pages from through an exit: fresh keystream, served once.

A page's name is random and its content the ChaCha20 keystream under a key that only this process has: nobody on the way
can have it earlier, and nothing of it compresses.
"""

from __future__ import annotations

import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bwrouter.platform import sodium

_PATH = re.compile(r"^/([0-9a-f]{24})$")


class Web:
    """Serves what `page` promised. Raises OSError when the address cannot be had."""

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._pages: dict[str, tuple[bytes, int]] = {}
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            server_version, sys_version = "nginx", ""

            def do_GET(self) -> None:  # noqa: N802 - the library's name
                found = _PATH.match(self.path)
                body = web.content(found[1]) if found else None
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, int(port)), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()

    def page(self, size: int) -> str:
        """The path of a new page of `size` bytes."""
        name = os.urandom(12).hex()
        self._pages[name] = (os.urandom(32), size)
        return "/" + name

    def content(self, name: str) -> bytes | None:
        """What a page holds; None: there is no such page."""
        key, size = self._pages.get(name, (b"", -1))
        return sodium.stream_xor(key, bytes(12), bytes(size)) if size >= 0 else None

    def forget(self) -> None:
        """Withdraw all pages."""
        self._pages.clear()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
