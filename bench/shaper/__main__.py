"""What the household feels, case by case; the last line is one JSON object.

    make bench-shaper CASES='10:ours 40:none,ours:bulk,web' REPEATS=3
A case is an uplink in Mbit/s, a mode and a household. Modes: none (no relay), unshaped (a relay that sends what it is
given), ours (pacing, the guarantee), ours-htb (pacing and the opt-in HTB), ours-wan (pacing, and a modem that is built
into the router), cake (an unshaped relay with LE marks behind cake diffserv4 in a guest's kernel). Every figure is the
median of its repeats, each against the same line without a relay in the same repeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.goals import limits
from bench.relay.machine import ROOT, TRAFFIC_CPUS, private_run, wait_for
from qemu.guest import GuestError

from .buyer import Buyer
from .household import LEAD, STEP_OFF, STEP_ON, STEP_SHARE
from .line import Scene, buffer_bytes
from .plan import KINDS, SETTLE, UPLINKS, parts

MODES = ("none", "unshaped", "ours", "ours-htb", "ours-wan", "cake")
OURS = ("ours", "ours-htb", "ours-wan")
QUEUE = {"cake": "cake", "none-cake": "cake", "ours-wan": "wan"}
ALONE = ("none", "none-cake")
GOALS = limits("shaper")
REPEATS = int(os.environ.get("REPEATS") or 1)


def chosen() -> list[tuple[int, list[str], list[str]]]:
    """(uplink, modes, kinds) of CASES. Raises ValueError that names the word."""
    words = (os.environ.get("CASES") or " ".join(str(u) for u in UPLINKS)).split()
    out = []
    for word in words:
        parts = [*word.split(":"), "", ""][:3]
        modes = parts[1].split(",") if parts[1] else [m for m in MODES if m != "cake" or int(parts[0]) <= 40]
        kinds = parts[2].split(",") if parts[2] else list(KINDS)
        if not parts[0].isdigit() or not set(modes) <= set(MODES) or not set(kinds) <= set(KINDS):
            raise ValueError(f"CASES: {word!r} is no UPLINK:MODES:KINDS; modes {MODES}, kinds {tuple(KINDS)}")
        out.append((int(parts[0]), modes, kinds))
    return out


@contextlib.contextmanager
def scene(kbps: int, mode: str) -> Iterator[tuple[Scene, Buyer | None]]:
    with tempfile.TemporaryDirectory(prefix="shaper-", dir=ROOT / "build/tmp") as folder:
        s = Scene(Path(folder), kbps, queue=QUEUE.get(mode, "modem"))
        buyer = None
        try:
            if mode not in ALONE:
                buyer = Buyer(s, mode in OURS, mode == "ours-htb")
                buyer.start()
                time.sleep(SETTLE)
            yield s, buyer
        finally:
            if buyer is not None:
                buyer.close()
            s.stop()


def run(s: Scene, buyer: Buyer | None, kind: str) -> dict[str, Any]:
    """One household on a standing scene: raw figures."""
    sink = s.start_at(s.b, [sys.executable, "-m", "bench.shaper.household", "sink"], "sink")
    wait_for("the sink", lambda: "ready" in sink.log.read_text(), 10, sink)
    words = [sys.executable, "-m", "bench.shaper.household", kind, str(KINDS[kind]), str(s.kbps)]
    home = s.start_at(s.home, words, "home")
    if home.child.wait(KINDS[kind] + 30):
        raise RuntimeError(home.log.read_text()[-2000:])
    time.sleep(0.6)  # what still lies in the modem
    sink.stop()
    sent = json.loads(home.log.read_text().splitlines()[-1])
    got = json.loads(sink.log.read_text().splitlines()[-1])
    for p in (sink, home):
        s.processes.remove(p)
    begin, end = sent["begin"] + LEAD, sent["end"]
    delays = sorted(d * 1000 for at, d in got["voip"] if begin <= at - d)
    expected = int((end - begin) / 0.02) - 1
    out: dict[str, Any] = {
        "p50_ms": delays[len(delays) // 2], "p99_ms": delays[len(delays) * 99 // 100],
        "voip_lost_pct": max(0.0, 100 * (1 - len(delays) / expected)),
    }  # fmt: skip
    # Hundredths of a second; that in which the household begins belongs to it: there is no TCP before.
    bulk = sum(n for at, n in got["bulk"] if int(begin * 100) <= at < end * 100)
    household = len(delays) * 250 + bulk * 1514 // 1448
    if kind == "bulk":
        out["rate"] = bulk * 8 / (end - begin) / 1e6
    if kind == "web":
        out["rate"] = bulk * 8 / (end - begin) / 1e6
        out["burst_ms"] = statistics.median(sent["web"]) * 1000
    if kind == "steps":
        out["rate"] = len(got["steps"]) / sent["sent"]
        household += len(got["steps"]) * 1242
    if buyer is not None:
        if not buyer.is_alive():
            raise RuntimeError("the buyer ended: its message stands above")
        relay = buyer.bytes_between(begin, end)
        idle = s.kbps * 125 * (end - begin) - household
        out["relay_mbps"] = relay * 8 / (end - begin) / 1e6
        if kind != "bulk":
            out["idle_used_pct"] = 100 * relay / idle
        if kind in ("steps", "bulk"):
            out["yield_ms"] = statistics.median(yields(s, buyer, kind, sent["starts"], end))
    return out


def yields(s: Scene, buyer: Buyer, kind: str, starts: list[float], end: float) -> list[float]:
    """ms from each start of the household until what leaves the modem of the relay is down to what is left."""
    share = STEP_SHARE if kind == "steps" else 0.95
    most = s.kbps * 125 * (1 - share) * 1.1 + 2500 / 0.06
    out = []
    for start in starts:
        stop = min(end, start + (STEP_ON if kind == "steps" else 5.0))
        at, found = start, stop - start
        while at + 0.06 < stop:
            if buyer.bytes_between(at, at + 0.06) <= most * 0.06:
                found = at - start
                break
            at += 0.01
        out.append(found * 1000)
    return out


def compare(with_relay: dict[str, Any], alone: dict[str, Any]) -> dict[str, float]:
    """A run against the one without a relay."""
    out = {
        "added_p50_ms": with_relay["p50_ms"] - alone["p50_ms"],
        "added_p99_ms": with_relay["p99_ms"] - alone["p99_ms"],
        "lost_pct": max(0.0, with_relay["voip_lost_pct"] - alone["voip_lost_pct"]),
    }
    if "rate" in alone and alone["rate"]:
        out["lost_pct"] = 100 * (1 - with_relay["rate"] / alone["rate"])
    if "burst_ms" in alone:
        out["burst_slower_ms"] = with_relay["burst_ms"] - alone["burst_ms"]
    for key in ("idle_used_pct", "yield_ms", "relay_mbps"):
        if key in with_relay:
            out[key] = with_relay[key]
    return out


def baseline(mode: str) -> str:
    """What a mode is compared with: the same line without a relay."""
    return "none-cake" if mode == "cake" else "none"


def with_their_baselines(modes: list[str]) -> list[str]:
    out: list[str] = []
    for mode in modes:
        out += [m for m in (baseline(mode), mode) if m not in out]
    return out


class Measured:
    """All runs, and the cases made of them."""

    def __init__(self) -> None:
        self.alone: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.found: dict[tuple[str, str], list[dict[str, float]]] = {}
        self.cases: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def uplink(self, mbps: int, modes: list[str], kinds: list[str]) -> None:
        self.alone, self.found = {}, {}
        for i in range(REPEATS):
            for mode in with_their_baselines(modes):
                say(f"{mbps} Mbit/s, {mode}, {i + 1} of {REPEATS}")
                try:
                    for part in parts(mbps, kinds):
                        with scene(mbps * 1000, mode) as (s, buyer):
                            for kind in part:
                                self.one(i, mode, kind, run(s, buyer, kind))
                                if buyer is not None:
                                    say(f"    relay: {buyer.told()}")
                except (RuntimeError, OSError, GuestError) as e:
                    say(f"failed: {e}")
                    self.failed.append(f"{mbps}:{mode}")
        for (mode, kind), every in self.found.items():
            case = {"mbps": mbps, "mode": mode, "household": kind}
            for key in every[0]:
                case[key] = round(statistics.median(e[key] for e in every), 2)
            others = [r["p99_ms"] for (m, k, _), r in self.alone.items() if (m, k) == (baseline(mode), kind)]
            case["alone_p99_ms"] = round(statistics.median(others), 2)
            self.cases.append(case)
            show(case)

    def one(self, i: int, mode: str, kind: str, result: dict[str, Any]) -> None:
        if mode in ALONE:
            self.alone[mode, kind, i] = result
            return
        if (baseline(mode), kind, i) not in self.alone:
            raise RuntimeError("the line without a relay has not been measured")
        other = self.alone[baseline(mode), kind, i]
        compared = compare(result, other)
        self.found.setdefault((mode, kind), []).append(compared)
        told = {k: round(v, 2) for k, v in compared.items()}
        say(f"  {kind}: {told}, alone {other['p50_ms']:.2f} / {other['p99_ms']:.2f} ms")


def measure() -> Measured:
    m = Measured()
    for mbps, modes, kinds in chosen():
        m.uplink(mbps, modes, kinds)
    return m


def show(c: dict[str, Any]) -> None:
    print(
        f"{c['mbps']:>4} Mbit/s {c['mode']:<9} {c['household']:<6} lost {c['lost_pct']:>6.2f} %  added p50 "
        f"{c['added_p50_ms']:>7.2f} p99 {c['added_p99_ms']:>7.2f} ms (alone {c['alone_p99_ms']:.1f})  idle used "
        f"{c.get('idle_used_pct', float('nan')):>6.1f} %  yield {c.get('yield_ms', float('nan')):>5.0f} ms"
        + (f"  bursts {c['burst_slower_ms']:+.1f} ms" if "burst_slower_ms" in c else ""),
        flush=True,
    )


def worst(cases: list[dict[str, Any]], modes: tuple[str, ...]) -> dict[str, float]:
    """The worst of our own cases, figure by figure."""
    ours = [c for c in cases if c["mode"] in modes]
    picks = {
        "worst_household_lost_pct": (max, [c["lost_pct"] for c in ours]),
        "worst_added_p99_ms": (max, [c["added_p99_ms"] for c in ours if c["mbps"] >= 10]),
        "worst_added_p99_ms_slow": (max, [c["added_p99_ms"] for c in ours if c["mbps"] < 10]),
        "worst_idle_used_pct": (min, [c["idle_used_pct"] for c in ours if "idle_used_pct" in c]),
        "worst_yield_ms": (max, [c["yield_ms"] for c in ours if "yield_ms" in c]),
    }
    return {key: pick(values) for key, (pick, values) in picks.items() if values}


def say(text: str) -> None:
    print(f"bench-shaper: {text}", file=sys.stderr, flush=True)


def main() -> int:
    (ROOT / "build/tmp").mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, TRAFFIC_CPUS)
    os.nice(-15)  # whatever else this machine does is not the household's line
    private_run()
    try:
        measured = measure()
    except ValueError as e:
        say(str(e))
        return 2
    cases = measured.cases
    summary = worst(cases, OURS)
    good = {k: v >= GOALS[k] if k == "worst_idle_used_pct" else v <= GOALS[k] for k, v in summary.items()}
    for key, value in summary.items():
        print(f"{key:<28}{value:>9.2f}  goal {GOALS[key]:g}{'' if good[key] else '  MISSED'}")
    machine = {"kernel": platform.release(), "load": round(os.getloadavg()[0], 1)}
    out = {**summary, "failed": measured.failed, "goals": good, "repeats": REPEATS, "step_s": [STEP_ON, STEP_OFF],
           "machine": machine,
           "buffer_bytes": {u: buffer_bytes(u * 1000) for u in UPLINKS},
           "modes": {m: worst(cases, (m,)) for m in MODES if m != "none"}, "cases": cases}  # fmt: skip
    with (ROOT / "build/bench/shaper.json").open("a") as f:
        f.write(json.dumps({"time": int(time.time()), **out}) + "\n")
    print(json.dumps(out))
    return 2 if measured.failed or not summary else 0 if all(good.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
