"""The web server of the lab: plain HTTP/1.1 over IPv4 and IPv6, serving one folder.

python -m tests.lab.web --folder build/run/web --port 80
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class RandomFile:
    path: Path
    size: int
    sha256: str
    head: bytes

    @property
    def url_path(self) -> str:
        return "/" + self.path.name


def make_file(folder: Path, size: int) -> RandomFile:
    """A file of `size` random bytes with a random name; `head` is its first 16 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"file-{secrets.token_hex(6)}.bin"
    digest, head, left = hashlib.sha256(), b"", size
    with open(path, "wb") as out:
        while left:
            part = os.urandom(min(MIB, left))
            head = head or part[:16]
            digest.update(part)
            out.write(part)
            left -= len(part)
    return RandomFile(path, size, digest.hexdigest(), head)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "lab"

    def copyfile(self, source: object, outputfile: object) -> None:
        """The body by sendfile(2)."""
        self.connection.sendfile(source)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def main(argv: list[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="tests.lab.web", description="serve a folder")
    cli.add_argument("--folder", required=True)
    cli.add_argument("--port", type=int, default=80)
    args = cli.parse_args(argv)
    with Server(("::", args.port), partial(Handler, directory=args.folder)) as server:
        print("ready", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
