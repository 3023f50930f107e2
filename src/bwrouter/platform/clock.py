"""Time. `ms`/`us` are monotonic and wrap on MicroPython: compare only through `diff`."""

import os
import time

try:
    ms = time.ticks_ms
    us = time.ticks_us
    diff = time.ticks_diff
    add = time.ticks_add
    sleep_ms = time.sleep_ms
except AttributeError:

    def ms():
        return time.monotonic_ns() // 1_000_000

    def us():
        return time.monotonic_ns() // 1_000

    def diff(later, earlier):
        return later - earlier

    def add(ticks, delta):
        return ticks + delta

    def sleep_ms(n):
        time.sleep(n / 1000)


def uptime():
    """Seconds since boot, int."""
    with open("/proc/uptime") as f:
        return int(f.read().split(".")[0])


# A router without a battery clock boots in 1970 (or at its image's build time) and learns the time from NTP.
_EPOCH_SET = 1_767_225_600  # 2026-01-01


def unix():
    """Seconds since 1970, int."""
    return int(time.time())


def is_set():
    """Whether the wall clock can be believed at all."""
    return unix() >= _EPOCH_SET


def zone(path="/etc/TZ"):
    """Take the time zone from OpenWrt's file where the environment has none: procd passes no TZ to its services."""
    if os.getenv("TZ"):
        return
    try:
        with open(path) as f:
            text = f.read().strip()
    except OSError:
        return
    if text:
        os.putenv("TZ", text)
        if hasattr(time, "tzset"):
            time.tzset()


def local():
    """Local (year, month, day, hour, minute, second, weekday from Monday 0), None while the clock is not set."""
    return time.localtime()[:7] if is_set() else None
