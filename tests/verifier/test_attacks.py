"""Cheats on the wire, with real relays and real sockets between: none gains anything."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import zlib
from collections import deque

import pytest

from bwrouter.platform import net
from bwverifier.audit import Seen, conclude
from bwverifier.habits import Page
from bwverifier.probe import GOOD, SLOW, Probe
from tests.relay.scene import Scene, Source
from tests.verifier.stage import URL, Stock, covert

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone]
LINE_KBPS = 8000
BOX_IP, HELPER_IP = "198.18.9.8", "198.18.9.7"
BIG = 1000  # bytes: a chunk's datagram has more
ONLY_PROOFS = """
import time
import bwrouter.relay.relay as R
proved, born = set(), {}
serve, prove = R.Relay._serve, R.Relay.do_prove
def do_prove(self, c, payload):
    proved.add(c)
    return prove(self, c, payload)
R._COMMANDS[7] = do_prove
def cheat(self, n, wait):
    for c in list(self.table.all):
        if c not in proved and time.monotonic() - born.setdefault(c, time.monotonic()) > 0.7:
            self.close(c)
    return serve(self, n, wait)
R.Relay._serve = cheat
"""


class Box(threading.Thread):
    """Between a relay and everybody: its address is the relay's. What comes from the relay goes through a line of
    LINE_KBPS that counts `size(datagram)` bytes; large datagrams leave from `source`."""

    def __init__(self, relay, size=len, source=BOX_IP, kbps=LINE_KBPS):
        super().__init__(daemon=True)
        self.relay, self.size, self.source, self.kbps = relay, size, source, kbps
        self.outer, self.inner, self.other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
        self.outer.bind((BOX_IP, 0))
        self.inner.bind((BOX_IP, 0))
        self.other.bind((source, 0))
        for s in (self.outer, self.inner):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.ended = False
        self.counted = self.passed = 0

    def descriptor(self):
        return self.relay.descriptor(v4=net.ip_bytes(BOX_IP), port4=self.outer.getsockname()[1])

    def run(self):
        peer, queue = None, deque()
        free = time.monotonic()
        while not self.ended:
            ready, _, _ = select.select([self.outer, self.inner], [], [], 0.0005 if queue else 0.05)
            if self.outer in ready:
                data, peer = self.outer.recvfrom(2048)
                self.inner.sendto(data, (self.relay.ip, self.relay.port))
            if self.inner in ready:
                data = self.inner.recv(2048)
                cost = self.size(data) + 42
                self.counted, self.passed = self.counted + cost, self.passed + len(data) + 42
                free = max(free, time.monotonic() - 0.004) + cost * 8 / self.kbps / 1000
                queue.append((free, data))
            while queue and queue[0][0] <= time.monotonic():
                _, data = queue.popleft()
                way = self.other if len(data) > BIG and self.source != BOX_IP else self.outer
                way.sendto(data, peer)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()
        for s in (self.outer, self.inner, self.other):
            s.close()


@pytest.fixture(scope="module")
def scene():
    with Scene(count=1, runtime="cpython") as s:
        s.relays[0].rate_kbps = 40_000  # what it says it has; the line behind it is narrower
        s.relays[0].fresh_stats()
        yield s


def measured(path, ms=400):
    p = Probe(Source())
    try:
        return p.measure(path, 0, ms, 40_000)
    finally:
        p.close(patience=0.3)


def test_a_compressing_middlebox_gains_nothing(scene):
    squeeze = lambda data: min(len(data), len(zlib.compress(data, 9)))
    with Box(scene.relays[0], squeeze) as box:
        m = measured([box.descriptor()])
    print(m.kbps, box.counted, box.passed)
    assert m.reason == GOOD and m.chunks > 50
    assert box.counted > 0.995 * box.passed, "keystream under a fresh seed does not compress"
    assert m.kbps < 1.05 * LINE_KBPS


def test_a_fast_helper_elsewhere_gains_nothing(scene):
    """A helper on a line of 200 Mbit/s has the relay's keys and answers for it, from its own address."""
    with Box(scene.relays[0], source=HELPER_IP, kbps=200_000) as box:
        m = measured([box.descriptor()])
    print(m.reason, m.kbps, m.elsewhere)
    assert m.elsewhere > 50 and m.chunks == 0 and m.kbps == 0
    assert conclude({"direct": [m]}, 40_000).reason == SLOW
    with Box(scene.relays[0], kbps=200_000) as box:  # the same from the relay's address counts
        assert measured([box.descriptor()]).kbps > 20_000


@pytest.mark.parametrize("cheats", [False, True])
def test_who_serves_only_proofs_is_found_by_covert_audits(cheats):
    """The second relay answers every PROVE at once and lets no buyer's circuit live."""
    pages = [Page((40_000, 30_000), 1.0), Page((200_000,), 0.0)]
    with Scene(count=4, runtime="cpython", twists={2: ONLY_PROOFS} if cheats else {}) as scene:
        target = scene.relays[1].descriptor()
        for r in scene.relays:
            r.rate_kbps = 40_000
        scene.relays[1].fresh_stats()
        with covert(scene) as (machine, choice):
            found = [machine.audit(target, choice, Stock(), URL, pages) for _ in range(2)]
        m = measured([target, *(r.descriptor() for r in scene.relays[2:])])
    print(m.kbps, [(d.right, d.wanted, d.blamed, d.known, d.why) for d in found])
    assert m.reason == GOOD and m.kbps > 30_000
    assert all(d.known for d in found)
    report = conclude({"direct": [m]}, 40_000, [Seen(d.share, d.wrong) for d in found])
    if cheats:
        assert report.reason == SLOW and all(d.share < 0.5 for d in found)
    else:
        assert report.kbps == m.kbps and all(d.share == 1.0 for d in found)
        assert all(target.relay.hex() == d.path[1] for d in found)


def test_what_is_signed_once_is_no_proof_twice(scene):
    """A measurement's record names its seed; another epoch's or another relay's does not pass for it."""
    from bwgateway.evidence import check_record
    from bwgateway.problems import Problem
    from bwverifier import evidence

    m = measured([scene.relays[0].descriptor()])
    raw = evidence.record(m, 7, 1)
    assert check_record(raw.decode(), 7)[2] == m.kbps > 0
    records = [raw, b"a", b"b"]
    for i, r in enumerate(records):
        assert evidence.leads_to(r, evidence.path(records, i)) == evidence.root(records)
    m.seed = os.urandom(32)
    forged = [evidence.record(m, 7, 1)]  # the statement is another seed's
    m.close = b""
    forged.append(evidence.record(m, 7, 1))  # a rate that nobody measured
    m.close = bytes(108)
    forged.append(evidence.record(m, 7, 1))  # a statement that the relay did not sign
    for text in (*forged, raw.replace(b'"epoch":7', b'"epoch":6'), b"{}", b"[]"):
        with pytest.raises(Problem):
            check_record(text.decode(), 7)
