"""Priority rings: order, proportion, bounds."""

from bwrouter.platform import arena, ffi
from bwrouter.relay import queue

A = arena.take(8192)
RATE = 1000000


def made(rate=RATE):
    q = queue.Queue()
    q.at(rate)
    return q


def packet(mark, size=1000):
    ffi.poke(A, bytes([mark]) * size)
    return A, size


def test_first_in_first_out_and_contents():
    q = made()
    for mark in range(20):
        a, n = packet(mark, 100 + mark)
        assert q.push(0, a, n, 5000 + mark)
    for mark in range(20):
        a = q.pop()
        n, name = q.size, q.name
        assert (n, name) == (100 + mark, 5000 + mark) and ffi.peek(a, n) == bytes([mark]) * n
    assert q.count == 0


def test_proportion():
    q = made(40000)  # not more: three full rings of the fastest line are a third of a small router's memory
    served = [0, 0, 0]
    for _ in range(3000):
        for p in range(3):
            a, n = packet(p)
            q.push(p, a, n, p)
        q.pop()
        served[q.name] += 1
    assert 1.8 < served[1] / served[0] < 2.2 and 3.6 < served[2] / served[0] < 4.4


def test_bounds():
    q = made(8)
    a, n = packet(1, 1400)
    taken = 0
    while q.push(0, a, n, 1):  # a very slow line still holds a little
        taken += 1
    assert taken == queue.LEAST_BYTES // 1400
    assert q.push(1, a, n, 1)  # the other rings have room of their own
    q = made()
    taken = 0
    while q.push(2, a, n, 1):
        taken += 1
    assert taken == queue.RING_MOST
    q = made(40000)
    taken = 0
    while q.push(2, a, n, 1):
        taken += 1
    assert taken == 40000 // 8 * queue.HOLD_MS // 1400, "100 ms of the rate, however many packets that are"


def test_a_ring_that_grows_keeps_order_and_contents():
    q = made()
    sent = got = 0
    for turn in range(3):
        for _ in range(queue.RING - 28 + 300 * (turn == 1)):
            a, n = packet(sent & 0xFF, 200 + sent % 7)
            assert q.push(0, a, n, sent)
            sent += 1
        for _ in range(70):
            a = q.pop()
            n, name = q.size, q.name
            assert name == got and n == 200 + got % 7 and ffi.peek(a, n) == bytes([got & 0xFF]) * n
            got += 1
    while q.count:
        a = q.pop()
        n, name = q.size, q.name
        assert name == got and ffi.peek(a, n) == bytes([got & 0xFF]) * n
        got += 1
    assert got == sent and q.rings[0].slots == 512 and q.rings[0].bytes == 0


def test_forget():
    q = made()
    for i in range(10):
        a, n = packet(i)
        q.push(i % 3, a, n, 100 + i % 2)
    q.forget((100,))
    left = []
    while q.count:
        a = q.pop()
        n, name = q.size, q.name
        if a:
            left.append(name)
    assert left == [101] * 5 and all(r.bytes == 0 for r in q.rings)
