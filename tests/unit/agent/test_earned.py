"""Earned today and this month: the days' turns, restarts, clocks that jump, other keys."""

import json
import os

from bwrouter.agent.earned import Earned
from bwrouter.platform import files

FOLDER = "/tmp/bwrouter-earned-%d-" % (os.getpid() if hasattr(os, "getpid") else 1)
RAM, FLASH = FOLDER + "ram", FOLDER + "flash"
WEI = 10**18


def day(month, number):
    return (2026, month, number, 12, 0, 0, 0)


def fresh(billing_day=1):
    files.remove(RAM)
    files.remove(FLASH)
    return Earned(billing_day, RAM, FLASH)


def says(earned, of_day, of_month):
    assert earned.status() == {"day_wei": str(of_day), "month_wei": str(of_month)}


def test_a_day_and_a_month_turn():
    e = fresh()
    assert e.status() is None
    e.note(7 * WEI, day(3, 30))
    says(e, 0, 0)
    e.note(9 * WEI, day(3, 30))
    says(e, 2 * WEI, 2 * WEI)
    e.note(9 * WEI, day(3, 31))
    e.note(10 * WEI, day(3, 31))
    says(e, WEI, 3 * WEI)
    e.note(11 * WEI, day(4, 1))  # what came between the last look and midnight counts for the new day
    says(e, WEI, WEI)


def test_the_month_is_the_providers():
    e = fresh(15)
    e.note(0, day(3, 14))
    e.note(5, day(3, 14))
    e.note(6, day(3, 15))
    says(e, 1, 1)
    e.note(8, day(4, 14))
    says(e, 2, 3)


def test_it_outlives_agent_and_power():
    e = fresh()
    e.note(1, day(3, 1))
    e.note(4, day(3, 1))
    says(Earned(1, RAM, FLASH), 3, 3)
    assert files.read(FLASH) is None  # flash is written at a turn of the day alone
    e.note(4, day(3, 2))
    e.note(9, day(3, 2))
    files.remove(RAM)
    e = Earned(1, RAM, FLASH)
    e.note(9, day(3, 2))
    says(e, 5, 8)


def test_clocks_and_other_keys():
    e = fresh()
    e.note(5, None)
    assert e.status() is None
    e.note(5, day(3, 5))
    e.note(6, day(3, 5))
    e.note(7, day(3, 2))  # set back: no day begins anew
    e.note(8, day(3, 5))
    says(e, 3, 3)
    e.note(1, day(3, 5))  # less than before: another relay's sum
    says(e, 0, 0)


def test_damage_is_forgotten():
    for text in (b"", b"{", b"[]", b"7", b'{"last":"x"}', json.dumps({"last": "1", "day_from": "1", "month_from": "1", "day": 3, "month": ""}).encode()):
        fresh()
        files.write_atomic(RAM, text, 0o644, False)
        assert Earned(1, RAM, FLASH).status() is None
    files.remove(RAM)
    files.remove(FLASH)
