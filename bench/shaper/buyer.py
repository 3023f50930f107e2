"""A relay that is saturated: a real circuit through it, paid with tickets, and more cells than the line carries."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from bench.relay import hops, pump
from bench.relay.circuit import FULL, LESS
from bench.relay.machine import wait_for
from bwrouter.platform import net

from .line import Scene
from .plan import MORE

ROOT = Path(__file__).parents[2]
CHUNK = 512  # cells made at a time
TICK = 0.002
BIN = 0.01
RELAY_WIRE = LESS + 42
TICKETS_AHEAD = 3


class Proxy(hops.Agent):
    """Between relay and agent, both real: passes rates and counters on; says yes to tickets as the gateway would."""

    def __init__(self, run_dir: str, hello: dict[str, Any], agent_dir: Path) -> None:
        super().__init__(run_dir, hello)
        agent_dir.mkdir(parents=True, exist_ok=True)
        self.agent = str(agent_dir / "agent.sock")
        self.near = net.UnixDatagram(str(agent_dir / "relay.sock"))
        self.rates: list[tuple[float, int, str]] = []

    def run(self) -> None:
        while not self.stop:
            while (text := self.socket.recv()[0]) is not None:
                m = json.loads(text)
                if m["t"] in ("sent", "stats"):
                    self.near.send(self.agent, text)
                self.heard(m)
            while True:
                text, fd = self.near.recv()
                if text is None:
                    break
                m = json.loads(text)
                if m["t"] in ("rate", "wan"):
                    self.socket.send(self.relay, text, fd)
                if m["t"] == "rate":
                    self.rates.append((time.monotonic(), m["kbps"], m["reason"]))
                if fd >= 0:
                    net.close(fd)
            time.sleep(0.002)
        self.socket.close()
        self.near.close()


class Buyer(threading.Thread):
    """Feeds the relay and files what leaves the modem, in bins of BIN seconds."""

    def __init__(self, scene: Scene, shaped: bool, shaper: bool) -> None:
        super().__init__(daemon=True)
        self.scene, self.stop = scene, False
        agent_dir = scene.folder / "agent" / "run"

        def agent(run_dir: str, hello: dict[str, Any]) -> hops.Agent:
            return Proxy(run_dir, hello, agent_dir) if shaped else hops.Agent(run_dir, hello)

        self.relay = hops.Relay(scene, "micropython", 51900, agent)
        self.shaped = shaped
        if shaped:
            self._agent(agent_dir, shaper)
        self.cells = pump.Cells(CHUNK)
        self.bins: dict[int, int] = {}
        self.result = pump.Result()
        self._made = self._at = 0

    def _agent(self, run_dir: Path, shaper: bool) -> None:
        config = run_dir.parent / "config.json"
        kbps = self.scene.kbps
        settings = {
            "wan": "wan0", "uplink_kbps": kbps, "rate_kbps": kbps, "run_dir": str(run_dir), "public_v4": Scene.M2,
            "state_dir": str(run_dir.parent / "state"), "gateways": [{"url": "http://127.0.0.1:9", "key": "ee" * 32}],
            "shaper": shaper, "log_level": "debug",
        }  # fmt: skip
        config.write_text(json.dumps(settings))
        micropython = os.environ.get("MICROPYTHON") or str(ROOT / "build/micropython/native/micropython")
        self.agent = self.scene.start_in_router(
            [micropython, "-m", "bwrouter", "agent", "--config", str(config)], "agent",
            env={"MICROPYPATH": f"{ROOT}/src:.frozen"},
        )  # fmt: skip
        self.status = run_dir / "status.json"
        wait_for("the agent", lambda: self._reflex(), 20, self.agent)
        if shaper:
            wait_for("the shaper", lambda: self._read()["rate"]["shaping"]["on"], 20, self.agent)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.status.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _reflex(self) -> bool:
        return bool(self._read().get("rate", {}).get("reflex"))

    def run(self) -> None:
        """Cells at MORE times the uplink until `stop`."""
        t = self.relay.traffic
        before, tokens = time.monotonic(), 0.0
        rate = self.scene.kbps * 125 * MORE
        while not self.stop:
            now = time.monotonic()
            tokens = min(tokens + rate * (now - before), rate * 0.05 + 2 * FULL)
            before = now
            while tokens >= FULL:
                if self._at == self._made:
                    self._make()
                count = min(max(1, int(tokens // FULL)), 32, self._made - self._at)
                address = self.cells.address + self._at * FULL
                if pump.lib.pump_send(t.prev.fileno(), t.near, address, count, FULL) < 0:
                    raise OSError("the buyer cannot send")
                self._at += count
                tokens -= count * FULL
            got = pump.lib.pump_drain(t.next.fileno(), LESS, t.keys.next_obf, self._cid, self.result)
            if got > 0:
                at = int(time.monotonic() / BIN)
                self.bins[at] = self.bins.get(at, 0) + got * RELAY_WIRE
            time.sleep(TICK if not got else 0.0005)

    @property
    def _cid(self) -> int:
        return int.from_bytes(self.relay.traffic.keys.to_next, "little")

    def _make(self) -> None:
        """The next chunk of cells, and its payment."""
        r = self.relay
        if r.tickets_left() < TICKETS_AHEAD:
            r.open_tickets(1)
        for pay in r.pay(CHUNK * FULL):
            net.sendto(r.traffic.prev.fileno(), pay, r.traffic.near)
        r.traffic.sent["forward"] = r.circuit.sent
        r.traffic.make("forward", self.cells, 0, CHUNK)
        r.circuit.sent = r.traffic.sent["forward"]
        self._made, self._at = CHUNK, 0

    def bytes_between(self, begin: float, end: float) -> int:
        """Wire bytes of the relay that had left the modem in this time (monotonic)."""
        return sum(n for at, n in list(self.bins.items()) if begin / BIN <= at < end / BIN)

    def told(self) -> dict[str, Any]:
        """What relay and agent say of themselves: for whoever looks at a figure that is not as expected."""
        stats = self.relay.agent.stats
        out = {key: stats.get(key) for key in ("cells_in", "cells_out", "drops", "refused", "rate_kbps")}
        if self.shaped:
            status = self._read().get("rate", {})
            for key in ("reason", "household_kbps", "own_kbps", "reflex", "delay_queue_us", "uplink_measured_kbps"):
                out[key] = status.get(key)
        return out

    def close(self) -> None:
        self.stop = True
        self.join()
        self.relay.close()

