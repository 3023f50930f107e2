"""Bandwidth proofs against the truth of the kernel's token bucket; the last line is a JSON object.

A real relay process on MicroPython sends through a TBF in a namespace of the benchmark's own, and claims a quarter more
than the bucket lets through, so that it is the line that is measured. A real circuit, paid with tickets, measures it in
bursts of half a second. With the household's traffic beside it the relay is told the rate that an agent would tell.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.relay.machine import Namespace
from bwverifier.daemon import COVERT_CAPACITY
from bwverifier.probe import GOOD, Measurement, Probe
from bwverifier.simulate import caught_in_10, inflation
from tests.relay.scene import Scene, Source

RATES = (1, 5, 20, 100, 500, 1000)  # Mbit/s
BURST_MS = 500
OVER = 1.25  # what the relay claims of the bucket's rate
HOUSE_SHARE = 0.3
HOUSE_PORT = 52999
RELAY_IP, VERIFIER_IP = "198.18.8.1", "198.18.8.2"
BURSTS_AN_EPOCH = 2  # that one verifier of the committee makes: over an entry, and directly
COMMITTEE = 10
EPOCH_SECONDS = 3600
GOAL_ERROR = 5.0
GOAL_SHARE = 1.0
GOAL_INFLATION = 1.05
GOAL_CAUGHT = 0.99
LIARS = 0.3
OVERCLAIM = 0.2
HEADROOM = 1.15  # a machine must be so much faster than the line for the line to be what is measured
CEILING_KBPS = 4_000_000
CHECK_KBPS = 200_000  # from so much on it is asked whether the machine can carry it
SPREAD_LEAST = 0.01  # an idle benchmark's bursts agree better than those of verifiers all over a continent


@dataclass
class Case:
    """One rate: what is true, what was measured (median of the bursts), what it cost."""

    claim_mbps: float
    household: bool
    truth_kbps: int
    measured_kbps: int
    error_pct: float
    bursts: list[int]
    bytes_an_audit: int
    seconds: float
    latency_ms: int
    loss_bps: int
    ceiling_kbps: int = 0
    """What relay and verifier of this machine reach without a bucket, measured just before."""

    @property
    def within(self) -> bool:
        """Whether this machine could have carried the rate at all: beyond that it is the machine that is measured."""
        return self.ceiling_kbps >= HEADROOM * self.truth_kbps


def tc(*words: str) -> None:
    subprocess.run(["tc", *words], check=True)


def link(verifier: Namespace) -> None:
    """A cable from this namespace to the verifier's."""
    add = ["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", f"/proc/self/fd/{verifier.fd}"]
    subprocess.run(add, check=True, pass_fds=[verifier.fd])
    for command in (f"addr add {RELAY_IP}/24 dev va", "link set va up"):
        subprocess.run(["ip", *command.split()], check=True)
    verifier.ip(f"addr add {VERIFIER_IP}/24 dev vb")
    verifier.ip("link set vb up")


