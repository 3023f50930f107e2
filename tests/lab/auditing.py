"""A pool that is audited: over-claiming and honest routers, a chain with short epochs, verifiers as processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account

from bwclient.chain import Chain
from bwverifier.duty import BOND, Duty
from bwverifier.journal import Journal
from tests.lab import chain, net, proc
from tests.lab.net import Line, inside
from tests.lab.pool import Pool, Refused, fresh_folder, write_json
from tests.lab.proc import RUN, Process
from tests.lab.run import only_one

AUDIT, COMMIT, REVEAL, DISPUTE = 120, 80, 20, 500
WINDOWS = {
    "response": 30, "withdrawal": 60, "unbonding": 2000, "audit_epoch": AUDIT, "commit": COMMIT, "reveal": REVEAL,
    "dispute": DISPUTE, "emission_epoch": 600, "twap": 300,
}  # fmt: skip
LINE = Line(up_kbps=20_000, down_kbps=250_000, buffer=64 * 1024, burst=8 * 1024)
VERIFIER_NODE = {"ver": 61}
ETHER = chain.ETHER


def verifier_settings(**more: Any) -> dict[str, Any]:
    """Of a verifier in a lab, whose epochs are short."""
    return {
        "diversity": "relaxed", "burst_ms": 300, "long_ms": 1000, "tries": 2, "habit": "short", "covert_an_epoch": 0,
        "spread_pct": 5, "max_impact_pct": 100, **more,
    }  # fmt: skip


class AuditedPool(Pool):
    """`claims`: by router's name, what it claims and believes of its line, kbit/s."""

    def __init__(self, lab: net.Lab, processes: proc.Processes, remaining: Any, claims: dict[str, tuple[int, int]]):
        super().__init__(lab, processes, 1 << 20, remaining)
        self.claims = claims
        self.verifiers: list[tuple[Path, Duty, Process | None]] = []

    def gateway_settings(self) -> dict[str, Any]:
        return super().gateway_settings() | {
            "epoch_seconds": 10, "challenge_seconds": 5, "deploy": WINDOWS, "directory": {"check_seconds": 2},
            "limits": {"address_per_s": 0, "identity_per_s": 0},
        }  # fmt: skip

    def make_routers(self) -> None:
        super().make_routers()
        for name, (claim, uplink) in self.claims.items():
            router = self.routers[name]
            told = json.loads(router.config.read_text()) | {"rate_kbps": claim, "uplink_kbps": uplink}
            write_json(router.config, told)

    # -- time ------------------------------------------------------------------------------

    def rpc(self, method: str, *params: Any) -> Any:
        with inside(self.gateway.ns):
            return self.chain.rpc(method, *params)

    def now(self) -> int:
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def warp(self, to: int) -> None:
        """The chain's clock goes on from `to`."""
        ahead = to - self.now()
        if ahead > 0:
            self.rpc("evm_increaseTime", ahead)
            self.wait("a block", lambda: self.now() >= to, 10)

    # -- verifiers -------------------------------------------------------------------------

    def make_verifiers(self, count: int, covert: int, **settings: Any) -> None:
        """Accounts, bonds, settings; `covert` of them make covert audits."""
        keys = [(os.urandom(32), os.urandom(32)) for _ in range(count)]
        bwt, proof = self.info["contracts"]["token"], self.info["contracts"]["proof"]
        orders: list[dict[str, Any]] = []
        for own, buyer in keys:
            for key, tokens in ((own, BOND), (buyer, 500 * ETHER)):
                who = Account.from_key(key).address
                orders += [{"to": who, "value": ETHER}, chain.transfer(bwt, who, tokens)]
        with inside(self.gateway.ns):
            self.chain.send_all(orders, (RUN / "gateway" / "treasury.key").read_text().strip())
        node = self.lab.nodes["ver"]
        for i, (own, buyer) in enumerate(keys):
            folder = RUN / f"verifier{i}"
            folder.mkdir()
            (folder / "verifier.key").write_text(own.hex() + "\n")
            (folder / "buyer.key").write_text(buyer.hex() + "\n")
            port = 8090 + i
            cover = {"covert_url": f"http://{node.v4}:{port}", "covert_listen": f"0.0.0.0:{port}"} if i < covert else {}
            served = {"gateway": {"url": self.url, "key": self.info["gateway_key"]}, "rpc_url": self.chain.url}
            config = {**verifier_settings(**served), "poll_seconds": 0.5, "stock_units": 30_000, **cover, **settings}
            write_json(folder / "verifier.json", config)
            self.verifiers.append((folder, self._duty(own, proof, folder), None))
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda v: self._join(v[1], bwt), self.verifiers[1:]))
        told = self.command(0, "join", "--json")  # the first by the command
        assert told["bond_wei"] == str(BOND)

    def _duty(self, key: bytes, proof: str, folder: Path) -> Duty:
        with inside(self.gateway.ns):
            return Duty(Chain(self.chain.url, key), proof, Journal(folder / "spectator.sqlite"))

    def _join(self, duty: Duty, bwt: str) -> None:
        with inside(self.gateway.ns):
            duty.join(bwt)

    def command(self, which: int, *words: str) -> Any:
        """`bwverifier ... --json` of a verifier, in its namespace."""
        folder = self.verifiers[which][0]
        argv = [sys.executable, "-m", "bwverifier", *words, "--config", str(folder / "verifier.json")]
        text = net.run_in(self.lab.nodes["ver"].ns, ["env", f"PYTHONPATH={proc.ROOT}/src", *argv], timeout=60)
        return json.loads(text)

    def start_verifier(self, which: int) -> Process:
        folder, duty, _ = self.verifiers[which]
        argv = ("bwverifier", "run", "--config", str(folder / "verifier.json"))
        process = self.python(f"verifier{which}", self.lab.nodes["ver"], *argv)
        self.verifiers[which] = (folder, duty, process)
        return process

    # -- an epoch ----------------------------------------------------------------------------

    def spectator(self) -> Duty:
        return self.verifiers[0][1]

    def stored(self, relay: bytes, epoch: int) -> list[int]:
        """What the contract keeps of each seat of a committee: commitments, or reports with the top bit."""
        duty = self.spectator()
        with inside(self.gateway.ns):
            packed = duty._committee(relay, epoch)
            seats = sum(1 for i in range(16) if packed >> 16 * i & 0xFFFF)
            numbers = [duty._number("reportOf(bytes32,uint32,uint256)", relay, epoch, i) for i in range(seats)]
        return numbers

    def standing(self, relay: bytes) -> Any:
        with inside(self.gateway.ns):
            return self.spectator().standing(relay)

    def staked(self, relay: bytes) -> tuple[int, int]:
        """(claim, state)."""
        with inside(self.gateway.ns):
            return self.spectator().relay(relay)

    def epoch(self, relays: list[bytes]) -> int:
        """A whole epoch: all seats commit, reveal, and the verdicts are given. Its number."""
        number = self.now() // AUDIT + 1
        self.warp(number * AUDIT + 1)
        self.epoch_ends(number, relays)
        return number

    def epoch_ends(self, number: int, relays: list[bytes]) -> None:
        """An epoch that has begun: as `epoch`."""
        try:
            self._follow(number, relays)
        except Refused:
            for _, _, process in self.verifiers:
                if process and process.alive():
                    process.popen.send_signal(signal.SIGUSR1)
            time.sleep(1)
            for folder, _, process in self.verifiers:
                print(folder.name, process.tail(40) if process else "", flush=True)
            raise

    def _follow(self, number: int, relays: list[bytes]) -> None:
        for what, test, then in (
            ("commitments", lambda n: n != 0, number * AUDIT + COMMIT + 1),
            ("reveals", lambda n: n >> 255 == 1, number * AUDIT + COMMIT + REVEAL + 1),
        ):
            began = time.monotonic()
            self.wait(what, lambda: all(self._all(r, number, test) for r in relays), 60)  # noqa: B023
            print(f"epoch {number}: {what} after {time.monotonic() - began:.1f} s", flush=True)
            self.warp(then)
        self.wait("verdicts", lambda: all(self.standing(r).epoch == number for r in relays), 20)

    def _all(self, relay: bytes, epoch: int, test: Any) -> bool:
        found = self.stored(relay, epoch)
        return len(found) > 0 and all(test(n) for n in found)


@contextmanager
def audited(claims: dict[str, tuple[int, int]], seconds: float) -> Iterator[AuditedPool]:
    """A pool up to its directory, with a verifiers' node; everything is gone afterwards."""
    processes = proc.Processes()
    end = time.monotonic() + seconds
    with only_one():
        fresh_folder()
        homes = sum(name.startswith("r") for name in claims)
        with net.Lab(LINE, homes=homes, more=VERIFIER_NODE) as lab:
            pool = AuditedPool(lab, processes, lambda: end - time.monotonic(), claims)
            try:
                pool.start_gateway()
                pool.make_routers()
                pool.fund()
                pool.start_routers()
                pool.wait_listed()
                yield pool
            finally:
                processes.stop()
