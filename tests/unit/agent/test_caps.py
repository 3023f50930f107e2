"""What the owner sets: hours, pause, quotas; and wrong settings by name."""

import json
import os

from harness import raises

from bwrouter.agent import idle, offload, quota, schedule
from bwrouter.agent.history import History
from bwrouter.platform import clock, config, files

FOLDER = "build/tmp"
LOCAL = (2026, 11, 25, 12, 0, 0, 2)
MB = 1000000


def paths(name):
    files.make_dirs(FOLDER)
    base = "%s/quota-%s-%d" % (FOLDER, name, clock.us())
    return base + ".ram", base + ".flash"


def made(ram, flash, **changes):
    s = {"quota_day_mb": 100, "quota_month_mb": 1000, "billing_day": 1}
    s.update(changes)
    return quota.Quota(s, ram, flash)


def gone(*names):
    for name in names:
        files.remove(name)


def test_hours():
    spans = schedule.spans(["mon-thu 22:00-06:00", "sat,sun 0:00-24:00"])
    opened = [(d, m) for d in range(7) for m in (0, 359, 360, 1319, 1320) if schedule.open_at(spans, d, m)]
    assert (0, 1320) in opened and (0, 0) not in opened and (1, 0) in opened and (1, 359) in opened
    assert (1, 360) not in opened and (5, 360) in opened and (6, 1320) in opened
    assert schedule.open_at([], 3, 3)
    over = schedule.spans(["sun 23:00-01:00"])
    assert schedule.open_at(over, 6, 1400) and schedule.open_at(over, 0, 59) and not schedule.open_at(over, 0, 60)
    assert schedule.open_at(schedule.spans(["22:00-06:00"]), 4, 30)
    assert schedule.open_at(schedule.spans(["sat-mon 8:00-9:00"]), 0, 480)


def test_wrong_hours_are_named():
    bads = ("mon", "mon 25:00-26:00", "mon 8-9", "xyz 8:00-9:00", "mon 8:00-8:00", "mon 8:61-9:00", 7, "mon 24:00-1:00")
    for bad in bads:
        assert "setting hours" in str(raises(ValueError, schedule.spans, [bad])), bad
    for rules in (["mon 8:00-12:00", "mon-tue 11:00-13:00"], ["sun 22:00-06:00", "mon 5:00-7:00"]):
        assert "overlap" in str(raises(ValueError, schedule.spans, rules))


def test_pause():
    assert schedule.paused_until(b'{"until": 2000}', 1000) == 2000
    for text in (None, b"", b"{}", b"[]", b'{"until": "x"}', b'{"until": 999}', b'{"until": 99999999999}', b"\xff"):
        assert schedule.paused_until(text, 1000) == 0


def test_wrong_settings_are_named():
    for name, given in (
        ("uplink_kbps", {"uplink_kbps": 63}), ("cap_kbps", {"uplink_kbps": 1000, "cap_kbps": 1001}),
        ("cap_kbps", {"cap_kbps": 7}), ("quota_day_mb", {"quota_day_mb": 11, "quota_month_mb": 10}),
        ("hours", {"hours": ["mon 8:00-12:00", "mon 9:00-10:00"]}), ("cap_kbps", {"cap_kbps": -1}),
        ("share_pct", {"share_pct": 0}), ("billing_day", {"billing_day": 29}), ("quota_day_mb", {"quota_day_mb": -5}),
    ):  # fmt: skip
        wrong = raises(config.ConfigError, lambda given=given: idle.check_settings(config.settings(given)))
        assert "setting " + name in str(wrong)
    idle.check_settings(config.settings({"uplink_kbps": 0, "cap_kbps": 5000, "hours": ["22:00-06:00"]}))


def test_a_day_and_a_billing_month():
    ram, flash = paths("periods")
    q = made(ram, flash, billing_day=15)
    q.add(30 * MB, LOCAL)
    assert (q.used_day(), q.used_month(), q.left()) == (30 * MB, 30 * MB, 70 * MB)
    q.add(80 * MB, LOCAL)
    assert q.left() == 0
    q.add(0, (2026, 11, 26, 0, 0, 0, 3))
    assert (q.used_day(), q.used_month(), q.left()) == (0, 110 * MB, 100 * MB)
    assert quota.month_key((2026, 1, 14), 15) == "2025-12" and quota.month_key((2026, 1, 15), 15) == "2026-01"
    assert quota.month_key((2026, 3, 1), 28) == "2026-02" and quota.month_key((2024, 2, 29), 28) == "2024-02"
    q.add(5, (2026, 12, 14, 23, 59, 0, 0))
    assert q.used_month() == 110 * MB + 5
    q.add(7, (2026, 12, 15, 0, 0, 0, 1))
    assert q.used_month() == 7


