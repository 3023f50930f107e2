"""Reads the state of a running pool for the view: captures, households, buyer's client, gateway, chain."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import requests

from tests.lab import chain
from tests.lab.net import LabError, inside
from tests.lab.pool import Pool, Refused, read_json
from tests.lab.view import Row, Scene

EVERY, SPAN = 0.5, 0.9
NOT_YET = (
    Refused,
    LabError,
    chain.ChainError,
    requests.RequestException,
    OSError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)


class Sampler(threading.Thread):
    """Fills the scene twice a second until `stop`. A part that does not answer yet leaves its figures as they are."""

    def __init__(self, pool: Pool, scene: Scene, stop: threading.Event) -> None:
        super().__init__(name="sampler", daemon=True)
        self.pool, self.scene, self._stop_event = pool, scene, stop
        self._counters: dict[str, tuple[float, int, float]] = {}

    def run(self) -> None:
        while not self._stop_event.wait(EVERY):
            for read in (self.links, self.download, self.households, self.routers, self.buyer, self.gateway):
                with suppress(*NOT_YET):
                    read()

    def _rate(self, name: str, at: float, count: int) -> float:
        """Mbit/s of a byte counter read at `at` since it was read before."""
        then, before, rate = self._counters.get(name, (at, count, 0.0))
        if at - then >= SPAN:
            rate = max(0, count - before) * 8 / 1e6 / (at - then)
        elif name in self._counters:
            return rate
        self._counters[name] = (at, count, rate)
        return rate

    def links(self) -> None:
        for row in self.scene.rows:
            report = read_json(self.pool.report(row.name))
            row.mbps = self._rate(row.name, report["at"], int(report["relay_bytes_from"]))

    def download(self) -> None:
        got = self.pool.downloaded()
        self.scene.mbps = self._rate("download", time.monotonic(), got)
        self.scene.got = got

    def households(self) -> None:
        for row in self.scene.rows:
            told = read_json(self.pool.folder / row.name / "household.json")
            if told:
                row.home_mbps = told["mbps"]
                row.home_rtt = told["rtt_idle_ms"].get("p50")

    def routers(self) -> None:
        for row in self.scene.rows:
            router = self.pool.routers[row.name]
            row.id, row.rss_kb = router.id, router.relay.sample().rss_kb if router.relay else 0
            status = router.status()
            row.runtime = (status.get("relay") or {}).get("runtime", row.runtime)
            staked = ((status.get("stake") or {}).get("chain") or {}).get("state", "none")
            row.state = "joining" if status and staked == "none" else staked if status else row.state

    def buyer(self) -> None:
        hops: list[dict[str, Any]] = self.pool.client_status().get("hops", [])
        for number, hop in enumerate(hops, 1):
            for row in self.scene.rows:
                if row.id == hop["id"]:
                    row.hop, row.paid = number, hop["paid_units"]

    def gateway(self) -> None:
        if not self.pool.info:
            return
        self.scene.listed = len(self.pool.ask("/v1/directory")["descriptors"])
        with inside(self.pool.gateway.ns):
            self.scene.block = self.pool.chain.block()
        self.scene.roots = len(self.pool.ask("/v1/epochs")["epochs"])
        for row in self.scene.rows:
            if row.hop:
                self.earnings(row)

    def earnings(self, row: Row) -> None:
        told = self.pool.ask(f"/v1/earnings/{row.id}")
        row.redeemed = told["units"]
        row.earned = int(told["claimed_wei"]) / chain.ETHER
