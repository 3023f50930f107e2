"""A STUN server (RFC 8489): answers a binding request with the address that it came from.

    python -m tests.client.stun
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

MAGIC = 0x2112A442


def answer(request: bytes, source: tuple[str, int]) -> bytes:
    """A success response with XOR-MAPPED-ADDRESS; empty for what is no binding request."""
    if len(request) < 20 or request[:2] != b"\0\1" or request[4:8] != struct.pack(">I", MAGIC):
        return b""
    address = ipaddress.ip_address(source[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    mask = request[4:20]
    hidden = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    value = struct.pack(">BBH", 0, 1 if address.version == 4 else 2, source[1] ^ (MAGIC >> 16)) + hidden
    return struct.pack(">HH", 0x0101, 4 + len(value)) + mask + struct.pack(">HH", 0x20, len(value)) + value


def main() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.bind(("::", 3478))
        print("ready", flush=True)
        while True:
            request, source = s.recvfrom(1500)
            if said := answer(request, source[:2]):
                s.sendto(said, source)


if __name__ == "__main__":
    sys.exit(main())
