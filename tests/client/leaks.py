"""The story of a machine under `bw up`, with every kind of noise on it and a capture on its physical link."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field

from tests.client.stage import Stage
from tests.client.watch import SwitchClock, Watch, network_state
from tests.lab.net import run_in


@dataclass
class Story:
    """What left outside the tunnel, by phase; packets of the noise that the capture saw before protection began."""

    leaks: dict[str, list[str]] = field(default_factory=dict)
    tunnel: int = 0
    before: int = 0
    lost: int = 0
    restored: bool = False
    refused: int = 0
    new_exit: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def leaked(self) -> int:
        return sum(len(found) for found in self.leaks.values())


def tell(stage: Stage) -> Story:
    """up, roam, entry death, exit death, crash, up again, down; one phase after the other."""
    story, pool = Story(), stage.pool
    _roam(stage)
    _roam_back(stage)  # so that the routes are written as they will be in the end
    before = network_state(stage.buyer.ns)
    resolver = stage.resolv_conf.read_bytes()
    watch = Watch(stage.lab, stage.buyer, [r.node for r in pool.routers.values()])
    noise = stage.python(
        "noise", "tests.client.noise", "--to4", stage.web.v4, "--to6", stage.web.v6, "--gate", "198.18.51.1", "--device",
        "wan0",
    )  # fmt: skip
    try:
        time.sleep(1.0)
        story.before = len(watch.leaks)  # the positive control: unprotected, the noise is seen
        client = stage.up()
        began = time.monotonic() + 0.05

        def phase(name: str) -> None:
            nonlocal began
            now = time.monotonic()
            story.leaks[name] = watch.between(began, now)
            began = now

        time.sleep(3.0)
        phase("up")
        stage.wait("a spare path", stage.has_spare)
        _roam(stage)
        time.sleep(2.5)
        phase("roam")
        dead = stage.router(0)
        stage.kill(dead)
        time.sleep(2.5)
        stage.revive(dead)
        phase("entry death")
        exit = stage.router(-1)
        stage.kill(exit)
        stage.wait("another exit", lambda: stage.status().get("steering", {}).get("new_exits", 0) > 0)
        story.new_exit = stage.router(-1).id != exit.id
        time.sleep(1.0)
        stage.revive(exit)
        phase("exit death")
        os.kill(client.pid, signal.SIGKILL)
        client.popen.wait()
        stage.forget(client)
        time.sleep(2.0)
        phase("crash")

        client = stage.up()
        # While it starts anew, the client alone may speak, to the gateway and the chain alone.
        gateway = f"{stage.buyer_now} > {pool.gateway.v4}"  # type: ignore[attr-defined]
        started = [x for x in watch.between(began, time.monotonic()) if gateway not in x]
        story.leaks["up after the crash"] = started
        began = time.monotonic() + 0.05
        clock = SwitchClock(stage.buyer.ns)
        time.sleep(0.5)
        stage.bw("down", "--json")
        closed_at = clock.stop()
        story.leaks["down"] = watch.between(began, closed_at)
        stage.forget(client)
    finally:
        noise.stop()
        stage.forget(noise)
        watch.stop()
    story.tunnel, story.lost = watch.counts["tunnel"], 0
    _roam_back(stage)
    after = network_state(stage.buyer.ns)
    story.notes = [name for name in before if before[name] != after[name]]
    story.restored = not story.notes and stage.resolv_conf.read_bytes() == resolver
    return story


def _roam(stage: Stage) -> None:
    """Another address, as after a change of network."""
    ns = stage.buyer.ns
    run_in(ns, ["ip", "addr", "del", "198.18.51.2/24", "dev", "wan0"])
    run_in(ns, ["ip", "addr", "add", "198.18.51.3/24", "dev", "wan0"])
    run_in(ns, ["ip", "route", "replace", "default", "via", "198.18.51.1"])
    stage.buyer_now = "198.18.51.3"  # type: ignore[attr-defined]


def _roam_back(stage: Stage) -> None:
    ns = stage.buyer.ns
    run_in(ns, ["ip", "addr", "del", "198.18.51.3/24", "dev", "wan0"])
    run_in(ns, ["ip", "addr", "add", "198.18.51.2/24", "dev", "wan0"])
    run_in(ns, ["ip", "route", "replace", "default", "via", "198.18.51.1"])
