"""The household of the benchmark, as two processes that share the machine's monotonic clock.

    python -m bench.shaper.household sink                       discards TCP, files UDP; writes what came on SIGTERM
    python -m bench.shaper.household KIND SECONDS KBPS          one run: bulk, voip, web or steps
A flow of 250-byte packets every 20 ms (100 kbit/s, as of a call) runs through every case: its one-way delay is what
the household feels. Times of the sink are the kernel's own (SO_TIMESTAMPNS): a busy machine is not taken for a queue.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time

from bench.shaper.line import SINK

VOIP, STEPS, BULK = 7001, 7002, 7003
WIRE = 42  # Ethernet, IPv4, UDP
VOIP_EVERY, VOIP_SIZE = 0.02, 250 - WIRE
STEP_SIZE = 1200
STEP_SHARE = 0.6  # of the uplink
STEP_ON = STEP_OFF = 3.0
WEB_EVERY, WEB_BYTES = 2.5, 60_000
LEAD = 1.0  # seconds before the household begins
SO_TIMESTAMPNS = 35


class Sender:
    """Sends what is due, and keeps to the clock when it was late."""

    def __init__(self, kind: str, seconds: float, kbps: int) -> None:
        self.kind, self.kbps = kind, kbps
        self.voip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.voip.connect((SINK, VOIP))
        self.steps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.steps.connect((SINK, STEPS))
        self.steps.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.begin = time.monotonic()
        self.end = self.begin + LEAD + seconds
        self.out: dict[str, object] = {"begin": self.begin, "kind": kind, "end": self.end, "starts": []}
        self.starts: list[float] = []
        self.sent = 0

    def run(self) -> None:
        next_voip, tokens, before = self.begin, 0.0, self.begin
        tcp: socket.socket | None = None
        left = 0
        web: list[float] = []
        on = False
        next_web = self.begin + LEAD
        while (now := time.monotonic()) < self.end:
            if now >= next_voip:
                self.voip.send(struct.pack("<d", time.monotonic()).ljust(VOIP_SIZE, b"\0"))
                next_voip += VOIP_EVERY
            since = now - self.begin - LEAD
            if self.kind == "steps" and since >= 0:
                was, on = on, since % (STEP_ON + STEP_OFF) < STEP_ON
                if on and not was:
                    self.starts.append(now)
                    tokens, before = 0.0, now
                if on:
                    tokens += self.kbps * 125 * STEP_SHARE * (now - before)
                    before = now
                    while tokens >= STEP_SIZE + WIRE:
                        tokens -= STEP_SIZE + WIRE
                        self.sent += 1
                        self.steps.send(struct.pack("<d", time.monotonic()).ljust(STEP_SIZE, b"\0"))
            if self.kind == "bulk" and since >= 0 and tcp is None:
                tcp, left = socket.create_connection((SINK, BULK)), 1 << 40
                tcp.setblocking(False)
                self.starts.append(time.monotonic())
            if self.kind == "web" and now >= next_web and tcp is None:
                next_web += WEB_EVERY
                tcp, left = socket.create_connection((SINK, BULK)), WEB_BYTES
                tcp.setblocking(False)
                self.starts.append(time.monotonic())
            wait = min(next_voip, self.end) - time.monotonic()
            if self.kind == "steps" and on:
                wait = min(wait, 0.002)
            ready = select.select([tcp] if tcp else [], [tcp] if tcp and left else [], [], max(0.0, wait))
            if tcp and ready[1]:
                left -= tcp.send(bytes(min(left, 65536)))
                if not left:
                    tcp.shutdown(socket.SHUT_WR)
            if tcp and ready[0] and self.kind == "web":
                tcp.recv(16)  # the sink closes: the last byte has arrived
                web.append(time.monotonic() - self.starts[-1])
                tcp.close()
                tcp = None
        if tcp:
            if self.kind == "web":
                web.append(time.monotonic() - self.starts[-1])  # it lasts at least so long
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tcp.close()
        print(json.dumps({**self.out, "starts": self.starts, "sent": self.sent, "web": web}), flush=True)


class Sink:
    """Files arrivals: delays of each UDP flow, bytes of TCP in bins of 10 ms."""

    def __init__(self) -> None:
        self.delays: dict[str, list[tuple[float, float]]] = {"voip": [], "steps": []}
        self.bulk: dict[int, int] = {}
        self.stop = False
        self.offset = time.clock_gettime(time.CLOCK_REALTIME) - time.monotonic()

    def udp(self, port: int) -> socket.socket:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        s.bind((SINK, port))
        s.setblocking(False)
        return s

    def take(self, s: socket.socket, into: list[tuple[float, float]]) -> None:
        while True:
            try:
                data, control, _, _ = s.recvmsg(2048, 64)
            except BlockingIOError:
                return
            seconds, ns = struct.unpack("qq", control[0][2][:16])
            at = seconds + ns * 1e-9 - self.offset
            into.append((at, at - struct.unpack("<d", data[:8])[0]))

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        voip, steps = self.udp(VOIP), self.udp(STEPS)
        server = socket.create_server((SINK, BULK), backlog=16)
        streams: list[socket.socket] = []
        print("ready", flush=True)
        while not self.stop:
            for s in select.select([voip, steps, server, *streams], [], [], 0.2)[0]:
                if s is voip:
                    self.take(voip, self.delays["voip"])
                elif s is steps:
                    self.take(steps, self.delays["steps"])
                elif s is server:
                    streams.append(server.accept()[0])
                else:
                    self.read(s, streams)
        print(json.dumps({**self.delays, "bulk": sorted(self.bulk.items())}), flush=True)

    def read(self, s: socket.socket, streams: list[socket.socket]) -> None:
        try:
            data = s.recv(1 << 20)
        except OSError:
            data = b""
        if data:
            at = int(time.monotonic() * 100)
            self.bulk[at] = self.bulk.get(at, 0) + len(data)
        else:
            streams.remove(s)
            s.close()


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        Sink().run()
    else:
        Sender(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])).run()
