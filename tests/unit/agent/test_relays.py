"""The relay's processes: their parts of the rate, and their counters as one."""

from harness import raises

from bwrouter.agent import relays
from bwrouter.platform import clock


def test_split_is_max_min_fair():
    assert relays.split(900, [None, None, None]) == [300, 300, 300]
    assert relays.split(900, [100, None, None]) == [100, 400, 400]
    assert relays.split(900, [700, 100, None]) == [400, 100, 400]
    # What nobody wants is everybody's.
    assert relays.split(900, [100, 100, 100]) == [300, 300, 300]
    # Nothing for who is not there.
    assert relays.split(900, [0, None, None]) == [8, 450, 450]
    assert relays.split(900, [0, 100, 0]) == [8, 900, 8]
    assert relays.split(16, [None] * 4) == [8, 8, 8, 8]


def test_split_never_gives_out_more_than_there_is():
    wants = (None, 0, 1, 50, 333, 1000, 5000)
    for kbps in (100, 999, 100000):
        for a in wants:
            for b in wants:
                for c in wants:
                    parts = relays.split(kbps, [a, b, c])
                    assert sum(parts) <= kbps + 3 * relays.LEAST_KBPS, (kbps, a, b, c, parts)


def sent(r, worker, mbit, queued=0):
    """A process says that it sent at this rate for 100 ms."""
    r._at[worker] = clock.add(clock.ms(), -100)
    total = r._sent[worker][0] + mbit * 12500
    return r.on_sent(worker, {"bytes": total, "packets": 1, "queued": queued})


def test_who_needs_more_gets_what_the_others_leave():
    r = relays.Relays("/tmp", 2)
    r.heard(0)
    r.heard(1)
    assert r.split(20000) == [10000, 10000]
    assert sent(r, 0, 10) is None  # the other one has not answered
    assert sent(r, 1, 1) == {"bytes": 10 * 12500 + 12500, "packets": 2, "queued": 0}
    parts = r.split(20000)
    assert parts[0] > 14000 and parts[1] > 2000 and sum(parts) <= 20000
    sent(r, 0, 14)
    sent(r, 1, 0, queued=5)  # wants more than it has
    assert r.split(20000) == [10000, 10000]


def test_a_dead_process_is_not_waited_for():
    r = relays.Relays("/tmp", 2)
    r.heard(0)
    r.split(20000)
    assert sent(r, 0, 10)["bytes"] == 125000
    r.heard(1)
    r.split(20000)
    assert sent(r, 0, 10) is None
    r._heard[1] = clock.add(clock.ms(), -relays.ALIVE_MS)
    assert r.split(20000)[0] >= 19990
    assert sent(r, 0, 10)["bytes"] == 375000


def test_one_process_is_asked_nothing_new():
    r = relays.Relays("/run", 1)
    assert r.paths == ["/run/relay.sock"] and r.split(777) == [777]
    said = {"bytes": 5, "packets": 1, "reflex": True, "blind": ""}
    assert r.on_sent(0, said) is said and r.cpu_ms() is None
    assert r.status() is None
    r.heard(0)
    r.on_stats(0, {"t": "stats", "circuits": 3, "drops": {"tag": 1}})
    status = r.status()
    assert status["circuits"] == 3 and status["drops"] == {"tag": 1} and "workers" not in status


def test_counters_add_up():
    r = relays.Relays("/run", 3)
    assert r.paths[2] == "/run/relay2.sock"
    for worker in (0, 2):
        r.heard(worker)
        r.on_stats(worker, {"t": "stats", "worker": worker, "runtime": "x", "circuits": 2 + worker, "cells_in": 10,
                            "drops": {"tag": 1, "size" if worker else "replay": 4}})  # fmt: skip
    status = r.status()
    assert (status["circuits"], status["cells_in"], status["runtime"]) == (6, 20, "x")
    assert status["drops"] == {"tag": 2, "size": 4, "replay": 4} and "worker" not in status
    assert [(w["circuits"], w["alive"]) for w in status["workers"]] == [(2, True), (0, False), (4, True)]


def test_messages_name_a_process_that_there_is():
    r = relays.Relays("/run", 2)
    assert r.number({}) == 0 and r.number({"worker": 1}) == 1
    for wrong in (2, -1, "1", None, 1.0):
        assert "relay process" in str(raises(ValueError, r.number, {"worker": wrong}))
