"""The book of tickets: nothing that was opened is lost, doubled or redeemed at the wrong gateway."""

import json
import os

from harness import raises

from bwrouter.agent import results, tickets
from bwrouter.platform import files

GATEWAY, OTHER = "aa" * 32, "bb" * 32
A, B, C = "0a" * 32, "0b" * 32, "0c" * 32


def folders(name):
    """Empty run and state folders under build/."""
    base = __file__[: __file__.rfind("/tests/")] + "/build/tmp/unit-" + name
    for kind in ("/run", "/state"):
        files.make_dirs(base + kind)
        for file in os.listdir(base + kind):
            os.remove(base + kind + "/" + file)
    return base + "/run", base + "/state"


def ask(id):
    return {"t": "open", "id": id, "key": "11" * 8, "anchor": "22" * 32, "output": "33" * 64, "units": 64}


def meter(id, index, final=False):
    return {"t": "meter", "id": id, "index": index, "preimage": "%02x" % index * 32, "final": final}


def ok(id, **more):
    more.update({"id": id, "ok": True})
    return more


def opened_book(name, *ids):
    book = tickets.Book(*folders(name))
    for id in ids:
        assert book.open(ask(id)) is None
    book.opened([ok(id) for id in ids], GATEWAY)
    return book


def receipt(units):
    return "00" * 66 + units.to_bytes(8, "little").hex() + "00" * 72


def test_open_once_answered_always():
    book = tickets.Book(*folders("open"))
    assert book.open(ask(A)) is None and book.open(ask(A)) is None and book.open(ask(B)) is None
    ids, asked = book.to_open()
    assert ids == [A, B] and sorted(asked[0]) == ["anchor", "key", "output", "units"]
    answers = book.opened([ok(A), {"id": B, "ok": False, "code": "forged"}, ok(C)], GATEWAY)
    assert answers == [
        {"t": "opened", "id": A, "ok": True, "units": 64},
        {"t": "opened", "id": B, "ok": False, "code": "forged"},
    ]
    assert book.to_open() == ([], [])
    assert book.open(ask(A)) == answers[0]
    assert book.refused == {"forged": 1}


def test_redeem_until_confirmed():
    book = opened_book("redeem", A)
    assert book.to_redeem() == (None, [])
    assert not book.meter(meter(A, 3))
    assert book.meter(meter(A, 5, True))
    assert not book.meter(meter(A, 4)) and book.unredeemed() == 5
    gateway, items = book.to_redeem()
    assert gateway == GATEWAY and items == [{"id": A, "index": 5, "preimage": "05" * 32, "final": True}]
    assert book.to_redeem()[1] == items  # no answer: the same again
    assert book.redeemed([ok(A, index=3)], GATEWAY) == [{"t": "redeemed", "id": A, "index": 3}]
    assert book.unredeemed() == 2 and A in book.held
    book.redeemed([ok(A, index=5)], GATEWAY)
    assert book.held == {} and book.redeemed_units == 5


def test_units_are_not_counted_twice():
    book = opened_book("twice", A)
    book.meter(meter(A, 7))
    for _ in range(3):
        book.redeemed([ok(A, index=7)], GATEWAY)
    assert book.redeemed_units == 7 and book.unredeemed() == 0


def test_each_gateway_gets_its_own():
    book = opened_book("gateways", A)
    book.open(ask(B))
    book.opened([ok(B)], OTHER)
    book.meter(meter(A, 1))
    book.meter(meter(B, 2))
    first, items = book.to_redeem()
    assert len(items) == 1
    book.redeemed([ok(items[0]["id"], index=items[0]["index"])], first)
    second, items = book.to_redeem()
    assert {first, second} == {GATEWAY, OTHER} and len(items) == 1


def test_a_refused_reading_is_told_and_dropped():
    book = opened_book("refused", A)
    book.meter(meter(A, 9, True))
    answers = book.redeemed([{"id": A, "ok": False, "code": "preimage"}], GATEWAY)
    assert answers == [{"t": "redeemed", "id": A, "ok": False, "code": "preimage", "index": 9}]
    assert book.held == {} and book.refused == {"preimage": 1}


def test_a_refusal_that_may_pass_is_kept():
    book = opened_book("later", A)
    book.meter(meter(A, 9, True))
    book.redeemed([{"id": A, "ok": False, "code": "busy"}], GATEWAY)
    assert book.to_redeem()[1][0]["index"] == 9


def test_a_final_meter_without_units_is_answered():
    book = opened_book("finish", A)
    book.meter(meter(A, 0, True))
    assert book.finish() == [{"t": "redeemed", "id": A, "index": 0}]
    assert book.held == {}


def test_the_gateway_hears_that_a_ticket_is_final():
    """So that the buyer gets the rest back at once: with the last reading, or after it when the end came later."""
    book = opened_book("final", A, B, C)
    book.meter(meter(A, 3))
    assert book.to_redeem() == (GATEWAY, [{"id": A, "index": 3, "preimage": "03" * 32}])
    book.meter(meter(A, 3, True))  # while the reading is on its way
    book.redeemed([ok(A, index=3)], GATEWAY)
    book.meter(meter(B, 0, True))
    book.meter(meter(C, 64, True))  # used up: there is no rest
    book.finish()
    book.redeemed([ok(C, index=64)], GATEWAY)
    gateway, items = book.to_redeem()
    assert gateway == GATEWAY and items == [
        {"id": A, "index": 3, "preimage": "03" * 32, "final": True},
        {"id": B, "index": 0, "preimage": "22" * 32, "final": True},
    ]
    assert book.redeemed([ok(A, index=3), {"id": B, "ok": False, "code": "unknown"}], GATEWAY) == []
    assert book.to_redeem() == (None, []) and book.held == {} and book.redeemed_units == 3 + 64


