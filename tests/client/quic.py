"""QUIC by aioquic: a server that sends as many bytes as it is asked for, and a client that checks them.

    python -m tests.client.quic serve --folder DIR
    python -m tests.client.quic get --to ADDRESS --size BYTES
`serve` makes its own certificate in DIR; `get` prints one JSON object: bytes, sha256, the server's address.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import json
import ssl
import sys
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT, ALPN = 4433, ["bytes"]


def body(size: int) -> bytes:
    """Bytes that both ends know."""
    return hashlib.shake_128(b"quic").digest(size)


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site.lab")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, secret = folder / "quic.pem", folder / "quic.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pem, secret


class Server(QuicConnectionProtocol):
    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._quic.send_stream_data(event.stream_id, body(int(event.data)), end_stream=True)
            self.transmit()


async def listen(folder: Path) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN)
    configuration.load_cert_chain(*certificate(folder))
    await serve("::", PORT, configuration=configuration, create_protocol=Server)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def get(to: str, size: int) -> int:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
    async with asyncio.timeout(20), connect(to, PORT, configuration=configuration) as connection:
        reader, writer = await connection.create_stream()
        writer.write(str(size).encode())
        writer.write_eof()
        data = await reader.read()
    ok = data == body(size)
    print(json.dumps({"bytes": len(data), "ok": ok}))
    return 0 if ok else 1


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.client.quic")
    cli.add_argument("what", choices=("serve", "get"))
    cli.add_argument("--folder", type=Path)
    cli.add_argument("--to", default="")
    cli.add_argument("--size", type=int, default=1 << 20)
    args = cli.parse_args()
    if args.what == "get":
        return asyncio.run(get(args.to, args.size))
    asyncio.run(listen(args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
