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


def test_a_full_line_makes_the_relay_give_way():
    assert rate.step(SETTINGS, 20000, 100, True) == (20000 // rate.YIELD, "household")
    assert rate.step(SETTINGS, 20000, 37000, True) == (1000, "household")
    assert rate.step(SETTINGS, 20, 0, True) == (rate.LEAST_KBPS, "household")
    h = rate.Household(SETTINGS)
    trace(h, [(0, 38000)] * 10)
    assert not h.full
    trace(h, [(2000, 38000)])
    assert not h.full  # a single tick may be a bucket's burst
    trace(h, [(2000, 38000)])
    assert h.full
    trace(h, [(2000, 38000)])
    assert not h.full  # judged anew, from after the yield
    trace(h, [(30000, 9500)] * 2)
    assert h.full is False or h.kbps >= 30000


def kbps_bytes(kbps, ms):
    return kbps * ms // 8


def trace(household, steps):
    """Feed `steps` of (household, own) kbit/s, one a tick, after what was fed before; the estimates."""
    seen = []
    for house, own in steps:
        now, wan, sent = getattr(household, "fed", (0, 0, 0))
        now += rate.TICK_MS
        wan += kbps_bytes(house + own, rate.TICK_MS)
        sent += kbps_bytes(own, rate.TICK_MS)
        household.fed = (now, wan, sent)
        household.tick(now, wan)
        household.own(now + 3, wan, sent)
        seen.append(household.kbps)
    return seen


def test_household_is_wan_less_own():
    h = rate.Household(SETTINGS)
    seen = trace(h, [(3000, 9000)] * 10)
    assert seen[0] is None  # one reading is no rate
    assert seen[1:] == [3000] * 9


def test_a_burst_shows_within_one_tick_and_fades_within_a_second():
    h = rate.Household(SETTINGS)
    trace(h, [(0, 9000)] * 10)
    assert trace(h, [(20000, 9000)]) == [20000]
    fading = trace(h, [(0, 9000)] * 6)
    assert fading[0] == 4000 and fading[-1] == 0
    # A little is not believed before a second has shown it: the two counters are never read at the same time.
    little = SETTINGS["uplink_kbps"] // rate.MARGIN
    rising = trace(h, [(little, 9000)] * 6)
    assert rising[0] == little // 5 and rising[-1] == little


def test_uneven_counters_average_out():
    h = rate.Household(SETTINGS)
    wan = own = 0
    for i in range(1, 41):
        wan += kbps_bytes(9000, 200)
        own += kbps_bytes(9000, 200)
        late = kbps_bytes(9000, 15) * (i % 3)  # the relay's counter is read up to 30 ms after the WAN's
        h.tick(i * 200, wan)
        h.own(i * 200, wan, own + late)
        assert i < 7 or h.kbps <= 9000 * 30 // 1000


def test_a_silent_relay_has_no_bytes_of_its_own():
    h = rate.Household(SETTINGS)
    trace(h, [(0, 8000)] * 6)
    now, wan, _ = h.fed
    for _ in range(25):
        now += 200
        wan += kbps_bytes(5000, 200)
        last = h.tick(now, wan)
    assert last == 5000


def test_a_counter_that_vanishes_or_restarts_is_unknown():
    h = rate.Household(SETTINGS)
    assert [h.tick(t, wan) for t, wan in ((0, 100), (200, 5100), (400, None), (600, 100), (800, 5100))] == [
        None, 200, None, None, 200,
    ]  # fmt: skip
    assert h.tick(1000, 10) is None
    assert h.own(1200, None, 5) is None


def test_the_relays_counters_restart():
    h = rate.Household(SETTINGS)
    trace(h, [(1000, 8000)] * 6)
    now, wan, _ = h.fed
    assert h.own(now + 200, wan + kbps_bytes(1000, 200), 0) is None  # a new relay: no estimate from this pair
    assert h.own(now + 400, wan + kbps_bytes(1000, 400), 0) == 1000


def test_readings_too_close_say_nothing():
    h = rate.Household(SETTINGS)
    trace(h, [(1000, 8000)] * 6)
    now, wan, own = h.fed
    assert h.own(now + 20, wan + 100000, own) is None and h.kbps == 1000