def test_a_clock_that_jumps_neither_loses_nor_doubles():
    ram, flash = paths("clock")
    q = made(ram, flash)
    q.add(10 * MB, None)  # before NTP, the clock says 1970
    assert q.used_day() == 10 * MB and q.left() == 90 * MB
    q.add(5 * MB, LOCAL)
    assert q.used_day() == 15 * MB
    q.add(1 * MB, (2027, 3, 1, 0, 0, 0, 0))  # a wrong time server
    q.add(2 * MB, LOCAL)
    assert q.used_day() == 17 * MB and q.used_month() == 17 * MB
    for day in range(1, 10):
        q.add(MB, (2026, 12, day, 0, 0, 0, 0))
    assert len(q.days) <= quota.KEEP_DAYS + 1 and q.used_month() == 9 * MB
    # A day of 23 or of 25 hours (DST) is one day: periods are local dates.
    q.add(MB, (2027, 3, 28, 1, 59, 59, 6))
    q.add(MB, (2027, 3, 28, 3, 0, 0, 6))
    assert q.used_day() == 2 * MB


def test_flash_is_written_once_an_hour_and_not_without_traffic():
    ram, flash = paths("flash")
    q = made(ram, flash)
    writes = 0
    for minute in range(600):
        q.add(1000 if minute < 300 else 0, LOCAL)
        writes += q.save(minute * 60)
    assert writes == 6  # the first, one an hour, and the last bytes after it
    off = made(ram + "x", flash + "x", quota_day_mb=0, quota_month_mb=0)
    off.add(1000, LOCAL)
    assert not off.save(10**6) and files.read(flash + "x") is None
    gone(ram, flash)


def test_a_power_cut_loses_next_to_nothing():
    ram, flash = paths("power")
    q = made(ram, flash, quota_day_mb=10000, quota_month_mb=0)
    q.add(0, LOCAL)
    units, sent = 5000, 0
    q.redeemed(units, LOCAL)
    for second in range(3000):  # 50 minutes at 40 Mbit/s, flash written at the beginning only
        q.add(5 * MB // 4, LOCAL)
        sent += 5 * MB // 4
        units = 5000 + sent // 70300
        q.redeemed(units, LOCAL)
        q.save(1000 + second)
    assert q.save(1000 + 3599) is False
    files.remove(ram)  # the power goes
    again = made(ram, flash, quota_day_mb=10000, quota_month_mb=0)
    again.redeemed(units, None)  # the clock is not set yet
    again.redeemed(units, LOCAL)
    again.redeemed(units, LOCAL)  # and never twice
    lost = abs(sent - again.used_day()) / sent
    print("lost", lost)
    assert lost < 0.01
    gone(ram, flash)


def test_the_agent_alone_starting_anew_loses_nothing():
    ram, flash = paths("agent")
    q = made(ram, flash)
    q.add(40 * MB, LOCAL)
    q.save(100)
    q.add(7 * MB, LOCAL)
    assert q.save(101) is False
    again = made(ram, flash)
    again.add(0, LOCAL)
    again.redeemed(10**6, LOCAL)
    assert again.used_day() == 47 * MB
    again.add(1, LOCAL)
    assert again.save(200) is False and again.save(3701) is True  # the hour counts on
    gone(ram, flash)


def test_damaged_files_are_no_quota_used():
    ram, flash = paths("damage")
    for text in ("", "{", "[]", "{}", '{"days":{"x":"y"}}', json.dumps({"days": 1})):
        with open(flash, "w") as f:
            f.write(text)
        assert made(ram, flash).used_day() == 0
    gone(flash)


def test_offloading():
    soft = "table inet fw4 {\n\tflowtable ft {\n\t\thook ingress priority filter\n\t\tdevices = { lan0, wan0 }\n\t}\n}\n"
    hard = soft.replace("\t}\n}", "\t\tflags offload\n\t}\n}")
    assert offload.judge("", False, False) == offload.NONE
    assert offload.judge(soft, False, False) == offload.judge("", False, True) == offload.SOFTWARE
    assert offload.judge(hard, False, False) == offload.judge(soft, True, True) == offload.HARDWARE
    files.make_dirs(FOLDER)
    name = FOLDER + "/conntrack-%d" % clock.us()
    with open(name, "w") as f:
        f.write("ipv4 2 tcp 6 [ASSURED] mark=0\n" * 200 + "ipv4 2 udp 17 src=1 [HW_OFFLOAD] mark=0\n")
    assert offload.detect(name, "") == offload.HARDWARE and offload.detect(name + "x", "") == offload.NONE
    os.remove(name)


def test_history_says_what_the_household_lost():
    h = History()
    for i in range(1000):
        relay = 1000 if i % 2 else 0
        h.add(1800000000 + i, 10000, relay, i % 100 == 1, 9000 if relay else 2000)
    verdict = h.verdict()
    assert verdict == {"household_bytes": 10000000, "relay_bytes": 500000, "lost_pct": 0.1, "added_ms": 7.0}
    assert History().verdict()["lost_pct"] is None
    for i in range(400):
        h.add(1900000000 + i * 300, 1, 1, False, -1)
    assert len(h.slots) == 288
