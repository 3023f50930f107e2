"""The owner's caps on a running agent (MicroPython): pause, hours, quota over restarts, the counter, bad settings."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.parts import ROOT, AgentProcess, RelayPeer, until

pytestmark = pytest.mark.slow  # each runs an agent as a process

DEAD = {"url": "http://127.0.0.1:9", "key": "ee" * 32}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = ROOT / "build/tmp" / f"caps-{os.getpid()}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Rig:
    """An agent whose relay the test plays: it has sent `own` bytes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.agent = AgentProcess(folder, [DEAD], **settings)
        self.own = 0
        self.agent.start()
        self.peer = RelayPeer(self.agent)
        self.peer.hello(True)

    def last(self, reflex: bool = True, blind: str = "") -> dict[str, Any]:
        """The next rate, answered as a relay does."""
        self.peer.messages.clear()
        message = self.peer.expect("rate")
        sent = {"t": "sent", "bytes": self.own, "packets": 0, "reflex": reflex, "blind": blind, "queued": 1}
        self.peer.tell(sent)
        return message

    def reason(self, wanted: str, **answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = until(wanted, lambda: (m := self.last(**answer))["reason"] == wanted and m, 15)
        return found

    def rate(self) -> dict[str, Any]:
        """`rate` of the status, empty before the first."""
        found: dict[str, Any] = self.agent.status().get("rate", {})
        return found

    def day_bytes(self) -> int:
        return int(self.rate().get("quota", {}).get("day_bytes", -1))

    def stop(self) -> None:
        self.peer.close()
        self.agent.stop()


def test_pause(folder: Path) -> None:
    rig = Rig(folder)
    try:
        assert rig.reason("uplink")["kbps"] == 19000
        assert rig.agent.cli("pause", "1h").returncode == 0
        assert rig.reason("schedule")["kbps"] == 0
        assert rig.rate()["paused_until"] > time.time() + 3000
        assert rig.agent.cli("pause", "off").returncode == 0
        rig.reason("uplink")
    finally:
        rig.stop()


def test_hours(folder: Path) -> None:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    today = time.localtime().tm_wday
    for day, reason in ((days[(today + 3) % 7], "schedule"), (f"{days[today]},{days[(today + 1) % 7]}", "uplink")):
        rig = Rig(folder, hours=[day + " 0:00-24:00"])
        try:
            assert (rig.reason(reason)["kbps"] == 0) == (reason == "schedule")
        finally:
            rig.stop()


def test_quota_over_kill_stop_and_reboot(folder: Path) -> None:
    rig = Rig(folder, quota_day_mb=100)
    try:
        rig.last()
        rig.own = 60_000_000
        until("booked", lambda: rig.last() and rig.day_bytes() == 60_000_000)
        written = json.loads((rig.agent.state_dir / "quota.json").read_text())
        rig.agent.kill()
        (rig.agent.run_dir / "agent.sock").unlink()
        (rig.agent.run_dir / "status.json").unlink()
        rig.own += 1_000_000  # the relay goes on meanwhile
        rig.agent.start()
        rig.peer.hello(True)
        until("kept", lambda: rig.last() and rig.day_bytes() > 60_000_000)
        assert rig.day_bytes() == 61_000_000
        rig.own = 99_990_000
        until("slow", lambda: rig.last()["kbps"] < 1000)
        rig.own = 100_000_000
        until("stopped", lambda: (m := rig.last())["reason"] == "quota" and m["kbps"] == 0)
        assert rig.agent.stop() == 0
        assert json.loads((rig.agent.state_dir / "quota.json").read_text()) == written  # not twice an hour
        (rig.agent.run_dir / "quota.json").unlink()  # a reboot
        rig.agent.start()
        until("after the reboot", lambda: rig.day_bytes() >= 0)
        assert rig.day_bytes() == next(iter(written["days"].values()))
    finally:
        rig.stop()


def test_the_relay_gets_the_counter_until_it_reads_it(folder: Path) -> None:
    rig = Rig(folder)
    try:
        until("the counter's file", lambda: rig.last(reflex=False) and rig.peer.fds)
        assert int(os.pread(rig.peer.fds[0], 32, 0)) >= 0
        assert os.readlink(f"/proc/self/fd/{rig.peer.fds[0]}").endswith("/lo/statistics/tx_bytes")
        assert rig.reason("uplink", reflex=True)["line_kbps"] == 19000
        # It gave up on a counter that stands still: a small fixed rate, and the reason for it.
        assert rig.reason("offload", reflex=False, blind="still")["kbps"] == 1000
        assert until("status", lambda: rig.last(reflex=False, blind="still") and rig.rate().get("offload"))
    finally:
        rig.stop()


def test_it_rests_while_nothing_is_relayed_and_is_back_at_once(folder: Path) -> None:
    rig = Rig(folder)
    sent: dict[str, Any] = {"t": "sent", "bytes": 0, "packets": 0, "reflex": True, "blind": "", "queued": 0}

    try:
        rig.reason("uplink")

        def rates(seconds: float) -> int:
            end, seen = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                rig.peer.messages.clear()
                rig.peer.pump()
                for _ in rig.peer.of("rate"):
                    seen += 1
                    rig.peer.tell(sent)
            return seen

        until("rest", lambda: rates(2) <= 3, 30)
        sent["bytes"] = 5000
        rig.peer.messages.clear()
        rig.peer.tell(sent)
        began = time.monotonic()
        rig.peer.expect("rate")
        assert time.monotonic() - began < 0.6, "it slept on"
        assert rates(2) >= 6
    finally:
        rig.stop()


def test_an_interface_that_does_not_exist(folder: Path) -> None:
    rig = Rig(folder, wan="nosuch0", shaper=True)
    try:
        message = rig.reason("counters", reflex=False)
        assert (message["kbps"], message["line_kbps"]) == (64, 0)
        error = until("status", lambda: rig.rate().get("shaping", {}).get("error"))
        assert "setting wan" in error and "nosuch0" in error
    finally:
        rig.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cap_kbps": -1}, "setting cap_kbps: -1 is not allowed"),
        ({"uplink_kbps": 1000, "cap_kbps": 2000}, "setting cap_kbps: 2000 is above uplink_kbps"),
        ({"uplink_kbps": 5}, "setting uplink_kbps"),
        ({"hours": ["mon 8:00-12:00", "mon 9:00-10:00"]}, "overlap"),
        ({"hours": ["8-9"]}, "setting hours"),
        ({"share_pct": 101}, "setting share_pct"),
        ({"billing_day": 31}, "setting billing_day"),
        ({"quota_month_mb": -1}, "setting quota_month_mb"),
    ],
)
def test_wrong_settings_end_the_agent_with_2(folder: Path, settings: dict[str, Any], words: str) -> None:
    agent = AgentProcess(folder, [DEAD], **settings)
    done = agent.cli("agent")
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not (agent.run_dir / "agent.sock").exists()


def test_ticks_need_no_process(folder: Path) -> None:
    """And what they cost is printed: under a hundredth of a core is 10 ticks."""
    rig = Rig(folder)
    try:
        rig.reason("uplink")

        def used() -> int:
            words = Path(f"/proc/{rig.agent.pid}/stat").read_text().split(")")[-1].split()
            return int(words[11]) + int(words[12])

        before, children = used(), rig.agent.children()
        for _ in range(50):
            rig.last()
        print(f"agent: {used() - before} ticks of 10 ms in 10 s")
        assert rig.agent.children() == children  # no fork
    finally:
        rig.stop()
