"""A JSON-RPC proxy that lies: forwards to a real node and changes what it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

Lie = Callable[[str, list[Any], Any], Any]
"""(method, parameters, true result) -> what is answered."""


@contextmanager
def liar(target: str) -> Iterator[Liar]:
    """A proxy on a free loopback port, honest until `lie` is set."""
    proxy = Liar(target)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


class Liar(ThreadingHTTPServer):
    """The proxy. `before` changes the parameters, `lie` the result."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no news."""

    def __init__(self, target: str, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(at, _Handler)
        self.target = target
        self.lie: Lie | None = None
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Liar)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = requests.post(server.target, json=body, timeout=20).json()
        if server.lie is not None and "result" in answer:
            answer["result"] = server.lie(body["method"], body["params"], answer["result"])
        time.sleep(server.delay)
        raw = json.dumps(answer).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except BrokenPipeError:
            pass

    def log_message(self, *_: Any) -> None:
        pass
