"""`make sim`: the same inputs give the same bytes, pools keep their product, and the document is the one that is written now."""

import numpy as np
import pytest

from bench.sim import __main__ as sim
from bench.sim import dark, load, pool
from bench.sim.inputs import MEASURED, Input, Missing, constants, measured
from bench.sim.plot import lines, ticks

FIGURES = {"issue_per_cpu_s": 3000.0, "redeem_per_cpu_s": 9000.0, "open_cpu_ms": 3.0, "relay_ms_per_mb": 3.5, "open_wal_bytes": 900.0}
INPUTS = {f"{b}.{k}": Input(FIGURES.get(k, 50_000.0), "a test") for b, k in MEASURED} | constants()


def test_a_million_routers_by_hand():
    full = load.load(load.Scale(), INPUTS)
    assert full["relayed_bytes_per_s"] == 375e9
    assert full["tickets_per_s"] == pytest.approx(375e9 / (64 << 20))
    assert full["directory_whole_bytes"] == 297e6
    assert full["redeem_requests_per_s"] == 3e5 / INPUTS["redeem_s"].value
    assert full["audit_gas"] == 2 * 50_000 + 10 * 2 * 50_000
    half = load.load(load.Scale(buyers=5e4, bits=5e11), INPUTS)
    assert half["tickets_per_s"] * 2 == pytest.approx(full["tickets_per_s"])


def test_pools_are_the_contracts():
    tokens, bwt = np.array([1000.0]), np.array([2.0])
    after_tokens, after_bwt = pool.buy(tokens, bwt, np.array([10.0]), 0.003)
    assert after_tokens * after_bwt > tokens * bwt, "the fee stays in the pool"
    sold, more, less = pool.sell(tokens, bwt, np.array([10.0]), 0.003, 0.001)
    assert sold == 10 and more * less > tokens * bwt
    sold, more, less = pool.sell(tokens, bwt, np.array([1000.0]), 0.003, 0.001)
    assert sold == 0 and more == tokens and less == bwt, "no sale ends below the floor"


def test_the_crowd_raises_its_own_price_most_and_emission_stays_below_the_burn():
    market = pool.flash_crowd(INPUTS)
    again = pool.flash_crowd(INPUTS)
    assert np.array_equal(market.price, again.price)
    at = int(pool.CROWD[0] * 60)
    assert market.price[at:, 0].max() > 1.5 * market.price[at - 1, 0]
    assert market.price[at:, 0].max() > 1.5 * market.price[at:, 1:].max()
    assert 0 < market.minted < market.burned
    assert (market.price >= INPUTS["PRICE_FLOOR"].value * 0.999).all()


def test_a_dark_region_breaks_the_paths_that_it_must():
    times, told = dark.recovery(buyers=20_000)
    assert told["hit"] == pytest.approx(1 - (1 - dark.SHARE) ** 3, abs=0.01)
    assert told["exit_lost"] == pytest.approx(dark.SHARE / told["hit"], abs=0.02)
    assert (np.diff(times) >= 0).all() and times[0] > 0
    none, _ = dark.recovery(buyers=20_000, share=0.01)
    assert np.median(none) <= np.median(times)


def test_plots_are_text_that_stays_the_same():
    series = {"a <b>": ([1.0, 10.0], [5.0, 50.0])}
    svg = lines("t & u", "x", "y", series, True, True)
    assert svg == lines("t & u", "x", "y", series, True, True)
    assert "<b>" not in svg and "&lt;b&gt;" in svg and "t &amp; u" in svg
    assert ticks(0, 10, False) == [0, 2, 4, 6, 8, 10] and ticks(1, 1000, True) == [1, 10, 100, 1000]


def test_the_document_is_what_the_command_writes(tmp_path, monkeypatch):
    try:
        measured()
    except Missing as e:
        pytest.skip(str(e))
    monkeypatch.setattr(sim, "DOCS", tmp_path)
    assert sim.main() == 0
    docs = sim.ROOT / "docs"
    for made in [tmp_path / "scale.md", *(tmp_path / "scale").glob("*.svg")]:
        kept = docs / made.relative_to(tmp_path)
        assert kept.exists() and kept.read_text() == made.read_text(), f"run make sim: {kept.name} is of other figures"
