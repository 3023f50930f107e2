"""Each check of `make run` holds for a good run and fails for the fault that it is there for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.lab import checks
from tests.lab.checks import UNIT_WEI, Facts, Hop


def link(**over: object) -> dict[str, object]:
    zero = dict.fromkeys(("outer", "inner4", "inner6", "text", "path", "head", "dropped", "truncated"), 0)
    counts = {"packets_to": 10, "packets_from": 10, "relay_bytes_to": 1100, "relay_bytes_from": 100}
    return {**zero, **counts, "inner4_places": [], "web_bytes_to": 0, "web_bytes_from": 0, **over}


def good() -> Facts:
    hops = [
        Hop(n, n * 32, "micropython", True, 100, 100, "0x" + n, 0, UNIT_WEI * 90, UNIT_WEI * 100, 10.0, 1800)
        for n in ("r1", "r2", "dc")
    ]
    seen = link(outer=10, web_bytes_to=100, web_bytes_from=1000)
    links = {"buyer": link(), "r1": link(relay_bytes_to=2400), "r2": link(), "dc": seen, "web": copy.deepcopy(seen)}
    return Facts(
        checks.LOOKED, 1000, 1000, "ab" * 32, "ab" * 32, 2.0, hops, "dc" * 32, "0x" + "11" * 32, "0x" + "11" * 32,
        UNIT_WEI * 300, links, "198.18.41.2", ["10.213.0.2"], ("dc", "web"),
    )  # fmt: skip


def test_a_good_run_holds() -> None:
    assert [c.name for c in checks.verdicts(good()) if not c.ok] == []


def _set(path: str, value: object) -> Callable[[Facts], None]:
    """Change one fact: `hops.1.paid` and the like."""

    def change(f: Facts) -> None:
        *way, last = path.split(".")
        at: object = f
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part] if isinstance(at, dict) else getattr(at, part)
        if isinstance(at, dict):
            at[last] = value
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            setattr(at, last, value)

    return change


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("file", "got", 999),
        ("file", "sha256_got", "cd" * 32),
        ("circuit", "exit_id", "r1" * 32),
        ("circuit", "hops.1.id", "r1" * 32),
        ("circuit", "hops", []),
        ("runtime", "hops.2.runtime", "cpython"),
        ("runtime", "hops.0.binary", False),
        ("paid", "hops.0.redeemed", 99),
        ("paid", "hops.1.paid", 0),
        ("epoch root", "root_chain", "0x" + "00" * 32),
        ("epoch root", "root_posted", ""),
        ("payouts", "hops.2.balance", 0),
        ("payouts", "hops.2.gross", UNIT_WEI * 99),
        ("deposit", "spent", UNIT_WEI * 299),
        ("privacy", "links.r1.outer", 1),
        ("privacy", "links.buyer.inner6", 1),
        ("privacy", "links.buyer.text", 1),
        ("privacy", "links.r2.path", 1),
        ("privacy", "links.r2.head", 1),
        ("privacy", "links.r1.inner4", 1),
        ("privacy", "links.dc.outer", 0),
        ("privacy", "may_see", ()),
        ("captures", "links.r2.dropped", 1),
        ("captures", "links.web.truncated", 1),
        ("captures", "links.buyer.packets_to", 0),
        ("clean", "left", ["namespace x"]),
    ],
)
def test_each_fault_is_found(name: str, path: str, value: object) -> None:
    facts = good()
    _set(path, value)(facts)
    assert name in [c.name for c in checks.verdicts(facts) if not c.ok]


def test_a_run_that_stopped_early_does_not_hold() -> None:
    for stage in (checks.STARTED, checks.DOWNLOADED, checks.SETTLED):
        facts = good()
        facts.reached = stage
        assert None in [c.ok for c in checks.verdicts(facts)]
        assert checks.verdicts(facts)[-1].ok
    assert not [c for c in checks.verdicts(Facts()) if c.ok and c.name != "clean"]


def test_four_bytes_by_chance_are_no_leak_and_a_header_is_one() -> None:
    facts, web, inner = good(), "c6122902", "0ad50002"
    facts.links["r1"].update(inner4=1, inner4_places=["00" * 8 + web + "77" * 8])
    assert checks.check_clear(facts).ok
    facts.links["r1"]["inner4_places"] = ["00" * 4 + inner + web + "77" * 8]
    assert not checks.check_clear(facts).ok
    facts.links["r1"]["inner4_places"] = ["00" * 8 + web + inner + "77" * 4]
    assert not checks.check_clear(facts).ok


def test_figures_come_from_the_captures() -> None:
    facts = good()
    facts.homes = {"r1": 30.0, "r2": 31.0, "r3": 38.0}
    told = checks.result(facts, True, 12.34)
    assert told["overhead_pct"] == pytest.approx((1100 / 1000 - 1) * 100, abs=0.01)
    assert told["overhead_both_ways_pct"] == pytest.approx((1200 / 1100 - 1) * 100, abs=0.01)
    assert told["wire_per_payload"] == [1.2, 1.3, 1.2]
    assert told["paid_units"] == told["redeemed_units"] == 300
    assert told["home_mbps"] == {"hops": 30.5, "others": 38.0}
    assert told["claimed_wei"] == str(3 * 90 * UNIT_WEI)
