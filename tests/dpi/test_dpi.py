"""10^5 packets of real circuits at real relays: nothing in them is constant, counts, or tells of anything else.

The same checker must find what is wrong with copies that are: unmasked ones, and ones with a small flaw.
"""

from __future__ import annotations

import os
import random

import pytest

from bwrouter.wire import sizes as S

from .checker import check, spread
from .names import NOTHING, protocols, recognised
from .traffic import Traffic, produce

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return produce(100_000, 2000, limit=150)


def test_the_capture_is_of_everything(traffic):
    assert traffic.packets >= 100_000
    least = {"create": 2000, "reply": 1500, "forward": 30_000, "backward": 30_000}
    assert all(len(traffic.kinds[k]) >= n for k, n in least.items()), {k: len(v) for k, v in traffic.kinds.items()}
    assert len({f for f, _ in traffic.kinds["forward"]}) >= 8  # links
    # and what stands under the masks is what the kinds say
    assert all(p[:8] == bytes(8) for _, p in traffic.clear["create"][:100])
    assert all(p[16:24] == bytes(8) for _, p in traffic.clear["forward"][:100])


def test_no_position_tells_anything(traffic):
    report = check(traffic.kinds, thorough=False)
    assert not report.findings, "\n".join(map(str, report.findings[:20]))
    assert report.tests > 1_000_000 and {"pair", "successive pair", "counts up"} <= set(report.largest)


def test_lengths_of_handshakes_spread(traffic):
    z, largest, distinct = spread([len(p) for _, p in traffic.kinds["create"]], S.PAD_MAX + 1)
    assert abs(z) < 6 and distinct > 250 and largest < 0.02
    _, largest, distinct = spread([len(p) for _, p in traffic.kinds["reply"]], S.PAD_MAX + 1)
    assert distinct > 200 and largest < 0.03


def test_wireshark_knows_no_name_for_it(traffic):
    some = traffic.frames[:2000] + traffic.frames[-8000:]
    ours, chance, names = recognised(some)
    assert ours <= chance + 0.001, names  # a heuristic may take random bytes for something, ours no more often
    assert max(names.values(), default=0) < len(some) // 200, names


def test_wireshark_names_what_has_a_name(traffic):
    (when, frame), *_ = traffic.frames
    query = bytes.fromhex("1234010000010000000000000765786d706c650000010001")
    udp = frame[:34] + b"\x30\x39\0\x35" + (8 + len(query)).to_bytes(2, "big") + bytes(2) + query
    udp = udp[:16] + (28 + len(query)).to_bytes(2, "big") + udp[18:]
    assert NOTHING not in protocols([(when, udp)])


# -- can the checker fail? -------------------------------------------------------------------------------


def test_unmasked_packets_are_found(traffic):
    report = check({k: v[:9_000] for k, v in traffic.clear.items()}, thorough=False)
    found = {(f.group.split()[0], f.what.split()[0]) for f in report.findings}
    assert {("create", "byte"), ("forward", "byte"), ("backward", "byte")} <= found
    assert {"counts", "step", "difference", "pair", "bits", "successive"} <= {what for _, what in found}


def test_small_flaws_are_found():
    """Five, each in a place of its own."""
    rng = random.Random(5)
    packets = []
    for i in range(60_000):
        p = bytearray(os.urandom(96))
        if rng.random() < 0.06:
            p[70] = p[10]  # a copy, now and then
        if rng.random() < 0.2:
            p[40] = p[3] * 5 + 7 & 0xFF  # a relation that is neither a difference nor an xor
        if rng.random() < 0.1:
            p[20] &= 0x7F  # a bit that leans
        if rng.random() < 0.006:
            p[95] = 0x17  # a favourite value
        p[12] = i & 0xFF  # a counter
        packets.append((0, bytes(p)))
    found = {f.what for f in check({"flawed": packets}).findings}
    assert {"difference 10, -26", "pair 10, -26", "pair 3, 40", "byte 20", "byte -1", "counts up 12"} <= found


def test_random_bytes_are_passed():
    packets = [(i % 3, os.urandom(random.choice((60, 96, 200)))) for i in range(12_000)]
    assert not check({"random": packets}).findings
