"""PayWord chains, meters, PAY and CREDIT."""

from harness import raises

from bwrouter.wire import ticket as T


def test_chain_and_meter():
    for units in (64, 1024):
        chain = T.Chain(b"t" * 32, units)
        assert chain.word(0) == chain.anchor and chain.word(units) == b"t" * 32
        assert T.step_down(chain.word(units), units) == chain.anchor
        m = T.Meter(chain.anchor, units)
        assert m.pay(0, chain.word(0)) == 0
        assert m.pay(1, chain.word(1)) == 1
        assert m.pay(1, chain.word(1)) == 0  # repeated
        assert m.pay(40, chain.word(40)) == 39  # PAYs lost between
        assert m.pay(12, chain.word(12)) == 0  # overtaken
        assert m.pay(units, chain.word(units)) == units - 40
        assert m.index == units


def test_bad_payments_change_nothing():
    chain = T.Chain(b"t" * 32, 64)
    m = T.Meter(chain.anchor, 64)
    m.pay(5, chain.word(5))
    raises(T.BadPayment, m.pay, 6, chain.word(7))
    raises(T.BadPayment, m.pay, 65, chain.word(64))
    raises(T.BadPayment, m.pay, 6, bytes(32))
    assert m.index == 5 and m.pay(6, chain.word(6)) == 1
    raises(T.BadPayment, chain.word, 65)
    raises(T.BadPayment, chain.word, -1)
    raises(T.BadPayment, T.Chain, b"short", 64)
    raises(T.BadPayment, T.Chain, bytes(32), 63)


def test_pay_and_credit_payloads():
    ticket = (b"k" * 8, b"a" * 32, b"o" * 64, 1024)
    assert T.parse_pay(T.pack_pay(3, 700, b"w" * 32, ticket)) == (3, 700, b"w" * 32, ticket)
    assert T.parse_pay(T.pack_pay(255, 0, b"w" * 32)) == (255, 0, b"w" * 32, None)
    assert T.parse_credit(T.pack_credit(1 << 20, 5, 0x80000001, 2)) == (1 << 20, 5, 0x80000001, 2)
    for n in (0, 34, 36, 140, 142, 1000):
        raises(T.BadPayment, T.parse_pay, bytes(n))
    raises(T.BadPayment, T.parse_pay, T.pack_pay(0, 0, bytes(32), (bytes(8), bytes(32), bytes(64), 100)))
    raises(T.BadPayment, T.parse_credit, bytes(15))
