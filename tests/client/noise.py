"""What programs on a machine send all day, as fast as a test needs: IPv4 and IPv6, TCP and UDP, DNS, mDNS, ping, and
sockets that are bound to the physical interface.

    python -m tests.client.noise --to4 A --to6 A --gate A --device wan0
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import struct
import sys
import time

_BIND = socket.SO_BINDTODEVICE if hasattr(socket, "SO_BINDTODEVICE") else 25


def question(name: str = "leak.example.org") -> bytes:
    """A DNS query for an A record (RFC 1035)."""
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    return os.urandom(2) + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def udp(family: int, to: tuple[str, int], data: bytes, device: str = "", multicast: str = "") -> None:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as s:
        if device:
            s.setsockopt(socket.SOL_SOCKET, _BIND, device.encode())
        if multicast and family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(multicast))
        elif multicast:
            s.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", b"", b"", socket.if_nametoindex(multicast))
            )
        s.sendto(data, to)


def tcp(family: int, to: tuple[str, int], device: str = "") -> None:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as s:
        if device:
            s.setsockopt(socket.SOL_SOCKET, _BIND, device.encode())
        s.setblocking(False)
        s.connect_ex(to)


def ping(to: str) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        body = struct.pack(">BBHHH", 8, 0, 0xF7FF - 0, 0, 0)
        s.sendto(body, (to, 0))


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.client.noise")
    for name in ("--to4", "--to6", "--gate", "--device"):
        cli.add_argument(name, required=True)
    args = cli.parse_args()
    v4, v6 = socket.AF_INET, socket.AF_INET6
    print("ready", flush=True)
    while True:
        for device in ("", args.device):
            udp(v4, (args.to4, 9), b"v4", device)
            udp(v6, (args.to6, 9), b"v6", device)
            tcp(v4, (args.to4, 80), device)
            tcp(v6, (args.to6, 80), device)
            udp(v4, (args.to4, 53), question(), device)
            udp(v6, (args.to6, 53), question(), device)
            udp(v4, (args.gate, 53), question(), device)
        udp(v4, ("224.0.0.251", 5353), question("printer.local"), multicast=args.device)
        udp(v6, ("ff02::fb", 5353), question("printer.local"), multicast=args.device)
        ping(args.to4)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
