"""Verifiers of a town: each machine has two bonds and runs the daemon once for each of them.

Each has settings of its own, two accounts in sealed vaults (bond and buyer), a passphrase, a journal. The first one makes
covert audits too. What came of it is read with `bwverifier report`.
"""

from __future__ import annotations

import collections
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account

from bwclient.chain import Chain
from bwclient.vault import seal
from bwverifier.duty import BOND, Duty, Standing
from bwverifier.journal import Journal
from tests.lab.net import LabError, Node, inside, run_in
from tests.lab.pool import REGION, read_json, write_json
from tests.lab.proc import ROOT

BONDS = 2  # of each machine: a committee has three seats only where six are in the draw
STOCK = 8192  # three large tickets and eighty small ones: more keep the gateways busy while all begin
CHEAP = {"ops": 1, "memory": 8 << 20}  # argon2id: at every start, on a machine that is full
COVERT_PORT = 8090
NEWEST = 10_000  # audits of a report


@dataclass
class Verifier:
    """One daemon: its machine, its folder, the keys of bond and buyer."""

    name: str
    node: Node
    folder: Path
    keys: tuple[bytes, bytes] = field(default_factory=lambda: (os.urandom(32), os.urandom(32)), repr=False)

    def addresses(self) -> list[str]:
        return [Account.from_key(key).address for key in self.keys]

    @property
    def config(self) -> Path:
        return self.folder / "verifier.json"

    def make(self, served: dict[str, Any], covert: bool) -> None:
        """Settings and vaults; `served`: gateway and rpc_url."""
        self.folder.mkdir(parents=True, exist_ok=True)
        phrase = os.urandom(16).hex()
        (self.folder / "passphrase.key").write_text(phrase + "\n")
        for name, key in zip(("verifier.vault", "buyer.vault"), self.keys, strict=True):
            (self.folder / name).write_text(seal(key.hex().encode(), phrase, **CHEAP))
        cover = {"covert_url": f"http://{self.node.v4}:{COVERT_PORT}", "covert_listen": f"0.0.0.0:{COVERT_PORT}"}
        settings = {
            "wallet_key_file": "verifier.vault", "buyer_key_file": "buyer.vault", "passphrase_file": "passphrase.key",
            "regions": [REGION], "diversity": "relaxed", "burst_ms": 300, "long_ms": 1000, "tries": 2, "habit": "short",
            "covert_an_epoch": 0, "spread_pct": 60, "poll_seconds": 1.0, "stock_units": STOCK, "max_impact_pct": 100,
        }  # fmt: skip
        write_json(self.config, settings | served | (cover if covert else {}))

    def command(self, *words: str) -> Any:
        """`bwverifier ... --json` of this one, at its machine. Raises LabError."""
        argv = [sys.executable, "-m", "bwverifier", *words, "--json", "--config", str(self.config)]
        return json.loads(run_in(self.node.ns, ["env", f"PYTHONPATH={ROOT}/src", *argv], timeout=60))

    def status(self) -> dict[str, Any]:
        return read_json(self.folder / "status.json")

    def duty(self, url: str, proof: str) -> Duty:
        """This account as the chain has it, with a journal that nobody else writes to."""
        return Duty(Chain(url, self.keys[0]), proof, Journal(self.folder / "spectator.sqlite"))


def windows(routers: int) -> dict[str, int]:
    """Durations of a town's contracts, in seconds. On every relay sit half of all bonds, so each daemon audits half the
    routers in an epoch, and all of them together begin an audit every three or four seconds: two processors carry no more."""
    commit, reveal = 12 * routers, 15 + routers
    return {
        "response": 4, "withdrawal": 10, "unbonding": 3000, "audit_epoch": commit + reveal + 5, "commit": commit,
        "reveal": reveal, "dispute": 600, "emission_epoch": 120, "twap": 30,
    }  # fmt: skip


def join_all(verifiers: list[Verifier], url: str, contracts: dict[str, str]) -> None:
    """Bonds for all; the first by the command. Raises LabError, ChainError."""

    def join(v: Verifier) -> None:
        with inside(v.node.ns):
            v.duty(url, contracts["proof"]).join(contracts["token"])

    with ThreadPoolExecutor(len(verifiers)) as threads:
        list(threads.map(join, verifiers[1:]))
    told = verifiers[0].command("join")
    if told["bond_wei"] != str(BOND):
        raise LabError(f"bwverifier join told of a bond of {told['bond_wei']} wei")


@dataclass
class Found:
    """What all daemons' reports and the chain say at the end. `short`: bonds (by name, in BWT) that lost something."""

    reports: list[list[dict[str, Any]]]
    standings: dict[str, Standing]
    short: dict[str, float]
    delays: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts: audits by state and reason, epochs of them, covert audits, verdicts on chain."""
        audits = [a for report in self.reports for a in report]
        states = collections.Counter(a["state"] for a in audits)
        return {
            "audits": len(audits), "audit_epochs": len({a["epoch"] for a in audits}),
            "audit_reasons": dict(collections.Counter(a["reason"] for a in audits)), "audit_states": dict(states),
            "reveals": states["revealed"] + states["judged"],
            "measurements": sum(len(a["measurements"]) for a in audits),
            "verdicts": sum(s.audits for s in self.standings.values()),
            "relays_judged": sum(s.audits > 0 for s in self.standings.values()),
            "suspected": sum(s.strikes > 0 for s in self.standings.values()), "verifier_delays": self.delays,
        }  # fmt: skip

    def breaches(self) -> Iterable[str]:
        """What must not come of audits of honest routers."""
        summary = self.summary()
        if not summary["verdicts"]:
            yield f"audits: no verdict came of {summary['audits']}"
        for relay, s in self.standings.items():
            if s.strikes == 2:
                yield f"audits: {relay[:8]}, which is honest, is suspended"
        if wrong := summary["audit_reasons"].get("corrupt", 0):
            yield f"audits: {wrong} found wrong bytes, and nobody sends any"
        for name, lost in self.short.items():
            yield f"audits: {name} lost {lost:g} BWT of its bond, for a report that it did not reveal"


def gather(verifiers: list[Verifier], url: str, proof: str, relays: list[str], delays: int) -> Found:
    """Reports by the command, bonds and standings from the chain. Raises LabError, ChainError."""
    if not verifiers:
        return Found([], {}, {})
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda v: v.command("report", "--most", str(NEWEST)), verifiers))
    short = {}
    for v in verifiers:
        with inside(v.node.ns):
            lost = BOND - v.duty(url, proof).status()[0]
        if lost:
            short[v.name] = lost / 10**18
    with inside(verifiers[0].node.ns):
        duty = verifiers[0].duty(url, proof)
        standings = {relay: duty.standing(bytes.fromhex(relay)) for relay in relays}
    return Found(reports, standings, short, delays)


