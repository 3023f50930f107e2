"""Priority rings: order, proportion, bounds."""

from bwrouter.platform import arena, ffi
from bwrouter.relay import queue

A = arena.take(8192)
RATE = 1000000


def packet(mark, size=1000):
    ffi.poke(A, bytes([mark]) * size)
    return A, size


def test_first_in_first_out_and_contents():
    q = queue.Queue()
    for mark in range(20):
        a, n = packet(mark, 100 + mark)
        assert q.push(0, a, n, 5000 + mark, RATE)
    for mark in range(20):
        a, n, name = q.pop()
        assert (n, name) == (100 + mark, 5000 + mark) and ffi.peek(a, n) == bytes([mark]) * n
    assert q.count == 0


def test_proportion():
    q = queue.Queue()
    served = [0, 0, 0]
    for _ in range(3000):
        for p in range(3):
            a, n = packet(p)
            q.push(p, a, n, p, RATE)
        served[q.pop()[2]] += 1
    assert 1.8 < served[1] / served[0] < 2.2 and 3.6 < served[2] / served[0] < 4.4


def test_bounds():
    q = queue.Queue()
    a, n = packet(1, 1400)
    taken = 0
    while q.push(0, a, n, 1, 8):  # a very slow line still holds a little
        taken += 1
    assert taken == queue.LEAST_BYTES // 1400
    assert q.push(1, a, n, 1, 8)  # the other rings have room of their own
    q = queue.Queue()
    taken = 0
    while q.push(2, a, n, 1, RATE):
        taken += 1
    assert taken == queue.RING_MOST
    q = queue.Queue()
    taken = 0
    while q.push(2, a, n, 1, 40000):
        taken += 1
    assert taken == 40000 // 8 * queue.HOLD_MS // 1400, "100 ms of the rate, however many packets that are"


def test_a_ring_that_grows_keeps_order_and_contents():
    q = queue.Queue()
    sent = got = 0
    for turn in range(3):
        for _ in range(queue.RING - 28 + 300 * (turn == 1)):
            a, n = packet(sent & 0xFF, 200 + sent % 7)
            assert q.push(0, a, n, sent, RATE)
            sent += 1
        for _ in range(70):
            a, n, name = q.pop()
            assert name == got and n == 200 + got % 7 and ffi.peek(a, n) == bytes([got & 0xFF]) * n
            got += 1
    while q.count:
        a, n, name = q.pop()
        assert name == got and ffi.peek(a, n) == bytes([got & 0xFF]) * n
        got += 1
    assert got == sent and q.rings[0].slots == 512 and q.rings[0].bytes == 0


def test_forget():
    q = queue.Queue()
    for i in range(10):
        a, n = packet(i)
        q.push(i % 3, a, n, 100 + i % 2, RATE)
    q.forget((100,))
    left = []
    while q.count:
        a, n, name = q.pop()
        if a:
            left.append(name)
    assert left == [101] * 5 and all(r.bytes == 0 for r in q.rings)
