"""`make soak MINUTES=N`: a pool under a fault every few seconds, with what must hold checked all the time.

MINUTES (12), ROUTERS (20, two of them exits), BUYERS (10), GATEWAYS (3), VERIFIERS (4), SEED (1), EVERY (5: seconds between
faults). Then everything has a minute to come back. Exit code 0 only when nothing was breached; the last line is one JSON object.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import statistics
import sys
import time
from contextlib import suppress
from typing import Any

import requests

from tests.lab import chain, net, proc, secrets
from tests.lab.pool import Refused, fresh_folder, write_json
from tests.lab.run import Interrupted, only_one
from tests.soak.faults import Fault, Faults
from tests.soak.plan import BadPlan, Plan, from_environment
from tests.soak.town import Town, lab_for, sweep
from tests.soak.watchman import Thief, Watchman, latency

LOOK_S, THEFT_S, TICK_S = 5.0, 7.0, 0.5
REDEEMED_S = 15.0  # routers redeem every two seconds: what has not come after so long was lost by a kill
BACK_S = 75.0  # within which everything must be well after its fault, and at the end
OWNER = os.getpid()
FAILURES = (Refused, net.LabError, chain.ChainError, requests.RequestException, TimeoutError, OSError)


class Soak:
    """One soak: the town, its faults, its watchman."""

    def __init__(self, town: Town, plan: Plan) -> None:
        self.town, self.plan = town, plan
        self.faults, self.watchman = Faults(town, plan.seed), Watchman(town)
        self.watchman.record = self.record
        self.thief: Thief | None = None
        self.chance = random.Random(plan.seed + 1)
        self.now_wrong: list[Fault] = []
        self.healing: list[Fault] = []
        self.done: collections.Counter[str] = collections.Counter()
        self.back: dict[str, list[float]] = {}

    def say(self, text: str) -> None:
        print(f"soak: {time.monotonic() - self.watchman.began:6.1f} s  {text}", flush=True)

    def record(self, number: int) -> None:
        """What buyers and verifiers say of themselves as a breach is found: to be read afterwards."""
        town = self.town
        told: dict[str, Any] = {name: {"tunnel": town.tunnel(name), "traffic": town.traffic(name)} for name in town.buyers}
        told |= {name: verifier.status() for name, verifier in town.verifiers.items()}
        told |= {"under": [f.told for f in self.now_wrong], "after": [f.told for f in self.healing]}
        write_json(proc.RUN / f"breach-{number}.json", told)

    def build(self) -> None:
        """Everything up, nothing wrong yet."""
        for what, step in (
            ("files, PostgreSQL, chain, contracts, gateways", self.town.start_servers),
            ("the routers' keys", self.town.make_routers), ("money", self.town.fund),
            ("verifiers' bonds", self.town.join_verifiers),
            ("routers", self.town.start_routers), ("the directory", self.town.wait_listed),
            ("households", self.town.start_households), ("buyers", self.town.start_buyers),
            ("verifiers", self.town.start_verifiers),
        ):  # fmt: skip
            self.say(what)
            step()
        self.thief = Thief(self.town, self.watchman, proc.RUN / "thief")

    def storm(self) -> None:
        """Faults until the time is over."""
        end = time.monotonic() + self.plan.minutes * 60
        next_fault = time.monotonic() + 5
        next_look = next_theft = 0.0
        while (now := time.monotonic()) < end:
            self.town.mind()
            self.watchman.paid()
            self.watchman.tunnels(now)
            self.heal(now)
            if now >= next_fault:
                next_fault = now + self.chance.uniform(0.5, 1.5) * self.plan.every
                self.harm(now)
            if now >= next_look:
                next_look = now + LOOK_S
                self.watchman.look()
            if self.thief and now >= next_theft:
                next_theft = now + THEFT_S
                self.thief.steal(self.chance)
            time.sleep(TICK_S)

    def harm(self, now: float) -> None:
        fault = self.faults.draw()
        if fault is None:
            return
        self.say(fault.told)
        self.faults.busy.add(fault.target)
        self.now_wrong.append(fault)
        fault.began = now
        self.done[fault.kind] += 1
        fault.begin()

    def heal(self, now: float) -> None:
        """End what is over; see whether what was ended is well again."""
        for fault in [f for f in self.now_wrong if now - f.began >= f.seconds]:
            fault.end()
            fault.ended = time.monotonic()
            self.now_wrong.remove(fault)
            self.healing.append(fault)
        for fault in list(self.healing):
            took = time.monotonic() - fault.ended
            if fault.well():
                self.back.setdefault(fault.kind, []).append(round(took, 1))
            elif took > BACK_S:
                self.watchman.breach(f"not well {BACK_S:.0f} s after: {fault.told}")
            else:
                continue
            self.healing.remove(fault)
            self.faults.busy.discard(fault.target)

    def calm(self) -> list[str]:
        """No more faults: what is not well after a while."""
        self.say("no more faults")
        end = time.monotonic() + BACK_S
        ill: list[str] = []
        while time.monotonic() < end:
            self.town.mind()
            self.watchman.paid()
            self.watchman.tunnels(time.monotonic())
            for fault in self.now_wrong:
                fault.seconds = 0.0
            self.heal(time.monotonic())
            if not self.healing and not (ill := self.ill()):
                break
            time.sleep(0.5)
        self.watchman.look()
        return ill or [f"after {f.told}" for f in self.healing]

    def ill(self) -> list[str]:
        """Names of what does not serve now."""
        town = self.town
        listed = town.listed()
        found = [f"router {n}" for n, r in town.routers.items() if r.id not in listed or not town.router_well(r)]
        found += [f"gateway {u}" for u in town.urls if not town.healthy(u)]
        found += [f"buyer {n}" for n in town.buyers if not town.buyer_well(n)]
        found += [f"verifier {n}" for n in town.verifiers if not town.verifier_well(n)]
        return found + [f"process {k.name}" for k in town.keepers.values() if not k.alive()]

    def settle(self) -> dict[str, Any]:
        """Clients and verifiers settle and end; what was paid against what was redeemed, claimed and posted."""
        for process in [p for p in self.town.processes.started if p.name.endswith("-traffic")]:
            process.stop()
        self.watchman.look()
        payers = [keeper for keeper in self.town.keepers.values() if keeper.kind in ("client", "verifier")]
        for keeper in payers:
            keeper.held = True
            if keeper.process is not None:
                keeper.process.ask()
        for keeper in payers:
            if keeper.process is not None:
                keeper.process.stop(20)
        self.watchman.shut = False  # what the buyers' machines send now is their own business
        self.watchman.paid()
        paid, redeemed, before = self.watchman.paid_units(), 0, -1
        end = time.monotonic() + 60
        since = time.monotonic()
        while time.monotonic() < end:
            redeemed = int(self.town.query("select coalesce(sum(units),0) from relays")[0][0])
            if redeemed != before:
                before, since = redeemed, time.monotonic()
            elif time.monotonic() - since > (REDEEMED_S if redeemed < paid else LOOK_S):
                break
            time.sleep(1)
        self.watchman.look()
        return {"paid_units": paid, "redeemed_units": redeemed}


def judge(soak: Soak, out: dict[str, Any], ill: list[str]) -> None:
    """The end's own checks."""
    man = soak.watchman
    man.redeemed(out["paid_units"], out["redeemed_units"], soak.done)
    for name in ill:
        man.breach(f"not back at the end: {name}")
    man.flat()
    man.felt()
    if not man.controls():
        man.breach("leak: the control saw nothing, so the captures prove nothing")
    traffic = [soak.town.traffic(n) for n in soak.town.buyers]
    felt = latency(soak.town)
    if soak.town.verifiers:
        found = soak.town.audits()
        out |= found.summary()
        for line in found.breaches():
            man.breach(line)
    out |= {
        "faults": dict(soak.done), "faults_in_all": sum(soak.done.values()),
        "back_s": {k: {"median": statistics.median(v), "worst": max(v)} for k, v in sorted(soak.back.items())},
        "looks": man.looks, "looks_while_blind": man.blind, "growth": man.growth()[0], "first_byte": felt, "first_byte_p95_ms": felt["p95_ms"],
        "fetched": sum(t.get("done", 0) for t in traffic), "fetches_failed": sum(t.get("failed", 0) for t in traffic),
        "bytes": sum(t.get("bytes", 0) for t in traffic), "control_sightings": man.controls(),
        "double_spends_tried": soak.thief.tries if soak.thief else 0,
    }  # fmt: skip


