"""A household's own traffic: uploads in bursts with idle times between them, and what it feels of its line.

    python -m tests.lab.household serve          (the far end: discards TCP, echoes UDP, port 9)
    python -m tests.lab.household upload --to 198.18.42.2 --report F [--burst-kb 1500] [--gap 2:6] [--bursts 0]
A burst ends when its last byte is acknowledged. A probe of 64 bytes goes out every 50 ms; its round trip is filed under
idle or busy. The report F is one JSON object, replaced every half second: bursts, bytes, mbps (of the bursts),
rtt_idle_ms and rtt_busy_ms (median and p99).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import random
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

PORT = 9
SIOCOUTQ = 0x5411
PROBE_S = 0.05
CHUNK = bytes(range(256)) * 256


def serve() -> int:
    """Discard TCP (RFC 863) and echo UDP on port 9 until SIGTERM."""
    tcp = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::", PORT))
    poll = select.epoll()
    streams: dict[int, socket.socket] = {}
    for sock in (tcp, udp):
        poll.register(sock, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == tcp.fileno():
                stream = tcp.accept()[0]
                streams[stream.fileno()] = stream
                poll.register(stream, select.EPOLLIN)
            elif fd == udp.fileno():
                data, peer = udp.recvfrom(2048)
                udp.sendto(data, peer)
            else:
                try:
                    ended = not streams[fd].recv(1 << 18)
                except OSError:
                    ended = True
                if ended:
                    poll.unregister(fd)
                    streams.pop(fd).close()


def spread(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile; empty when there are no values."""
    if not values:
        return {}
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 2),
        "p99": round(ranked[int(len(ranked) * 0.99)], 2),
        "n": len(ranked),
    }


class Household:
    """One upload at a time and a probe beside it."""

    def __init__(self, to: str, burst: int, gap: tuple[float, float], seed: int, report: Path) -> None:
        self.to, self.burst, self.gap, self.report = to, burst, gap, report
        self.random = random.Random(seed)
        self.family = socket.AF_INET6 if ":" in to else socket.AF_INET
        self.udp = socket.socket(self.family, socket.SOCK_DGRAM)
        self.udp.connect((to, PORT))
        self.udp.setblocking(False)
        self.idle: list[float] = []
        self.busy: list[float] = []
        self.bursts, self.bytes, self.busy_s, self.sent, self.lost = 0, 0, 0.0, 0, 0
        self.next_probe = self.next_report = 0.0
        self.uploading = False

    def probe(self) -> None:
        """Send a probe when one is due and file the answers that came."""
        now = time.monotonic()
        if now >= self.next_probe:
            self.next_probe = now + PROBE_S
            self.sent += 1
            try:
                self.udp.send(struct.pack("d?", now, self.uploading).ljust(64, b"\0"))
            except OSError:
                self.lost += 1
        while True:
            try:
                sent, uploading = struct.unpack_from("d?", self.udp.recv(64))
            except OSError:
                break
            (self.busy if uploading else self.idle).append((time.monotonic() - sent) * 1000)
        if now >= self.next_report:
            self.next_report = now + 0.5
            self.write()

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.probe()
            select.select([self.udp], [], [], min(left, max(0.001, self.next_probe - time.monotonic())))

    def upload(self, size: int) -> None:
        """Send `size` bytes and wait until the far end has acknowledged them."""
        self.uploading, began, left = True, time.monotonic(), size
        with socket.create_connection((self.to, PORT), timeout=5) as tcp:
            tcp.setblocking(False)
            while left or outstanding(tcp):
                self.probe()
                wait = max(0.001, min(PROBE_S, self.next_probe - time.monotonic()))
                ready = select.select([self.udp], [tcp] if left else [], [], wait if left else 0.002)
                if ready[1]:
                    left -= tcp.send(CHUNK[: min(left, len(CHUNK))])
        self.uploading = False
        self.bursts += 1
        self.bytes += size
        self.busy_s += time.monotonic() - began

    def write(self) -> None:
        mbps = self.bytes * 8 / self.busy_s / 1e6 if self.busy_s else 0.0
        told = {
            "bursts": self.bursts, "bytes": self.bytes, "mbps": round(mbps, 3), "uploading": self.uploading,
            "rtt_idle_ms": spread(self.idle), "rtt_busy_ms": spread(self.busy), "probes": self.sent,
        }  # fmt: skip
        draft = self.report.with_suffix(".tmp")
        draft.write_text(json.dumps(told))
        draft.rename(self.report)

    def run(self, bursts: int) -> None:
        """`bursts` bursts, or for ever when 0."""
        while not bursts or self.bursts < bursts:
            self.rest(self.random.uniform(*self.gap))
            self.upload(int(self.burst * self.random.uniform(0.5, 1.5)) if not bursts else self.burst)
        self.write()


def outstanding(tcp: socket.socket) -> int:
    """Bytes not yet acknowledged (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(tcp, SIOCOUTQ, b"\0\0\0\0"))[0])


def main(argv: list[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="tests.lab.household", description="household traffic")
    cli.add_argument("what", choices=("serve", "upload"))
    cli.add_argument("--to")
    cli.add_argument("--report", type=Path)
    cli.add_argument("--burst-kb", type=int, default=1500)
    cli.add_argument("--gap", default="2:6")
    cli.add_argument("--bursts", type=int, default=0)
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if args.what == "serve":
        return serve()
    if not args.to or not args.report:
        cli.error("upload needs --to and --report")
    low, high = (float(x) for x in args.gap.split(":"))
    Household(args.to, args.burst_kb * 1000, (low, high), args.seed, args.report).run(args.bursts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