def shape(kbps: int) -> None:
    """What the relay and the household send goes through one bucket of this rate; what the verifier sends does not."""
    subprocess.run(["tc", "qdisc", "del", "dev", "va", "root"], capture_output=True)
    burst = max(3200, kbps * 125 // 250)  # 4 ms
    limit = burst + max(20000, kbps * 125 * 50 // 1000)  # 50 ms of queue
    tc("qdisc", "add", "dev", "va", "root", "tbf", "rate", f"{kbps}kbit", "burst", str(burst), "limit", str(limit))


class Household:
    """A steady stream of datagrams of 1400 bytes at `kbps` on the wire, from this process' namespace."""

    def __init__(self, kbps: int) -> None:
        self._kbps = kbps
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Household:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread.start()
        return self

    def _run(self) -> None:
        begun, sent = time.monotonic(), 0
        while not self._stop:
            due = int((time.monotonic() - begun) * self._kbps * 125)
            while sent < due:
                self._socket.sendto(bytes(1400), (VERIFIER_IP, HOUSE_PORT))
                sent += 1442
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()
        self._socket.close()


def ceiling(scene: Scene, verifier: Namespace, bursts: int) -> int:
    """kbit/s that relay and verifier reach on this machine, now, with no bucket between: the median burst."""
    relay = scene.relays[0]
    subprocess.run(["tc", "qdisc", "del", "dev", "va", "root"], capture_output=True)
    relay.rate_kbps = CEILING_KBPS
    relay.fresh_stats()
    return int(median(burst(scene, verifier).kbps for _ in range(bursts)))


def burst(scene: Scene, verifier: Namespace) -> Measurement:
    """One burst over a fresh circuit, with the verifier's socket in its own namespace."""
    relay = scene.relays[0]
    with verifier:
        probe = Probe(Source())
    try:
        return probe.measure([relay.descriptor()], 0, BURST_MS, relay.rate_kbps)
    finally:
        probe.close(patience=0.5)


def measure(scene: Scene, verifier: Namespace, mbps: float, household: bool, bursts: int) -> Case:
    """Bursts at one rate."""
    line = int(mbps * 1000)
    relay = scene.relays[0]
    most = ceiling(scene, verifier, bursts) if line >= CHECK_KBPS else CEILING_KBPS
    shape(line)
    truth = int(line * (1 - HOUSE_SHARE)) if household else line
    # Beside a household the relay's agent leaves it its share; alone, it says more than the line carries.
    relay.rate_kbps = truth if household else int(line * OVER)
    relay.fresh_stats()
    begun = time.monotonic()
    before = relay.fresh_stats()
    results = [burst(scene, verifier) for _ in range(bursts)]
    seconds = (time.monotonic() - begun) / bursts
    after = relay.fresh_stats()
    spent = sum(after[name] - before[name] for name in ("bytes_in", "bytes_out")) // bursts
    rates = [m.kbps for m in results if m.reason == GOOD]
    measured = int(median(rates)) if rates else 0
    return Case(mbps, household, truth, measured, round(abs(measured - truth) * 100 / truth, 2), rates, spent,
                round(seconds, 2), results[-1].latency_ms, results[-1].loss_bps, most)  # fmt: skip


def run(rates: list[float], bursts: int) -> list[Case]:
    """Every rate, alone and with a household beside it."""
    cases = []
    with Scene(count=1) as scene:
        verifier = Namespace()
        link(verifier)
        scene.relays[0].ip = RELAY_IP
        for mbps in rates:
            cases.append(measure(scene, verifier, mbps, False, bursts))
            show(cases[-1])
            if mbps <= 100:  # the household's stream is made by this process, too
                with Household(int(mbps * 1000 * HOUSE_SHARE)):
                    cases.append(measure(scene, verifier, mbps, True, bursts))
                show(cases[-1])
    return cases


def show(c: Case) -> None:
    beside = "with household" if c.household else "alone"
    result = f"truth {c.truth_kbps:8} kbit/s  measured {c.measured_kbps:8}  error {c.error_pct:6.2f} %"
    cost = f"{c.bytes_an_audit / 1e6:7.2f} MB  {c.seconds:5.2f} s an audit"
    machine = "" if c.within else f"  beyond this machine, which reaches {c.ceiling_kbps} kbit/s without a bucket"
    print(f"{c.claim_mbps:6g} Mbit/s {beside:14}  {result}  {cost}{machine}", flush=True)


def share_pct(cases: list[Case]) -> float:
    """Bytes of a committee's bursts and covert audits as a share of what the line carries in an epoch; the worst case.
    Of covert audits verifiers make no more than COVERT_CAPACITY."""
    worst = 0.0
    for c in cases:
        if c.measured_kbps:
            epoch = c.truth_kbps * 125 * EPOCH_SECONDS
            bursts = COMMITTEE * BURSTS_AN_EPOCH * c.bytes_an_audit / epoch
            worst = max(worst, (bursts + COVERT_CAPACITY) * 100)
    return round(worst, 3)


def measured_spread(cases: list[Case]) -> float:
    """How far single bursts lie from the truth, as a share: the root mean square over the cases within the goal."""
    good = [(b / c.truth_kbps - 1) ** 2 for c in cases if c.error_pct <= GOAL_ERROR for b in c.bursts]
    return round(max(SPREAD_LEAST, (sum(good) / len(good)) ** 0.5 if good else 0.0), 4)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bursts", type=int, default=5)
    options.add_argument("--rates", type=float, nargs="*", default=list(RATES))
    given = options.parse_args()
    cases = run(given.rates, given.bursts)
    judged = [c for c in cases if c.within]
    worst = max(c.error_pct for c in judged)
    beyond = {f"{c.claim_mbps:g}": c.ceiling_kbps for c in cases if not c.within}
    share = share_pct(cases)
    spread = measured_spread(cases)
    inflated, claim = inflation(LIARS, spread)
    caught = caught_in_10(OVERCLAIM, LIARS, spread)
    print(f"with {LIARS:.0%} liars a router is credited at most {inflated:.4f} times what it has, claiming {claim:.2f}")
    print(f"one that claims {1 + OVERCLAIM} times what it has is suspended within 10 epochs with p = {caught:.4f}")
    result = {"worst_error_pct": worst, "measured_to_mbps": max(c.claim_mbps for c in judged),
              "beyond_this_machine": beyond, "audit_share_pct": share,
              "inflation_30pct_liars": inflated, "catch_probability": caught, "simulated_spread": spread,
              "met": {"error": worst <= GOAL_ERROR, "share": share <= GOAL_SHARE,
                      "inflation": inflated <= GOAL_INFLATION, "catch": caught >= GOAL_CAUGHT},
              "cases": [asdict(c) for c in cases]}  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
