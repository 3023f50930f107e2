"""First light, end to end, with the code of `make run` on a small file; and what a run leaves when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bwclient import meter
from tests.lab import net, pool, proc
from tests.lab.checks import UNIT_WEI

RUN = [sys.executable, "-m", "tests.lab.run"]
PHI = 0.1  # contracts/src/Parameters.sol: PHI_BPS


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "RUN_SECONDS": "120", **extra}


def run(**extra: str) -> tuple[int, list[str], dict[str, Any]]:
    """Exit status, lines and the JSON object of one run."""
    done = subprocess.run(RUN, cwd=proc.ROOT, env=environment(**extra), capture_output=True, text=True, timeout=150)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    told: dict[str, Any] = json.loads(lines[-1])
    return done.returncode, lines, told


def test_a_file_through_three_routers_is_paid_and_claimed() -> None:
    before = list(map(net.host_state, net.HOST_STATE))
    size = 3_000_000
    status, lines, told = run(RUN_BYTES=str(size))
    assert status == 0 and told["ok"] is True, "\n".join(lines)
    assert told["bytes"] == size and told["hops"] == 3 and told["runtime"] == ["micropython"] * 3
    assert told["paid_units"] == told["redeemed_units"]
    carried = 3 * size / 65536
    span = meter.AHEAD_SECONDS + meter.AHEAD_RTTS * 0.15  # seconds, with full queues
    ahead = max(meter.AHEAD_MIN, net.Line().up_kbps * 125 / 65536 * span)  # at the line's full rate
    assert carried < told["paid_units"] < carried * 1.25 + 3 * (ahead + 4), "units are the bytes carried and a little paid ahead"
    assert int(told["claimed_wei"]) == pytest.approx(told["paid_units"] * UNIT_WEI * (1 - PHI), rel=1e-9)
    assert 7 < told["overhead_pct"] < 20
    assert all(1 < x < 1.6 for x in told["wire_per_payload"]) and len(told["wire_per_payload"]) == 3
    assert all(0 < x < 20_000 for x in told["relay_rss_kb"]) and all(x > 0 for x in told["cpu_ms_per_mb"])
    assert not [line for line in lines if line.startswith(("✗", "–"))]
    assert list(map(net.host_state, net.HOST_STATE)) == before
    assert not pool.leftover_files(proc.RUN)


def own_namespaces() -> list[str]:
    """Those of the last run in this checkout; others may have theirs."""
    prefix = (proc.RUN / "prefix").read_text()
    return [n for n in net.lab_namespaces() if n.startswith(prefix)]


def begin(phase: str) -> subprocess.Popen[str]:
    """A run that has got as far as `phase`."""
    started = subprocess.Popen(RUN, cwd=proc.ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert started.stdout
    for line in started.stdout:
        if phase in line:
            time.sleep(1)
            return started
    raise AssertionError(f"the run ended with {started.wait()} before {phase}")


@pytest.mark.parametrize(("number", "phase"), [(signal.SIGINT, "downloading"), (signal.SIGTERM, "starting chain")])
def test_an_interrupted_run_leaves_nothing(number: int, phase: str) -> None:
    before = list(map(net.host_state, net.HOST_STATE))
    with begin(phase) as started:
        assert own_namespaces()
        started.send_signal(number)
        out, _ = started.communicate(timeout=30)
    assert started.returncode == 130, out
    assert json.loads(out.splitlines()[-1])["ok"] is False
    assert not own_namespaces()
    assert list(map(net.host_state, net.HOST_STATE)) == before


def test_lab_clean_removes_what_a_killed_run_left() -> None:
    with begin("routers stake") as started:
        left = [Path(f"/proc/{pid}") for pid in net.processes_in(own_namespaces())]
        assert any(_is_micropython(p / "exe") for p in left)
        started.kill()
    time.sleep(0.5)
    clean = subprocess.run(
        [sys.executable, "-m", "tests.lab.net"], cwd=proc.ROOT, capture_output=True, text=True, timeout=30
    )
    assert clean.returncode == 0, clean.stderr
    assert not own_namespaces()
    assert not [p for p in left if _is_micropython(p / "exe")]


def _is_micropython(exe: Path) -> bool:
    try:
        return os.path.samestat(exe.stat(), pool.micropython().stat())
    except OSError:
        return False


def test_two_runs_in_one_checkout_do_not_mix() -> None:
    with begin("building") as started:
        status, lines, _ = run()
        started.terminate()
        started.communicate(timeout=30)
    assert status == 1 and any("another run uses build/run" in line for line in lines)


@pytest.mark.parametrize(("name", "value"), [("RUN_SECONDS", "soon"), ("RUN_SECONDS", "9"), ("RUN_BYTES", "-1")])
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    done = subprocess.run(
        RUN, cwd=proc.ROOT, env=environment(**{name: value}), capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert name in done.stderr and repr(value) in done.stderr and "whole number from" in done.stderr
