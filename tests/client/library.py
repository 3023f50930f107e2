"""A program that uses the tunnel as a library: fetches a file by HTTP/1.0 and prints its SHA-256.

    python -m tests.client.library CONFIG HOST PATH
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from bwclient import Tunnel


async def main(config: str, host: str, path: str) -> None:
    async with Tunnel(config, hops=2) as tunnel:
        reader, writer = await tunnel.connect(host, 80)
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert len(tunnel.status()["hops"]) == 2
    print(hashlib.sha256(answer.split(b"\r\n\r\n", 1)[1]).hexdigest())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