def test_a_ticket_that_no_circuit_waits_for_is_given_back():
    """A circuit may end before the gateway's word: what nobody was asked about is dropped, what may have been opened is
    said to be final, or the buyer would wait a day for it, and the book keep it for ever."""
    book = tickets.Book(*folders("ended"))
    for id in (A, B, C):
        book.open(ask(id))
    assert not book.meter(meter(A, 0, True)) and book.to_open()[0] == [B, C]
    assert not book.meter(meter(B, 0, True))
    assert book.to_open()[0] == [B, C]  # no answer came: only the gateway knows whether it opened it
    book.open(ask(C))
    book.opened([ok(B), ok(C)], GATEWAY)
    assert not book.held[C][5]
    book.finish()
    assert book.to_redeem() == (GATEWAY, [{"id": B, "index": 0, "preimage": "22" * 32, "final": True}])
    book.redeemed([ok(B, index=0)], GATEWAY)
    assert list(book.held) == [C] and book.to_redeem() == (None, [])


def test_a_relay_that_dies_while_the_gateway_is_asked():
    book = tickets.Book(*folders("died"))
    book.open(ask(A))
    book.to_open()
    book.open(ask(B))
    book.relay_restarted()
    assert list(book.asked) == [A]
    book.opened([ok(A)], GATEWAY)
    book.finish()
    assert book.held == {} and [item["final"] for item in book.to_redeem()[1]] == [True]
    book.open(ask(B))
    book.to_open()
    book.relay_restarted()
    book.open(ask(B))  # shown again by a new circuit
    book.opened([ok(B)], GATEWAY)
    assert not book.held[B][5]


def test_a_meter_of_an_unknown_ticket_is_redeemed_anywhere():
    book = tickets.Book(*folders("unknown"))
    book.meter(meter(C, 4, True))
    assert book.to_redeem() == ("", [{"id": C, "index": 4, "preimage": "04" * 32, "final": True}])


def test_kill_and_start_again():
    run, state = folders("kill")
    book = tickets.Book(run, state)
    book.open(ask(A))
    book.opened([ok(A)], GATEWAY)
    book.meter(meter(A, 6))
    book.save()
    again = tickets.Book(run, state)
    assert again.to_redeem() == book.to_redeem() and again.unredeemed() == 6
    assert not again.held[A][5]  # the relay may live on
    again.relay_restarted()
    again.redeemed([ok(A, index=6)], GATEWAY)
    assert again.held == {}


def test_flash_is_written_at_the_end_and_survives_the_loss_of_ram():
    run, state = folders("flash")
    book = tickets.Book(run, state)
    book.open(ask(A))
    book.opened([ok(A)], GATEWAY)
    book.meter(meter(A, 6))
    book.save()
    assert os.listdir(state) == []
    book.redeemed([ok(A, index=2, receipt=receipt(77))], GATEWAY)
    book.save(True)
    assert os.listdir(state) == [tickets.FILE]
    os.remove(run + "/" + tickets.FILE)
    again = tickets.Book(run, state)
    assert again.unredeemed() == 4 and again.receipts == {GATEWAY: receipt(77)}


def test_nothing_to_redeem_writes_no_flash():
    run, state = folders("quiet")
    book = tickets.Book(run, state)
    book.open(ask(A))
    book.opened([ok(A)], GATEWAY)
    book.save(True)
    assert os.listdir(state) == []


def test_a_damaged_book_does_not_hide_the_other():
    run, state = folders("damaged")
    book = tickets.Book(run, state)
    book.open(ask(A))
    book.opened([ok(A)], GATEWAY)
    book.meter(meter(A, 6))
    book.save(True)
    for text in (b"", b"{", b"[]", b'{"tickets": {"x": 1}}', json.dumps({"tickets": 5}).encode()):
        files.write_atomic(run + "/" + tickets.FILE, text)
        assert tickets.Book(run, state).unredeemed() == 6, text


def test_the_highest_receipt_is_kept():
    book = opened_book("receipts", A)
    for units in (5, 300, 40):
        book.redeemed([ok(A, index=1, receipt=receipt(units))], GATEWAY)
    assert results.units(book.receipts[GATEWAY]) == 300


def test_malformed_messages_raise():
    book = opened_book("malformed", A)
    raises(KeyError, book.open, {"t": "open", "id": B})
    raises(KeyError, book.meter, {"t": "meter", "id": A})
    assert B not in book.asked


def test_the_book_is_bounded():
    book = tickets.Book(*folders("bounded"))
    for i in range(tickets.ASKED_MOST + 10):
        book.open(ask("%064x" % i))
    assert len(book.asked) == tickets.ASKED_MOST
    assert len(book.to_open()[0]) == tickets.BATCH
    for i in range(tickets.HELD_MOST + 10):
        book.meter(meter("%064x" % i, 1))
    assert len(book.held) == tickets.HELD_MOST
    for entry in book.held.values():
        entry[0], entry[1], entry[4], entry[5] = GATEWAY, 64, 1, True
    book.finish()
    assert len(book.closing) == tickets.CLOSING_MOST and book.held == {}


def test_a_full_book_is_written_and_read():
    run, state = folders("full")
    book = tickets.Book(run, state)
    for i in range(tickets.HELD_MOST):
        book.meter(meter("%064x" % i, 1 + i % 60))
    book.save(True)
    with open(state + "/" + tickets.FILE) as file:
        assert len(json.load(file)["tickets"]) == tickets.HELD_MOST
    assert tickets.Book(run, state).held == book.held
