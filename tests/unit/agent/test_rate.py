"""The controller as traces: what the household sends in, what the relay may send out."""

from bwrouter.agent import rate

SETTINGS = {"uplink_kbps": 40000, "reserve_pct": 5, "cap_kbps": 0, "floor_kbps": 64}
FREE = 38000


def run(settings, allowed, trace):
    out = []
    for household in trace:
        allowed, reason = rate.step(settings, allowed, household)
        out.append((allowed, reason))
    return out


def with_(**changes):
    settings = dict(SETTINGS)
    settings.update(changes)
    return settings


def test_it_falls_at_once():
    assert run(SETTINGS, FREE, [30000]) == [(8000, "household")]
    assert run(SETTINGS, FREE, [10**6]) == [(rate.LEAST_KBPS, "household")]


def test_it_grows_slowly_and_reaches_the_limit():
    steps = run(SETTINGS, rate.LEAST_KBPS, [0] * 40)
    rates = [kbps for kbps, _ in steps]
    assert all([b - a <= FREE // rate.RISE for a, b in zip([rate.LEAST_KBPS] + rates, rates)])
    assert steps[0][1] == "rising" and steps[-1] == (FREE, "uplink")
    assert rates.index(FREE) * rate.TICK_MS <= 6000


def test_allowed_and_household_never_exceed_the_uplink_less_its_reserve():
    allowed = rate.LEAST_KBPS
    for i in range(400):
        household = (i * 7919) % 41000
        allowed, _ = rate.step(SETTINGS, allowed, household)
        assert allowed + household <= FREE or allowed == rate.LEAST_KBPS


def test_cap():
    settings = with_(cap_kbps=5000)
    assert rate.limit_kbps(settings) == (5000, "cap")
    assert run(settings, 5000, [0, 33000, 35000]) == [(5000, "cap"), (5000, "cap"), (3000, "household")]
    # A cap above the uplink is no cap.
    assert rate.limit_kbps(with_(cap_kbps=90000)) == (FREE, "uplink")


def test_without_a_counter_the_floor_holds():
    assert run(SETTINGS, FREE, [None]) == [(64, "counters")]


def kbps_bytes(kbps, ms):
    return kbps * ms // 8


def test_household_is_wan_less_own():
    h = rate.Household(SETTINGS)
    wan = own = 0
    seen = []
    for i in range(1, 41):
        now = i * 200
        wan += kbps_bytes(12000, 200)
        own += kbps_bytes(9000, 200)
        if i % 5 == 0:
            h.stats(now, wan, own)
        seen.append(h.tick(now, wan, 9000))
    assert seen[0] is None  # one reading is no rate
    assert seen[1] == 12000  # before the relay has said anything, all counts as the household's
    assert seen[12:] == [3000] * len(seen[12:])


def test_a_burst_shows_within_one_tick():
    h = rate.Household(SETTINGS)
    wan = own = 0
    for i in range(1, 21):
        wan += kbps_bytes(9000, 200)
        own += kbps_bytes(9000, 200)
        if i % 5 == 0:
            h.stats(i * 200, wan, own)
        h.tick(i * 200, wan, 9000)
    assert h.kbps == 0
    wan += kbps_bytes(29000, 200)
    assert h.tick(21 * 200, wan, 9000) == 20000
    # A little more than is allowed is the bucket's and the clock's unevenness.
    wan += kbps_bytes(9000 + SETTINGS["uplink_kbps"] // rate.MARGIN, 200)
    assert h.tick(22 * 200, wan, 9000) == 0


def test_a_silent_relay_has_no_bytes_of_its_own():
    h = rate.Household(SETTINGS)
    h.stats(0, 0, 0)
    h.stats(1000, 1000000, 1000000)
    wan = 1000000
    for now in range(1000, 6000, 200):
        wan += kbps_bytes(5000, 200)
        last = h.tick(now, wan, 8000)
    assert last == 5000


def test_a_counter_that_vanishes_or_restarts_is_unknown():
    h = rate.Household(SETTINGS)
    assert [h.tick(t, wan, 64) for t, wan in ((0, 100), (200, 5100), (400, None), (600, 100), (800, 5100))] == [
        None, 200, None, None, 200,
    ]  # fmt: skip
    assert h.tick(1000, 10, 64) is None


def test_the_relays_counters_restart():
    h = rate.Household(SETTINGS)
    h.stats(0, 0, 500000)
    h.stats(1000, 1000000, 1000)  # a new relay: no estimate from this pair
    assert h._exact_at is None
    h.stats(2000, 2000000, 501000)
    assert h._exact == 500000 * 8 // 1000
