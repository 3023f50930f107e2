"""A gateway over TLS: its certificate is checked by the router's own MicroPython, and what is wrong is said."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.parts import MICROPYTHON, ROOT


def make(folder: Path, name: str, host: str, days: int) -> tuple[Path, Path]:
    """A self-signed certificate for `host`: (certificate, key)."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    command += ["-out", str(certificate), "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-days", str(days)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"good": true}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    servers = []

    def start(certificate: Path, key: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"https://localhost:{server.server_address[1]}/v1/info"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(url: str, ca_file: Path | str) -> str:
    """What the router's MicroPython gets: the answer as JSON, or the error's words."""
    script = f"""
from bwrouter.platform import http
http.trust({str(ca_file)!r})
try:
    for _ in range(2):
        print(http.canonical(http.request("GET", {url!r})[1]))
except http.HttpError as error:
    print(error)
"""
    environment = {"MICROPYPATH": f"{ROOT}/src:.frozen"}
    run = subprocess.run([MICROPYTHON, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True)
    return run.stdout.splitlines()[-1]


def test_the_right_one_is_taken(tmp_path: Path, serve) -> None:
    certificate, key = make(tmp_path, "right", "localhost", 10)
    assert json.loads(ask(serve(certificate, key), certificate)) == {"good": True}


@pytest.mark.parametrize(("name", "host", "days"), [("stranger", "localhost", 10), ("host", "elsewhere.example.org", 10)])
def test_a_wrong_one_is_refused(name: str, host: str, days: int, tmp_path: Path, serve) -> None:
    trusted, _ = make(tmp_path, "trusted", "localhost", 10)
    certificate, key = make(tmp_path, name, host, days)
    said = ask(serve(certificate, key), trusted if name == "stranger" else certificate)
    assert "certificate is not to be trusted" in said, said


def test_without_certificates_nothing_is_trusted(tmp_path: Path, serve) -> None:
    url = serve(*make(tmp_path, "right", "localhost", 10))
    assert "is missing; install ca-bundle, or set ca_file" in ask(url, tmp_path / "none.crt")
    (tmp_path / "empty.crt").write_text("nothing\n")
    assert "holds no certificates" in ask(url, tmp_path / "empty.crt")
    assert "certificate is not to be trusted" in ask(url, "")  # by the system's own
