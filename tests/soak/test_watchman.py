"""What the watchman looks for is found: each invariant is fed what holds, then what breaks it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from bwclient.tickets import Ticket
from bwgateway.database import Database
from bwverifier.duty import Standing
from tests.gateway.postgres import postgres
from tests.lab.proc import Process, Processes
from tests.soak.keeper import Keeper, Sample
from tests.soak.town import Town
from tests.soak.verifiers import Found
from tests.soak.watchman import BROKEN, GAP_MOST_S, LATENCY_P95_MS, Thief, Watchman, grown

CAPTURE = {"outer": 0, "inner4": 0, "inner6": 0, "text": 0, "path": 0, "head": 0, "inner4_places": []}


def watchman(**town):
    """A watchman of a town of which these parts are asked."""
    return Watchman(cast(Town, SimpleNamespace(**town)))


def told(man):
    """The breaches without their times."""
    return [line.split(": ", 1)[1] for line in man.breaches]


def test_memory_and_descriptors_that_grow_are_found():
    keeper = Keeper("x", "x", lambda name: Processes().start(name, ["true"]))

    def life(kb, fds, connections=lambda i: 0):
        return [Sample(i * 5.0, kb(i), fds(i), connections(i)) for i in range(60)]

    assert grown(keeper, life(lambda i: 50_000, lambda i: 20)) == [(1.0, "")]
    assert "memory of x" in grown(keeper, life(lambda i: 50_000 + 2000 * i, lambda i: 20))[0][1]
    assert "descriptors of x" in grown(keeper, life(lambda i: 50_000, lambda i: 20 + 2 * i))[0][1]
    assert grown(keeper, life(lambda i: 50_000 + 2000 * i, lambda i: 20)[:8]) == []
    come = life(lambda i: 50_000, lambda i: 20, lambda i: 10 + i // 40 * 30)
    assert "connections of x: 10 to 40" in grown(keeper, come)[0][1]
    keeper.peers = 10  # as many have lost another server
    assert grown(keeper, come) == [(1.0, "")]


def test_a_connection_whose_peer_is_gone_counts_as_a_descriptor_that_is_held():
    keeper = Keeper("x", "x", lambda name: Processes().start(name, ["true"]), peers=1)
    keeper.process = cast(Process, SimpleNamespace(pid=os.getpid(), alive=lambda: True))
    with socket.create_server(("127.0.0.1", 0)) as server:
        keeper.sample()
        with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
            keeper.sample()
            client.close()
            keeper.sample()
    before, open_, half = keeper.samples
    assert (open_.descriptors, open_.connections) == (before.descriptors, before.connections + 2)
    assert (half.descriptors, half.connections) == (before.descriptors + 1, before.connections)


SAMPLES = {
    "a ticket with more units used or refunded than it has":
        "insert into tickets values ('\\x01','\\x01',1,64,'\\x02',60,'\\x03',0,0,false,5)",
    "an account that had more tickets than deposit": "insert into accounts values ('0x1',1,10,11,0,null,0)",
    "relays credited with other units than tickets show": "insert into relays values ('\\x02',1,5,0,0)",
    "more units opened than issued": "insert into tickets values ('\\x01','\\x01',1,64,'\\x02',0,'\\x03',0,0,false,0)",
    "more settled than redeemed": "insert into relays values ('\\x02',1,5,6,0)",
}  # fmt: skip


@pytest.mark.slow
def test_each_invariant_of_the_ledger_finds_its_breach():
    with postgres() as url:
        db = Database(url)
        asyncio.run(db.migrate())
        with psycopg.connect(url.replace("+psycopg", "")) as c:
            for what, sql in BROKEN:
                assert c.execute(sql).fetchone() == (0,), f"of an empty ledger: {what}"
            assert set(SAMPLES) == {what for what, _ in BROKEN}
            for what, sql in BROKEN:
                c.execute(SAMPLES[what])
                assert c.execute(sql).fetchone() != (0,), f"not found: {what}"
                c.rollback()


def test_units_that_go_back_are_a_breach():
    rows = [[(b"r", 10)], [(b"r", 9)]]
    man = watchman(query=lambda sql: rows.pop(0) if "group by" in sql else [(0,)])
    man.ledger()
    assert not man.breaches
    man.ledger()
    assert told(man) == ["ledger: 72 has 9 units and had 10"]


def test_a_row_that_breaks_the_ledger_is_told_once():
    count = {"n": 0}
    man = watchman(query=lambda sql: [] if "group by" in sql else [(count["n"] if sql == BROKEN[0][1] else 0,)])
    man.ledger()
    assert not man.breaches
    for count["n"] in (1, 2):
        man.ledger()
    assert told(man) == [f"ledger: {BROKEN[0][0]} (1)"]


@pytest.mark.parametrize(("root", "spent", "deposited", "breach"), [
    (90, 100, 100, ""), (91, 100, 100, "chain: a root of 91 wei above"), (0, 101, 100, "chain: vouchers released 101 wei"),
])  # fmt: skip
def test_what_the_chain_promises_is_covered(root, spent, deposited, breach):
    man = watchman()
    man.promises(root, spent, deposited)
    assert [line[: len(breach)] for line in told(man)] == ([breach] if breach else [])


@pytest.mark.parametrize(("redeemed", "done", "holds"), [
    (10_000, {}, True), (9_750, {}, False), (10_250, {}, False), (9_750, {"kill client": 1}, False),
    (9_750, {"kill client": 2}, True), (9_500, {"kill verifier": 1, "kill gateway": 9}, False),
    (9_530, {"kill verifier": 1}, True),
])  # fmt: skip
def test_what_is_paid_is_redeemed_but_for_what_kills_may_lose(redeemed, done, holds):
    man = watchman()
    man.redeemed(10_000, redeemed, done)
    assert bool(man.breaches) != holds


def test_units_paid_count_over_all_lives_of_clients_and_verifiers():
    client, verifier = {"pid": 1, "paid": {"a": 3, "b": 4}}, {"pid": 7, "paid_units": 10}
    town = {"buyers": {"b": None}, "tunnel": lambda name: client, "verifiers": {"v": SimpleNamespace(status=lambda: verifier)}}
    man = watchman(**town)
    man.paid()
    client.update(paid={"a": 5})
    verifier.update(paid_units=12)
    man.paid()
    client.update(pid=2, paid={"a": 1})
    verifier.update(pid=8, paid_units=2)
    man.paid()
    assert man.paid_units() == 5 + 12 + 1 + 2


def test_two_owners_of_a_ticket_are_a_breach(monkeypatch):
    """Both at once, and one after the other."""
    routers = {name: SimpleNamespace(id=name) for name in ("r1", "r2")}
    man, thief, winners = watchman(), Thief.__new__(Thief), {"r1"}
    thief.town, thief.watchman = cast(Town, SimpleNamespace(routers=routers, urls=["u"])), man
    thief.tries, thief.won, thief.owner = 0, 0, {}
    thief.tickets = [cast(Ticket, SimpleNamespace(id=bytes(32)))]
    monkeypatch.setattr(thief, "_open", lambda r, url, ticket, answers: answers.append((r.id, r.id in winners, "")))
    chance = SimpleNamespace(choice=lambda pool: pool[0], sample=lambda pool, k: pool, choices=lambda urls, k: urls * k)
    thief.steal(chance)
    thief.steal(chance)
    assert not man.breaches and thief.won == 2
    winners = {"r2"}
    thief.steal(chance)
    winners = {"r1", "r2"}
    thief.steal(chance)
    assert told(man) == [
        "double spend: ticket 00000000 has changed its owner", "double spend: ticket 00000000 opened by 2 relays",
    ]  # fmt: skip


def test_the_web_server_on_a_buyers_line_is_a_leak(tmp_path):
    file = tmp_path / "report.json"
    town = {"lab": SimpleNamespace(nodes={"web": SimpleNamespace(v4="198.18.41.2")}), "buyers": {"b": None}}
    man = watchman(**town, report=lambda name: file)
    file.write_text(json.dumps(CAPTURE))
    man.links()
    assert not man.breaches and not man.controls()
    file.write_text(json.dumps(CAPTURE | {"outer": 1}))
    man.links()
    assert told(man) == ["leak: the web server shows on the link of b"] and man.controls() == 1


def test_a_process_that_grows_is_a_breach_while_it_runs():
    keeper = Keeper("x", "kind", lambda name: Processes().start(name, ["true"]))
    man = watchman(keepers={"x": keeper})
    keeper.samples = [Sample(i * 5.0, 50_000, 20) for i in range(60)]
    man.flat()
    assert not man.breaches and man.growth()[0] == {"kind": 1.0}
    keeper.samples = [Sample(i * 5.0, 50_000 + 2000 * i, 20) for i in range(60)]
    man.flat()
    keeper.samples = [Sample(i * 5.0, 50_000 + 2000 * i, 20 + 2 * i) for i in range(61)]
    man.flat()
    assert [line.split(":")[1] for line in told(man)] == [" memory of x", " descriptors of x"]


def test_a_buyer_without_a_tunnel_is_a_breach_after_a_minute():
    up = {"b1": True, "b2": False}
    man = watchman(buyers=up, tunnel_up=up.get)
    man.tunnels(100.0)
    man.tunnels(100.0 + GAP_MOST_S)
    up["b2"] = True
    man.tunnels(101.0 + GAP_MOST_S)
    up["b2"] = False
    man.tunnels(102.0 + GAP_MOST_S)
    man.tunnels(150.0 + GAP_MOST_S)
    assert not man.breaches
    for more in (163.0, 164.0):
        man.tunnels(more + GAP_MOST_S)
    assert told(man) == ["b2 is without a tunnel for 61 s"]


def test_late_first_bytes_and_long_gaps_are_breaches():
    traffic = {"first_ms": [20.0] * 95 + [LATENCY_P95_MS] * 6, "longest_gap_s": GAP_MOST_S}
    man = watchman(buyers={"b": None}, traffic=lambda name: traffic)
    man.felt()
    assert not man.breaches
    traffic["first_ms"] = [20.0] * 90 + [LATENCY_P95_MS + 1] * 6
    man.felt()
    assert not man.breaches  # too few to say
    traffic["first_ms"] = [20.0] * 95 + [LATENCY_P95_MS + 1] * 6
    traffic["longest_gap_s"] = GAP_MOST_S + 1
    man.felt()
    assert told(man) == ["latency: p95 of the first byte 3001 ms", "latency: a buyer had nothing for 61 s"]


def audit(**more):
    return {"epoch": 7, "state": "judged", "reason": "good", "measurements": [{}, {}]} | more


GOOD = Standing(7, 10_000, 0, 0, 0, 312, 1)


def test_what_audits_come_to_is_counted_and_judged():
    found = Found([[audit(), audit(epoch=8, state="missed", reason="slow")], [audit(state="revealed")]], {"aa": GOOD}, {}, 3)
    assert not list(found.breaches())
    summary = found.summary()
    assert summary["audits"] == 3 and summary["audit_epochs"] == 2 and summary["reveals"] == 2 and summary["measurements"] == 6
    assert summary["audit_reasons"] == {"good": 2, "slow": 1} and summary["verdicts"] == summary["relays_judged"] == 1
    assert summary["audit_states"] == {"judged": 1, "missed": 1, "revealed": 1} and summary["verifier_delays"] == 3


@pytest.mark.parametrize(("found", "breach"), [
    (Found([[audit()]], {"aa": Standing(0, 0, 0, 0, 0, 0, 0)}, {}), "audits: no verdict came of 1"),
    (Found([[audit()]], {"aa": Standing(7, 1, 1, 2, 9, 0, 2)}, {}), "audits: aa, which is honest, is suspended"),
    (Found([[audit(reason="corrupt")]], {"aa": GOOD}, {}), "audits: 1 found wrong bytes, and nobody sends any"),
    (Found([[audit()]], {"aa": GOOD}, {"v1-2": 20.0}),
     "audits: v1-2 lost 20 BWT of its bond, for a report that it did not reveal"),
])  # fmt: skip
def test_what_must_not_come_of_audits_is_a_breach(found, breach):
    assert list(found.breaches()) == [breach]
