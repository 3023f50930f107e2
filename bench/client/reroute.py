"""Set-up of a path, and what is left of it when its hops die."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from typing import Any

from tests.client.stage import FOLDER, Stage
from tests.client.watch import read
from tests.lab.net import inside, run_in

from .lines import Lines

LINK_MS = 40.0
DEAD_SECONDS, CALM_SECONDS = 1.3, 0.5
PLACES = {"entry": (0,), "middle": (1,), "both": (0, 1)}


def setup(s: Stage, lines: Lines, times: int, report: dict[str, Any]) -> None:
    """A 3-hop path whose links have round trips of 40, 80 (two homes' lines) and 40 ms; goal: 4 times their sum, which
    is the round trip to the exit, and 50 ms."""
    lines.delay(LINK_MS / 2)
    took, sums = [], []
    for _ in range(times):
        client = s.up()
        # Round trips are measured while packets move.
        run_in(s.buyer.ns, ["ping", "-q", "-c", "20", "-i", "0.1", s.web.v4])
        time.sleep(0.6)
        status = s.status()
        took.append(status["setup_ms"])
        sums.append(status["steering"]["rtt_ms"][-1])
        s.bw("down")
        s.forget(client)
    lines.delay(0)
    report |= {
        "setup_ms": round(statistics.median(took), 1), "setup_rtt_sum_ms": round(statistics.median(sums), 1),
        "setup_goal_ms": round(4 * statistics.median(sums) + 50, 1),
    }  # fmt: skip


def reroute(s: Stage, kills: int, report: dict[str, Any]) -> None:
    """Downloads and a typed connection while entry, middle or both are killed or cut."""
    assert s.pool.file
    client = s.up()
    echo_report, errors = FOLDER / "echo.json", FOLDER / "curl.err"
    errors.unlink(missing_ok=True)
    echo = s.python("echo-type", "tests.client.echo", "type", "--to", s.web.v4, "--report", str(echo_report))
    s.wait("echo", lambda: int(read(echo_report).get("lines", 0)) > 10)  # type: ignore[call-overload]
    url = f"http://{s.web.v4}{s.pool.file.url_path}"
    with inside(s.buyer.ns):
        loop = f"while curl -sSf --limit-rate 4M -o /dev/null {url} 2>>{errors}; do :; done"
        download = subprocess.Popen(["sh", "-c", loop], start_new_session=True)
    ways = [(k, p) for p in PLACES for k in ("kill", "cut")]
    for i in range(kills):
        s.wait("a spare path", s.has_spare, 30)
        way, place = ways[i % len(ways)]
        status = s.status()
        dead = [s.router(p, status) for p in PLACES[place]]
        os.kill(echo.pid, signal.SIGUSR1)
        time.sleep(0.3)
        for router in dead:
            s.kill(router) if way == "kill" else s.cut(router, True)
        time.sleep(DEAD_SECONDS)
        for router in dead:
            s.revive(router) if way == "kill" else s.cut(router, False)
        time.sleep(CALM_SECONDS)
    os.kill(echo.pid, signal.SIGUSR1)
    time.sleep(0.6)
    told: dict[str, Any] = read(echo_report)
    alive = download.poll() is None
    os.killpg(download.pid, signal.SIGKILL)
    download.wait()
    status = s.status()
    purse = {k: v for k, v in status["purse"].items() if k.endswith("units")}
    echo.stop()
    s.forget(echo)
    s.bw("down")
    s.forget(client)
    gaps = told["gaps_ms"][1:]
    by_place = {place: [g for i, g in enumerate(gaps) if ways[i % len(ways)][1] == place] for place in PLACES}
    ranked = sorted(gaps)
    report |= {
        "reroutes": status["reroutes"], "reroute_kills": kills, "reroute_new_exits": status["steering"]["new_exits"],
        "reroute_connections_lost": told["lost"] + errors.read_text().count("curl:") + (not alive),
        "reroute_gap_p50_ms": ranked[len(ranked) // 2], "reroute_gap_max_ms": ranked[-1],
        "reroute_gap_p95_ms": ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))],
        "reroute_gap_max_by_place_ms": {place: max(found, default=0) for place, found in by_place.items()},
        "reroute_purse": purse, "reroute_gaps_ms": gaps, "reroute_own_gaps_ms": status["steering"]["gaps_ms"],
    }  # fmt: skip
