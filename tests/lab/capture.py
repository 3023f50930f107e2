"""Look at every packet of one link as it passes, keeping none.

An AF_PACKET socket with a TPACKET_V3 ring (linux/if_packet.h), full length. Counted: packets and bytes each way, those
of the relays' UDP port apart, and where the web server can be read in the clear: its address in an outer IP header, and
anywhere else in a packet its address as 4 or 16 bytes or as text, the path of the file, the first bytes of the file.
Four bytes also turn up by chance (once in 4 GB), so each such place is kept with 8 bytes on both sides, and
`clear_headers()` tells those that stand in an inner IP header.

    python -m tests.lab.capture --link i-r1 --web 198.18.41.2 --web6 2001:2:0:29::2 --path /f.bin --head 00ff --report F
The report F is one JSON object, replaced every half second and at SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, TPACKET_V3 = 263, 5, 6, 10, 2
ETH_P_ALL, PACKET_OUTGOING = 3, 4
TP_STATUS_USER = 1
BLOCK, BLOCKS, FRAME, RETIRE_MS = 1 << 18, 128, 2048, 40  # 32 MB: 2.7 s of 96 Mbit/s while this gets no processor
SNAPLEN, LENGTH, MAC, PKTTYPE = 12, 16, 24, 58  # in struct tpacket3_hdr and the sockaddr_ll after it
AROUND, KEPT = 8, 64
RELAY_PORT = 51900


@dataclass
class Report:
    """What one link saw. Bytes are those of IP packets (no Ethernet header); `to` the node, `from` the node."""

    link: str
    at: float = 0.0  # when it was written, seconds of the monotonic clock
    packets_to: int = 0
    packets_from: int = 0
    bytes_to: int = 0
    bytes_from: int = 0
    relay_packets_to: int = 0
    relay_packets_from: int = 0
    relay_bytes_to: int = 0
    relay_bytes_from: int = 0
    web_bytes_to: int = 0
    web_bytes_from: int = 0
    outer: int = 0
    inner4: int = 0
    inner4_places: list[str] = field(default_factory=list)
    inner6: int = 0
    text: int = 0
    path: int = 0
    head: int = 0
    truncated: int = 0
    dropped: int = 0
    longest: int = 0


class Ring:
    """A TPACKET_V3 receive ring on one interface of this namespace."""

    def __init__(self, link: str) -> None:
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        request = struct.pack("7I", BLOCK, BLOCKS, FRAME, BLOCK // FRAME * BLOCKS, RETIRE_MS, 0, 0)
        self.sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        self.map = mmap.mmap(self.sock.fileno(), BLOCK * BLOCKS)
        self.sock.bind((link, ETH_P_ALL))
        self.next = 0

    def take(self) -> tuple[bytes, int, int] | None:
        """The next full block as (bytes, number of packets, offset of the first), or None."""
        at = self.next * BLOCK
        status, count, first, used = struct.unpack_from("4I", self.map, at + 8)
        if not status & TP_STATUS_USER:
            return None
        block = self.map[at : at + used]
        struct.pack_into("I", self.map, at + 8, 0)
        self.next = (self.next + 1) % BLOCKS
        return block, count, first

    def drops(self) -> int:
        """Packets that the kernel dropped since the last call, for want of room."""
        return int(struct.unpack("3I", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))[1])


class Watch:
    """Counts the packets of a block and searches it."""

    def __init__(self, link: str, web: str, web6: str, path: str, head: bytes) -> None:
        self.report = Report(link)
        self.web, self.web6 = socket.inet_aton(web), socket.inet_pton(socket.AF_INET6, web6)
        self.texts = (web.encode(), web6.encode())
        self.path, self.head = path.encode(), head

    def block(self, block: bytes, count: int, first: int) -> None:
        at = first
        outer: set[int] = set()
        for _ in range(count):
            (step,) = struct.unpack_from("I", block, at)
            snaplen, length = struct.unpack_from("2I", block, at + SNAPLEN)
            (mac,) = struct.unpack_from("H", block, at + MAC)
            self.packet(block, at + mac, snaplen, length, block[at + PKTTYPE] == PACKET_OUTGOING, outer)
            at += step
        self.search(block, outer)

    def packet(self, block: bytes, at: int, snaplen: int, length: int, to: bool, outer: set[int]) -> None:
        r = self.report
        size = length - 14
        r.truncated += snaplen != length
        r.longest = max(r.longest, size)
        kind = block[at + 12 : at + 14]
        if kind == b"\x08\x00":
            protocol, ports = block[at + 23], at + 14 + (block[at + 14] & 15) * 4
            address, first, last = self.web, 26, 34
        elif kind == b"\x86\xdd":
            protocol, ports, address, first, last = block[at + 20], at + 54, self.web6, 22, 54
        else:
            protocol, ports, address, first, last = 0, at, self.web, 14, 54
        relay = protocol == 17 and RELAY_PORT in struct.unpack_from(">2H", block, ports)
        place = block.find(address, at + first, at + min(last, snaplen))
        if place >= 0:
            outer.add(place)
        if to:
            r.packets_to += 1
            r.bytes_to += size
            r.relay_packets_to += relay
            r.relay_bytes_to += size * relay
            r.web_bytes_to += size * (place >= 0)
        else:
            r.packets_from += 1
            r.bytes_from += size
            r.relay_packets_from += relay
            r.relay_bytes_from += size * relay
            r.web_bytes_from += size * (place >= 0)

    def search(self, block: bytes, outer: set[int]) -> None:
        r = self.report
        r.outer += len(outer)
        r.text += sum(block.count(t) for t in self.texts)
        r.path += block.count(self.path)
        r.head += block.count(self.head)
        for place in places(block, self.web6):
            r.inner6 += place not in outer
        if block.count(self.web) == len(outer):
            return
        for place in places(block, self.web):
            if place not in outer:
                r.inner4 += 1
                if len(r.inner4_places) < KEPT:
                    r.inner4_places.append(block[place - AROUND : place + 4 + AROUND].hex())


def places(block: bytes, needle: bytes) -> list[int]:
    found, at = [], block.find(needle)
    while at >= 0:
        found.append(at)
        at = block.find(needle, at + 1)
    return found


def clear_headers(report: dict[str, Any], web: str, peers: list[str]) -> int:
    """How often the link showed the web server: outer headers, inner `src || dst` with one of `peers` (IPv4),
    16-byte addresses, text, path and content. Places beyond those kept all count."""
    address, others = socket.inet_aton(web).hex(), [socket.inet_aton(p).hex() for p in peers]
    hits = report["outer"] + report["inner6"] + report["text"] + report["path"] + report["head"]
    hits += report["inner4"] - len(report["inner4_places"])
    pairs = [address + o for o in others] + [o + address for o in others]
    return int(hits + sum(any(p in place for p in pairs) for place in report["inner4_places"]))


def write(report: Report, path: Path) -> None:
    report.at = time.monotonic()
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(report)))
    draft.rename(path)


def main(argv: list[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="tests.lab.capture", description="watch one link")
    for name in ("link", "web", "web6", "path", "head", "report"):
        cli.add_argument("--" + name, required=True)
    args = cli.parse_args(argv)
    ring = Ring(args.link)
    watch = Watch(args.link, args.web, args.web6, args.path, bytes.fromhex(args.head))
    report, out = watch.report, Path(args.report)
    end: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: end.append(time.monotonic() + RETIRE_MS / 1000 * 3))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    poll = select.poll()
    poll.register(ring.sock, select.POLLIN)
    written = 0.0
    os.nice(5)
    while not (end and time.monotonic() > end[0]):
        now = time.monotonic()
        if now - written > 0.5:
            report.dropped += ring.drops()
            write(report, out)
            written = now
        taken = ring.take()
        if taken:
            watch.block(*taken)
        else:
            poll.poll(30 if end else 200)
    report.dropped += ring.drops()
    write(report, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
