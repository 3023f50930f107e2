"""The replay window against the cases that RFC 6479 implementations test, and against a plain set."""

from bwrouter.wire import sizes as S
from bwrouter.wire.replay import Windows

T = S.WINDOW + 1


ALL = Windows(16)


def window():
    i = ALL.take_one()
    assert i
    return i


def accept(w, n):
    if not ALL.fresh(w, n):
        return False
    ALL.take(w, n)
    return True


def run(*steps):
    w = window()
    for number, expected in steps:
        assert accept(w, number) == expected, (number, expected)


def test_cases_of_rfc_6479_implementations():
    run((0, True), (1, True), (1, False), (9, True), (8, True), (7, True), (7, False), (T, True), (T - 1, True),
        (T - 1, False), (T - 2, True), (2, True), (2, False), (T + 16, True), (3, False), (T + 16, False),
        (T * 4, True), (T * 4 - (T - 1), True), (10, False), (T * 4 - T, False), (T * 4 - (T + 1), False),
        (T * 4 - (T - 2), True), (T * 4 + 1 - T, False), (0, False))  # fmt: skip


def test_descending_and_ascending_bulk():
    w = window()
    for i in range(1, S.WINDOW + 1):
        assert accept(w, i)
    assert accept(w, 0) and not accept(w, 0)
    w = window()
    for i in range(S.WINDOW, 0, -1):
        assert accept(w, i), i
    w = window()
    for i in range(S.WINDOW + 100, 100, -1):
        assert accept(w, i), i
    assert accept(w, 100) and not accept(w, 99)


def test_far_jumps_forget_the_past():
    w = window()
    for n in (0, 5000, 1 << 20, (1 << 30) - 1):
        assert accept(w, n) and not accept(w, n)
        if n > 2000:
            assert accept(w, n - 500) and not accept(w, n - 500)


def test_windows_are_separate_and_come_back_clean():
    own = Windows(3)
    a = own.take_one()
    b = own.take_one()
    c = own.take_one()
    assert own.take_one() == 0 and 0 not in (a, b, c)
    for n in (0, 1, 7, 3000, 2999):
        own.take(b, n)
    assert own.fresh(a, 0) and own.fresh(c, 2999) and not own.fresh(b, 2999)
    own.give(b)
    again = own.take_one()
    assert again == b and own.fresh(b, 0) and own.fresh(b, 2999)
    own.take(b, 10)
    assert own.fresh(b, 9) and own.fresh(b, 7) and not own.fresh(b, 10)


def test_against_a_set():
    w = window()
    seen = {}
    top = -1
    x = 12345
    for _ in range(20000):
        x = (x * 48271) % 2147483647 & 0x3FFFFFFF
        n = max(0, top - 1200 + x % 1400)
        expected = n > top or (n not in seen and top - n <= S.WINDOW)
        assert accept(w, n) == expected, (n, top)
        seen[n] = 1
        top = max(top, n)