def perform(plan: Plan, out: dict[str, Any]) -> str:
    """Build, storm, settle, judge, remove. Returns why it could not go on, or nothing."""
    processes, lab, why = proc.Processes(), lab_for(plan), ""
    limit = time.monotonic() + plan.minutes * 60 + 900
    town = Town(lab, processes, plan, lambda: limit - time.monotonic())
    soak = Soak(town, plan)
    try:
        lab.start()
        soak.build()
        soak.say(f"{len(processes.started)} processes run; faults begin")
        soak.storm()
        ill = soak.calm()
        out |= soak.settle()
        judge(soak, out, ill)
    except FAILURES as e:
        why = f"{type(e).__name__}: {e}"
    except Interrupted as e:
        why = f"interrupted by {e}"
    finally:
        for fault in soak.now_wrong:
            with suppress(Exception):
                fault.end()
        town.keepers.clear()
        processes.stop()
        secret = secrets.secrets_under(proc.RUN)
        lines = secrets.told(secret, sorted(proc.RUN.glob("*.log")))
        out |= {"secrets": len(secret), "secrets_in_logs": len(lines), "breaches": soak.watchman.breaches + lines}
        lab.stop()
        town.remove()
    return why


def _interrupt(number: int, _frame: object) -> None:
    if os.getpid() != OWNER:
        os._exit(128 + number)  # a forked helper of pyroute2
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


def main() -> int:
    try:
        plan = from_environment()
    except BadPlan as e:
        print(f"make soak: {e}", file=sys.stderr)
        return 2
    os.environ.setdefault("LAB_LOG_LEVEL", "debug")
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    out: dict[str, Any] = {
        "minutes": plan.minutes, "routers": plan.routers, "buyers": plan.buyers, "gateways": plan.gateways,
        "verifiers": plan.verifiers, "seed": plan.seed, "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    began, why = time.monotonic(), ""
    try:
        with only_one():
            sweep()
            fresh_folder()
            why = perform(plan, out)
    except Refused as e:
        why = str(e)
    for breach in out.get("breaches", []):
        print(f"✗ {breach}")
    if why:
        print(f"✗ {why}")
    ok = not why and not out.get("breaches")
    out["breached"] = len(out.get("breaches", [])) + bool(why)
    print(json.dumps({"ok": ok, **out, "why": why, "seconds": round(time.monotonic() - began, 1)}), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
