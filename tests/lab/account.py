"""After the download: what every party says was used, paid, redeemed and claimed, gathered into Facts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.lab import web
from tests.lab.checks import Facts, Hop
from tests.lab.net import inside
from tests.lab.pool import EXIT, MAY_SEE, REGION, Pool, Refused, Router, read_json
from tests.lab.proc import Process

LEDGER = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128"]


class Accountant:
    """Asks the pool's parts, each for itself, and fills `facts`."""

    def __init__(self, pool: Pool, facts: Facts) -> None:
        self.pool, self.facts = pool, facts
        self.before: dict[str, int] = {}
        self.cpu: dict[str, float] = {}
        assert pool.file
        facts.size, facts.sha256 = pool.file.size, pool.file.sha256
        facts.web, facts.may_see, facts.exit_id = pool.lab.nodes["web"].v4, MAY_SEE, ""

    # -- before and after the download -------------------------------------------------------------------------

    def open(self) -> None:
        """Note the balances before anything was earned."""
        self.facts.exit_id = self.pool.routers[EXIT].id
        self.before = {r.id: self.tokens(r.wallet) for r in self.pool.routers.values()}

    def start_clock(self) -> None:
        for router in self.pool.routers.values():
            self.cpu[router.id] = router.relay.sample().cpu_s if router.relay else 0.0

    def file(self) -> None:
        """Measure what arrived and who carried it."""
        self.facts.got = self.pool.downloaded()
        self.facts.sha256_got = web.sha256_of(self.pool.target)
        status = self.pool.client_status()
        self.facts.peers = [status["inner_v4"], self.pool.lab.nodes[EXIT].v4]
        homes = {n.name: read_json(self.pool.folder / n.name / "household.json") for n in self.pool.lab.homes}
        self.facts.homes = {name: told["mbps"] for name, told in homes.items() if told.get("bursts")}
        for told in status["hops"]:
            router = self.pool.by_id(told["id"])
            if router is None or router.relay is None:
                raise Refused(f"the client's circuit has a hop {told['id']} that is none of the pool's routers")
            self.facts.hops.append(self.hop(router, router.relay))

    def hop(self, router: Router, relay: Process) -> Hop:
        usage = relay.sample()
        runtime = str((router.status().get("relay") or {}).get("runtime", ""))
        cpu = (usage.cpu_s - self.cpu.get(router.id, 0.0)) * 1000
        return Hop(
            router.node.name, router.id, runtime, router.runs_micropython(), 0, 0, router.wallet,
            self.before.get(router.id, 0), 0, 0, cpu, usage.peak_kb,
        )  # fmt: skip

    # -- settlement --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until redeemed, posted and claimed, then read it all. What never comes true, the checks will say."""
        paid = self.pool.client_status()["paid"]  # over all circuits: the spare shares the exit
        for hop in self.facts.hops:
            hop.paid = paid[hop.id]
        self.patiently(15, self.all_redeemed)
        self.patiently(20, self.all_claimed)
        self.patiently(10, self.root_final)
        settlement = self.pool.info["contracts"]["settlement"]
        with inside(self.pool.gateway.ns):
            for hop in self.facts.hops:
                hop.balance = self.tokens(hop.payout)
                earned = hop.balance - hop.before
                (hop.gross,) = self.pool.chain.call(settlement, "grossOf(uint256)", [earned], ["uint256"])
            args = [self.pool.info["account"], REGION, self.pool.buyer]
            deposit = self.pool.chain.call(
                settlement, "depositOf(address,uint16,address)", args, ["uint128", "uint128", "uint128", "uint40"]
            )
        self.facts.spent = deposit[1]

    def patiently(self, limit: float, ready: Callable[[], bool]) -> bool:
        """Wait for `ready()` for `limit` seconds or to the end of the run."""
        end = time.monotonic() + min(limit, max(0.0, self.pool.remaining()))
        while not ready():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def all_redeemed(self) -> bool:
        for hop in self.facts.hops:
            hop.redeemed = int(self.pool.ask(f"/v1/earnings/{hop.id}")["units"])
        return all(h.redeemed >= h.paid for h in self.facts.hops)

    def all_claimed(self) -> bool:
        told = [self.pool.ask(f"/v1/earnings/{h.id}") for h in self.facts.hops]
        return all(int(t["claimed_wei"]) >= int(t["cumulative_wei"]) > 0 for t in told)

    def root_final(self) -> bool:
        """Whether the root that the gateway says it posted is the final one on chain."""
        posted = self.pool.ask(f"/v1/earnings/{self.facts.hops[0].id}").get("posted") or {}
        self.facts.root_posted = "0x" + str(posted.get("root", "")).removeprefix("0x")
        info = self.pool.info
        with inside(self.pool.gateway.ns):
            ledger = self.pool.chain.call(
                info["contracts"]["settlement"], "ledger(address,uint16)", [info["account"], REGION], LEDGER
            )
        self.facts.root_chain = "0x" + ledger[3].hex()
        return self.facts.root_chain == self.facts.root_posted

    def tokens(self, account: str) -> int:
        token = self.pool.info["contracts"]["regions"][str(REGION)]["token"]
        with inside(self.pool.gateway.ns):
            return self.pool.chain.balance(account, token)

    def captures(self) -> None:
        """Stop the captures and read what they saw."""
        for watcher in self.pool.watchers.values():
            watcher.ask()
        for name, watcher in self.pool.watchers.items():
            if status := watcher.stop():
                raise Refused(f"the capture of {name} ended with {status}: {watcher.tail()}")
            self.pool.processes.started.remove(watcher)
            self.facts.links[name] = json.loads(self.pool.report(name).read_text())
