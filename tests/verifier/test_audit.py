"""What a report is made of: which circuits are measured, what counts, and what covert audits do to it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from bwclient.path import choose
from bwclient.settings import SettingsError
from bwrouter.wire.descriptor import ANCHORED, Descriptor
from bwverifier import settings
from bwverifier.audit import FULL_TRIES, Auditor, Seen, conclude, entries
from bwverifier.covert import NoPath, Through
from bwverifier.probe import BUSY, CORRUPT, GOOD, SLOW, UNREACHABLE, Measurement

CLAIM = 40_000


def relay(number: int, rate: int = 100_000, exit: bool = False) -> Descriptor:
    v4 = bytes((198, 18, number, 2))
    return Descriptor(bytes([number]) * 32, os.urandom(32), os.urandom(32), v4, 51900, rate=rate, flags=int(exit),
                      until=2**31)  # fmt: skip


TARGET = relay(1, CLAIM)
OTHERS = [relay(n) for n in range(2, 6)]


class Script:
    """Answers each measurement from a function of its path and place."""

    def __init__(self, answer: Callable[[list[Descriptor], int], dict[str, Any]]) -> None:
        self.answer, self.paths = answer, list[tuple[list[Descriptor], int]]()

    def measure(self, path: list[Descriptor], target: int, ms: int, expect_kbps: int = 0) -> Measurement:
        self.paths.append((path, target))
        return Measurement(path[target].relay, os.urandom(32), place=target, **self.answer(path, target))


def audit(answer: Callable[[list[Descriptor], int], dict[str, Any]], covert: list[Seen] | None = None) -> Any:
    script = Script(answer)
    auditor = Auditor(script, 3, 3)
    report = auditor.audit(TARGET, [TARGET, *OTHERS], lambda id: 100_000, CLAIM, 300, covert or [])
    return report, script.paths


def test_an_honest_relay_is_measured_once_each_way():
    report, paths = audit(lambda path, place: {"reason": GOOD, "kbps": CLAIM})
    assert (report.reason, report.kbps) == (GOOD, CLAIM)
    assert [place for _, place in paths] == [1, 0] and all(len(path) == 3 for path, _ in paths)
    assert all(len({d.relay for d in path}) == 3 for path, _ in paths)


def test_a_relay_behind_an_anchor_is_measured_over_public_entries_only():
    hidden, beside = relay(1, CLAIM), relay(6)
    hidden.flags |= ANCHORED
    beside.flags |= ANCHORED
    anchor = relay(7)
    anchor.v4 = hidden.v4
    script = Script(lambda path, place: {"reason": GOOD, "kbps": CLAIM})
    auditor = Auditor(script, 3, 3)
    for _ in range(30):
        report = auditor.audit(hidden, [hidden, beside, anchor, *OTHERS], lambda id: 100_000, CLAIM, 300)
        assert report is not None and report.reason == GOOD
    assert all(place == 1 and not path[0].anchored and path[0].v4 != hidden.v4 for path, place in script.paths)
    assert not any(path[2].anchored for path, _ in script.paths)
    assert auditor.audit(hidden, [hidden, beside], lambda id: 100_000, CLAIM, 300) is None, "nobody could reach it"


def test_fast_for_verifiers_addresses_only_is_slow():
    """A router that serves verifiers, whose addresses it knows, and lets others wait."""
    report, paths = audit(lambda path, place: {"reason": GOOD, "kbps": CLAIM if place == 0 else CLAIM // 4})
    assert (report.reason, report.kbps) == (SLOW, CLAIM // 4)
    assert len({path[0].relay for path, place in paths if place}) > 1  # not by the word of one entry
    assert "over an entry" in report.why


def test_a_helper_behind_an_entry_is_found_out_directly():
    """Only direct circuits show where datagrams come from (probe.py leaves a helper's out)."""
    report, _ = audit(lambda path, place: {"reason": GOOD, "kbps": CLAIM if place else 5000, "elsewhere": 700 if not place else 0})
    assert (report.reason, report.kbps) == (SLOW, 5000) and "700 datagrams from another address" in report.why


def test_a_slow_entry_accuses_nobody():
    slow = OTHERS[0].relay
    report, paths = audit(lambda path, place: {"reason": GOOD, "kbps": 9000 if path[0].relay == slow else CLAIM})
    assert report.reason == GOOD
    assert entries(TARGET, [relay(7, CLAIM), TARGET], lambda id: 100_000) == []
    wide = relay(8)
    assert entries(TARGET, [wide], lambda id: CLAIM) == []  # claims enough, but was audited at less
    assert entries(TARGET, [wide], lambda id: 0) == [] and entries(TARGET, [wide], lambda id: 90_000) == [wide]


def test_a_relay_full_of_customers_is_asked_again_at_another_time(monkeypatch: pytest.MonkeyPatch):
    """A proof gives way to them: who carried a buyer's download in each burst was suspended as slow."""
    monkeypatch.setattr("bwverifier.audit.FULL_SECONDS", (0.0, 0.01))
    full = {"reason": GOOD, "kbps": 900, "carried_kbps": CLAIM}
    seen = {0: 0, 1: 0}

    def answer(path: list[Descriptor], place: int) -> dict[str, Any]:
        seen[place] += 1
        return full if seen[place] <= 5 else {"reason": GOOD, "kbps": CLAIM}

    report, paths = audit(answer)
    assert (report.reason, report.kbps, len(paths)) == (GOOD, CLAIM, 12)
    report, paths = audit(lambda path, place: full)  # who says so each time is judged by what it showed
    assert (report.reason, report.kbps, len(paths)) == (SLOW, 900, 2 * (3 + FULL_TRIES))
    report, paths = audit(lambda path, place: full | {"carried_kbps": CLAIM // 4})
    assert report.reason == SLOW and len(paths) == 6, "customers took little of it"


def test_other_hops_failures_say_nothing():
    tries = iter(range(100))

    def answer(path: list[Descriptor], place: int) -> dict[str, Any]:
        return {"reason": UNREACHABLE, "failed_hop": 2} if next(tries) % 2 else {"reason": GOOD, "kbps": CLAIM}

    assert audit(answer)[0].reason == GOOD
    assert audit(lambda path, place: {"reason": UNREACHABLE, "failed_hop": 2})[0] is None
    report, paths = audit(lambda path, place: {"reason": UNREACHABLE, "failed_hop": place, "broke": "no answer"})
    assert report.reason == UNREACHABLE and len(paths) == 6
    assert report.why == "unreachable: no proof over 6 circuits: no answer"


def test_corrupt_and_busy_at_once():
    assert audit(lambda path, place: {"reason": CORRUPT, "wrong": 3})[0].reason == CORRUPT
    report, paths = audit(lambda path, place: {"reason": BUSY})
    assert report.reason == BUSY and len(paths) == 2


def test_who_serves_only_proofs_is_slow():
    """A router that answers PROVE at full rate and drops what buyers send."""
    fast = lambda path, place: {"reason": GOOD, "kbps": CLAIM}
    assert audit(fast, [Seen(1.0), Seen(0.97)])[0].reason == GOOD
    report, _ = audit(fast, [Seen(0.0)])
    assert (report.reason, report.kbps) == (SLOW, 0)
    assert audit(fast, [Seen(0.2), Seen(0.3), Seen(1.0)])[0].kbps == int(CLAIM * 0.3)
    assert audit(fast, [Seen(0.2), Seen(1.0)])[0].reason == GOOD  # one bad session is no proof


def test_the_lower_kind_counts_and_the_numbers_are_told():
    m = lambda kbps: Measurement(TARGET.relay, bytes(32), reason=GOOD, kbps=kbps)
    report = conclude({"over an entry": [m(30_000), m(38_000)], "direct": [m(39_000)]}, CLAIM)
    assert report.kbps == 38_000 and report.reason == GOOD
    assert "38000 of 40000 kbit/s over an entry, the best of 2" in report.why and "39000 direct" in report.why


class Base:
    """A buyer's choice."""

    def __init__(self, relays: list[Descriptor]) -> None:
        self.relays, self.blamed = relays, list[bytes]()

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        return choose(self.relays, 3, last=last, apart=apart)

    def blame(self, relay: bytes) -> None:
        self.blamed.append(relay)

    def absolve(self, relay: bytes) -> None:
        self.blamed.remove(relay)

    def learn(self, c: Any) -> None: ...
    def hurry(self) -> None: ...


def test_covert_paths_hide_the_verifier_from_the_relay():
    exits = [relay(20, exit=True), relay(21, exit=True)]
    pool = [TARGET, *OTHERS, *exits]
    for _ in range(200):
        path = Through(Base(pool), TARGET).choose()
        assert path[0].relay != TARGET.relay and TARGET.relay in (d.relay for d in path)
        assert len({d.relay for d in path}) == 3 and path[-1].exit
    exit = Through(Base(pool), exits[0])
    for _ in range(50):  # an exit is audited as an inner hop: what leaves it would show where it goes
        path = exit.choose()
        assert path[1].relay == exits[0].relay and path[2].relay == exits[1].relay
    with pytest.raises(NoPath):
        Through(Base([*OTHERS, exits[0]]), exits[0]).choose()
    with pytest.raises(NoPath, match="no exit"):
        Through(Base([TARGET, *OTHERS]), TARGET).choose()  # at once: nothing is waited for


def test_blame_ends_a_session_only_when_it_is_the_relays():
    base = Base([TARGET, *OTHERS, relay(20, exit=True)])
    through = Through(base, TARGET)
    through.blame(OTHERS[0].relay)
    assert base.blamed == [OTHERS[0].relay] and not through.stop
    for _ in range(3):
        through.blame(TARGET.relay)
        through.absolve(TARGET.relay)  # it answers late
    assert through.stop and through.blamed == 3 and base.blamed == [OTHERS[0].relay]
    through.absolve(OTHERS[0].relay)
    assert not base.blamed


def test_settings_name_what_is_wrong(tmp_path):
    good = {"gateway": {"url": "http://h:1", "key": "ab" * 32}, "rpc_url": "http://h:2"}
    file = tmp_path / "v.json"
    file.write_text(json.dumps(good))
    s = settings.load(str(file))
    assert s.state_dir == str(tmp_path / ".") and s.client().wallet_key_file.endswith("buyer.key")
    wrong = {"burst_ms": 5, "speed": 1, "covert_url": "ftp://x", "buyer_key_file": "verifier.key", "regions": []}
    for name, value in wrong.items():
        file.write_text(json.dumps(good | {name: value}))
        with pytest.raises(SettingsError, match=name):
            settings.load(str(file))
    file.write_text("{")
    with pytest.raises(SettingsError, match="not JSON"):
        settings.load(str(file))
