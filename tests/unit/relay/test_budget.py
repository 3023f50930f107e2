"""Handshake budget: cookies when it runs low, a bound for each neighbourhood, nothing past the end."""

from bwrouter.platform import net
from bwrouter.relay import budget

A = net.pack_addr("198.18.0.7", 5000)
B = net.pack_addr("198.18.0.8", 5001)
FAR = net.pack_addr("198.18.9.1", 5001)
V6 = net.pack_addr("2001:2::1", 5001)


def test_idle_relay_asks_nothing():
    b = budget.Budget()
    for _ in range(10):
        assert b.admit(bytes(16), A) == "yes"


def test_busy_relay_wants_a_cookie_of_this_source():
    b = budget.Budget()
    b.spend(budget.DEPTH_US - budget.BUSY_US + 100000)
    assert b.admit(bytes(16), A) == "cookie"
    mine = b.cookie(A)
    assert len(mine) == 16 and b.admit(mine, A) == "yes"
    assert b.admit(mine, B) == "cookie"  # another address
    assert b.admit(mine, net.pack_addr("198.18.0.7", 5002)) == "cookie"  # another port
    assert b.admit(b.cookie(V6), V6) == "yes"


def test_one_neighbourhood_cannot_take_it_all():
    b = budget.Budget()
    b.spend(budget.DEPTH_US - budget.BUSY_US + 150000)
    answers = [b.admit(b.cookie(A), A) for _ in range(budget.SOURCE_MOST + 1)]
    assert answers[:-1] == ["yes"] * budget.SOURCE_MOST and answers[-1] == "handshake-source"
    assert b.admit(b.cookie(B), B) == "handshake-source"  # the same /24
    assert b.admit(b.cookie(FAR), FAR) == "yes"


def test_past_the_budget_nothing_is_answered():
    b = budget.Budget()
    b.spend(budget.DEPTH_US + 1000000)
    assert b.admit(b.cookie(A), A) == "handshake-budget"


def test_cookies_have_a_budget_of_their_own():
    """Whoever sends CREATEs from made-up addresses makes the relay answer each; those with a cookie still get in."""
    b = budget.Budget()
    b.spend(budget.DEPTH_US - budget.BUSY_US + 100000)
    assert b.admit(bytes(16), A) == "cookie"
    b.spend_cookie(budget.COOKIES_US + 1000000)
    assert b.admit(bytes(16), A) == "handshake-budget"
    assert b.admit(b.cookie(A), A) == "yes"
