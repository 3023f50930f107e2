"""`make run`: a small pool moves a real file through three routers, is paid and claims; then everything is checked.

    python -m tests.lab.run
RUN_SECONDS (60) bounds the whole, RUN_BYTES (67108864) is the size of the file. Exit status: 0 only if every check
held, 2 for a wrong setting, 130 after Ctrl-C. The last line is one JSON object.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import requests

from tests.lab import chain, checks, net, proc
from tests.lab.account import Accountant
from tests.lab.checks import Check, Facts
from tests.lab.pool import Pool, Refused, fresh_folder
from tests.lab.sampler import Sampler
from tests.lab.view import Row, Scene, View

RANGES = {"RUN_SECONDS": (60, 10, 86_400), "RUN_BYTES": (64 << 20, 1, 4 << 30)}
OWNER = os.getpid()
TEARDOWN_S = 3.0  # of RUN_SECONDS, kept for the end
HOMES = {"hops": "households behind the hops uploaded at", "others": "the others at"}
MARKS = {True: "✓", False: "✗"}
FAILURES = (Refused, net.LabError, chain.ChainError, requests.RequestException, TimeoutError, OSError)


class BadSetting(Exception):
    """An environment variable is out of range; the text names it, its value and what is allowed."""


def setting(name: str) -> int:
    """A whole number from the environment. Raises BadSetting."""
    default, least, most = RANGES[name]
    text = os.environ.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise BadSetting(f"{name}: {text!r} is not allowed; it wants a whole number from {least} to {most}")
    return int(text)


@contextmanager
def only_one() -> Iterator[IO[str]]:
    """One run at a time in this checkout: they share build/run."""
    proc.BUILD.mkdir(exist_ok=True)
    with open(proc.BUILD / "run.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another run uses build/run: wait for its end or stop it") from None
        yield lock


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP."""


def _interrupt(number: int, _frame: object) -> None:
    if os.getpid() != OWNER:
        os._exit(
            128 + number
        )  # a forked helper of pyroute2, which ends them by SIGTERM: they must not run our clean-up
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # what follows is the clean-up
    raise Interrupted(signal.Signals(number).name)


def story(pool: Pool, view: View, facts: Facts) -> None:
    """The run itself, in order. Fills `facts`."""
    view.phase("building the internet")
    pool.start_internet()
    book = Accountant(pool, facts)
    view.phase("starting chain and gateway")
    pool.start_gateway()
    view.phase("making the routers' keys")
    pool.make_routers()
    view.phase("funding wallets from the faucet")
    pool.fund()
    book.open()
    view.phase("routers stake, register and publish descriptors")
    pool.start_routers()
    pool.wait_listed()
    view.phase("buyer swaps, deposits, takes tickets, builds a circuit")
    pool.start_households()
    pool.start_buyer()
    book.start_clock()
    view.phase("downloading through three routers")
    facts.download_s = pool.download()
    book.file()
    facts.reached = checks.DOWNLOADED
    view.phase("closing the circuit")
    pool.stop_buyer()
    view.phase("relays redeem, the gateway posts a root, routers are paid")
    book.settle()
    facts.reached = checks.SETTLED
    view.phase("reading the captures")
    book.captures()
    facts.reached = checks.LOOKED


def leftovers(pool: Pool, pids: list[int], before: list[str]) -> list[str]:
    """What is still there that should not be."""
    left = [f"namespace {n}" for n in net.lab_namespaces() if n.startswith(pool.lab.prefix)]
    for pid in pids:
        if os.path.exists(f"/proc/{pid}/exe"):
            with suppress(OSError):
                left.append(f"process {pid} ({os.readlink(f'/proc/{pid}/exe')})")
    left += [f"changed outside: {what}" for what, old in zip(net.HOST_STATE, before) if net.host_state(what) != old]
    return left


def perform(seconds: int, size: int, view: View, facts: Facts) -> str:
    """Build, run, tear down. Returns why it failed, or nothing."""
    scene, why = view.scene, ""
    end = scene.began + seconds - TEARDOWN_S
    before = [net.host_state(what) for what in net.HOST_STATE]
    processes, lab = proc.Processes(), net.Lab()
    pool = Pool(lab, processes, size, lambda: end - time.monotonic())
    scene.size = size
    scene.rows = [Row(r.node.name, "home" if r.node.line else "exit") for r in pool.routers.values()]
    (proc.RUN / "prefix").write_text(
        lab.prefix
    )  # of the namespaces, for who wants to look inside: ip netns exec PREFIX-r1 ...
    stop = threading.Event()
    sampler = Sampler(pool, scene, stop)
    try:
        lab.start()
        sampler.start()
        story(pool, view, facts)
    except FAILURES as e:
        why = f"{scene.phase}: {e}"
    except Interrupted as e:
        why = f"interrupted by {e}"
    finally:
        stop.set()
        view.phase("taking everything down")
        pids = [p.pid for p in processes.started]
        processes.stop()
        if sampler.is_alive():
            sampler.join(6)
        lab.stop()
        pool.remove_files()
        facts.left = leftovers(pool, pids, before)
    return why


def summary(facts: Facts, verdicts: list[Check], why: str, seconds: float) -> None:
    """What a person reads at the end."""
    print()
    if facts.hops:
        print("hop  router  relay id      runtime      paid  redeemed  earned    CPU    RSS")
        for number, hop in enumerate(facts.hops, 1):
            cpu = hop.cpu_ms / (facts.got / checks.MB) if facts.got else 0.0
            print(
                f"{number:>3}  {hop.name:<6}  {hop.id[:12]}  {hop.runtime:<11}  {hop.paid:>4}  {hop.redeemed:>8}  "
                f"{(hop.balance - hop.before) / 1e18:.6f}  {cpu:>4.1f}  {hop.rss_kb:>5}"
            )
        print("paid, redeemed: units of 64 KiB; CPU: ms for each MB of the file; RSS: kB")
        homes = checks.home_mbps(facts)
        print(", ".join(f"{HOMES[who]} {mbps} Mbit/s" for who, mbps in homes.items()) + "\n")
    missed = [check.name for check in verdicts if check.ok is None]
    if missed:
        print(f"– not reached: {', '.join(missed)}")
    for check in (c for c in verdicts if c.ok is not None):
        print(f"{MARKS[bool(check.ok)]} {check.name:<11} {check.told}")
    if why:
        print(f"\n✗ {why}")
    print()


def main() -> int:
    try:
        seconds, size = setting("RUN_SECONDS"), setting("RUN_BYTES")
    except BadSetting as e:
        print(f"make run: {e}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("make run needs root: it makes network namespaces, TUN devices and nftables rules", file=sys.stderr)
        return 1
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    facts, scene = Facts(), Scene(float(seconds))
    why, interrupted = "", False
    try:
        with only_one():
            fresh_folder()
            with View(scene) as view:
                why = perform(seconds, size, view, facts)
    except Refused as e:
        why = str(e)
    except Interrupted as e:
        why = f"interrupted by {e}"
    interrupted = why.startswith("interrupted")
    verdicts = checks.verdicts(facts)
    ok = not why and all(c.ok for c in verdicts)
    summary(facts, verdicts, why, scene.elapsed)
    print(json.dumps(checks.result(facts, ok, scene.elapsed)), flush=True)
    return 0 if ok else 130 if interrupted else 1


if __name__ == "__main__":
    sys.exit(main())
