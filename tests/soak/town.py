"""The parts of a soak: many homes, exits, buyers and verifiers around gateways that share a PostgreSQL and a chain."""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests
from eth_account import Account

from bwgateway.chain.anvil import find_binary
from tests.lab import chain, web
from tests.lab.net import Lab, Line, Node, inside, run_in
from tests.lab.pool import (
    BUYER_BWT,
    BUYER_COIN,
    EXIT,
    REGION,
    ROUTER_COIN,
    STAKE,
    Pool,
    Refused,
    Router,
    read_json,
    shelf,
    write_json,
)
from tests.lab.proc import BUILD, ROOT, RUN, Process, Processes, environment
from tests.soak.database import Database
from tests.soak.keeper import Keeper
from tests.soak.plan import Plan
from tests.soak.verifiers import BONDS, Found, Verifier, gather, join_all, windows

LINE = Line(up_kbps=10_000, down_kbps=50_000, buffer=64 * 1024)
EXIT_CLAIM = 20_000  # kbit/s
RPC, LIAR, FIRST_GATEWAY = 8545, 8546, 8080
SMALL_FLASH_KB, SMALL_FLASH = 384, 3  # routers whose flash can be filled
FILE_SIZES = (20_000, 200_000, 600_000)
STOCK, UNITS = 3 << 14, 1 << 20  # many tickets: a machine that is full re-routes often, and every path takes some
CLOCK = BUILD / "soak" / "libclock.so"
SERVERS, SERVERS_NICE = ("postgres", "gateway", "proxy"), -10


def lab_for(plan: Plan) -> Lab:
    """Homes, exits, buyers and verifiers on one internet."""
    more = {f"{EXIT}{i}": 20 + i for i in range(2, plan.exits + 1)}
    more |= {f"b{i}": 90 + i for i in range(2, plan.buyers + 1)} | {f"v{i}": 80 + i for i in range(1, plan.verifiers + 1)}
    return Lab(LINE, plan.routers - plan.exits, more)


class Clock:
    """The wall clock of one router's processes: seconds that it is off."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(struct.pack("d", 0.0))
        with open(file, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 8)

    def set(self, seconds: float) -> None:
        self._map[:8] = struct.pack("d", seconds)


class Town(Pool):
    """Everything runs under a keeper, which starts it again when it dies."""

    def __init__(self, lab: Lab, processes: Processes, plan: Plan, remaining: Callable[[], float]) -> None:
        super().__init__(lab, processes, 1, remaining)
        self.plan = plan
        self.keepers: dict[str, Keeper] = {}
        self.urls = [f"http://{self.gateway.v4}:{FIRST_GATEWAY + i}" for i in range(plan.gateways)]
        self.buyers = {n: lab.nodes[n] for n in lab.nodes if n == "buyer" or n[0] == "b" and n[1:].isdigit()}
        self.wallets = {n: "0x" + os.urandom(32).hex() for n in self.buyers}
        machines = [node for name, node in lab.nodes.items() if name[0] == "v" and name[1:].isdigit()]
        bonds = [(f"{node.name}-{i + 1}", node) for node in machines for i in range(BONDS)]
        self.verifiers = {name: Verifier(name, node, RUN / name) for name, node in bonds}
        self.thief_key = "0x" + os.urandom(32).hex()
        self.clocks: dict[str, Clock] = {}
        self.flash: list[Router] = []
        self.database: Database | None = None
        self.lie = RUN / "lie"
        self.files = RUN / "web"
        self.http = requests.Session()
        self.http.trust_env = False

    # -- servers -----------------------------------------------------------------------------------------------

    def keep(self, name: str, kind: str, start: Callable[[str], Process], flat: bool = True) -> Process:
        others = len(self.routers) + len(self.buyers) + len(self.verifiers) if kind == "gateway" else 0
        self.keepers[name] = Keeper(name, kind, partial(first, start) if kind in SERVERS else start, flat, others)
        return self.keepers[name].up()

    def start_servers(self) -> None:
        """Files, sink, database, chain with an endpoint that lies at times, contracts, gateways."""
        for size in FILE_SIZES:
            web.make_file(self.files, size)
        self.file = web.make_file(RUN / "marks", 1000)  # what captures look for, beside addresses
        server = self.python("web", self.lab.nodes["web"], "tests.lab.web", "--folder", str(self.files))
        sink = self.python("sink", self.lab.nodes["sink"], "tests.lab.household", "serve")
        for process in (server, sink):
            self.wait(process.name, lambda p=process: "ready" in p.tail(), by=process)  # type: ignore[misc]
        self.database = Database(self.processes, self.gateway.ns)
        self.keep("postgres", "postgres", self.database.start, flat=False)
        self.wait("PostgreSQL", self.database.answers, 30)
        argv = [str(find_binary("")), "--host", "0.0.0.0", "--port", str(RPC), "--block-time", "1", "--accounts", "1"]
        anvil = first(lambda name: self.processes.start(name, [*argv, "--silent"], self.gateway.ns), "anvil")
        anvil.last = True
        self.wait("chain", self.chain_answers, 30)
        self.keep("liar", "proxy", lambda name: self.python(
            name, self.gateway, "tests.soak.liar", "--host", self.gateway.v4, "--port", str(LIAR), "--to",
            self.chain.url, "--how", str(self.lie),
        ))  # fmt: skip
        self.deploy()
        for i in range(self.plan.gateways):
            self.keep(f"gateway{i + 1}", "gateway", partial(self.serve, i))
        self.wait("gateways", lambda: all(self.healthy(u) for u in self.urls), 60)
        self.info = self.ask("/v1/info")

    def chain_answers(self) -> bool:
        with suppress(requests.RequestException, chain.ChainError), inside(self.gateway.ns):
            return self.chain.block() >= 0
        return False

    def gateway_config(self, i: int) -> Path:
        """The last gateway's own endpoint is the one that lies; two of three must agree."""
        honest, local, lying = self.chain.url, f"http://127.0.0.1:{RPC}", f"http://{self.gateway.v4}:{LIAR}"
        last = i == self.plan.gateways - 1
        rpc, witnesses = (lying, [honest, local]) if last else (honest, [local, lying])
        settings = {
            "host": self.gateway.v4, "port": FIRST_GATEWAY + i, "state_dir": str(RUN / "gateway"), "regions": [REGION],
            "database_url": self.database.url if self.database else "", "epoch_seconds": 10, "challenge_seconds": 4,
            "chain": {"rpc": rpc, "witnesses": witnesses, "quorum": 2, "confirmations": 3, "timeout_seconds": 3},
            "deploy": windows(self.plan.routers), "directory": {"check_seconds": 5}, "log_level": "debug",
        }  # fmt: skip
        return write_json(RUN / f"gateway{i + 1}.json", settings)

    def command(self, *words: str) -> str:
        """A command of `bwgateway`, to its end."""
        argv = ["ip", "netns", "exec", self.gateway.ns, sys.executable, "-m", "bwgateway", *words]
        argv += ["--config", str(self.gateway_config(0))]
        done = subprocess.run(argv, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise Refused(f"bwgateway {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def deploy(self) -> None:
        keys = json.loads(self.command("keys", "--json"))
        with inside(self.gateway.ns):
            for account in (keys["treasury"], keys["operator"]):
                self.chain.rpc("anvil_setBalance", account, hex(10**24))
            self.chain.rpc("evm_setAutomine", True)  # each of some thirty transactions would wait for its block
            self.command("deploy")
            self.chain.rpc("evm_setIntervalMining", 1)

    def serve(self, i: int, name: str) -> Process:
        return self.python(name, self.gateway, "bwgateway", "serve", "--config", str(self.gateway_config(i)))

    def healthy(self, url: str) -> bool:
        with suppress(requests.RequestException), inside(self.gateway.ns):
            return self.http.get(url + "/healthz", timeout=2).status_code == 200
        return False

    def ask(self, path: str) -> dict[str, Any]:
        """GET from the first gateway that answers. Raises Refused when none does."""
        said = ""
        for url in self.urls:
            try:
                with inside(self.gateway.ns):
                    answer = self.http.get(url + path, timeout=4)
                if answer.status_code == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                said = f"{answer.status_code} {answer.text[:200]}"
            except requests.RequestException as e:
                said = str(e)
        raise Refused(f"no gateway answers GET {path}: {said}")

    def gateways(self) -> list[dict[str, str]]:
        return [{"url": url, "key": self.info["gateway_key"]} for url in self.urls]

    # -- money -------------------------------------------------------------------------------------------------

    def fund(self) -> None:
        """Coins out of nothing, BWT out of the treasury, for everybody."""
        bwt, orders = self.info["contracts"]["token"], [(r.wallet, ROUTER_COIN, STAKE) for r in self.routers.values()]
        others = [Account.from_key(key).address for key in (*self.wallets.values(), self.thief_key)]
        others += [address for v in self.verifiers.values() for address in v.addresses()]
        orders += [(address, BUYER_COIN, 2 * BUYER_BWT) for address in others]
        key = (RUN / "gateway" / "treasury.key").read_text().strip()
        with inside(self.gateway.ns):
            for account, coin, _ in orders:
                self.chain.rpc("anvil_setBalance", account, hex(coin))
            for at in range(0, len(orders), 40):
                batch = [chain.transfer(bwt, account, tokens) for account, _, tokens in orders[at : at + 40]]
                self.chain.send_all(batch, key, 30.0)

    # -- routers -----------------------------------------------------------------------------------------------

    def make_routers(self) -> None:
        """Each claims what is left while others use its line, and the machine: half of a home's. Their first gateways are
        not all the same one: an agent asks the next only when the first is silent."""
        super().make_routers()
        for i, router in enumerate(self.routers.values()):
            claim, listed = LINE.up_kbps // 2 if router.node.line else EXIT_CLAIM, self.gateways()
            first = i % len(listed)
            more = {"rate_kbps": claim, "gateways": listed[first:] + listed[:first]}
            write_json(router.config, json.loads(router.config.read_text()) | more)

    def make_state_dir(self, router: Router) -> None:
        """Some have a small flash of their own; all have a clock that can be moved."""
        super().make_state_dir(router)
        if len(self.flash) < SMALL_FLASH and router.node.line:
            options = f"size={SMALL_FLASH_KB}k,mode=0700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "bwsoak", str(router.state_dir)], check=True)
            self.flash.append(router)
        file = router.folder / "clock"
        self.clocks[router.node.name] = Clock(file)
        router.wrap = ["env", f"LD_PRELOAD={shelf(CLOCK)}", f"BW_CLOCK={shelf(file)}"]

    def start_routers(self) -> None:
        env = dict(x.split("=", 1) for x in self.router_env())
        for name, router in self.routers.items():

            def agent(log: str, router: Router = router) -> Process:
                router.agent = self.processes.start(log, router.command("agent"), router.node.ns, env)
                return router.agent

            def relay(log: str, router: Router = router) -> Process:
                router.relay = self.processes.start(log, router.relay_command(), router.node.ns, env)
                return router.relay

            self.keep(f"{name}-agent", "agent", agent)
            self.keep(f"{name}-relay", "relay", relay)

    def wait_listed(self) -> None:
        self.wait("directory of all routers", lambda: self.listed() >= {r.id for r in self.routers.values()}, 120)

    def listed(self) -> set[str]:
        """Ids of the relays in the directory; empty while no gateway answers."""
        with suppress(Refused):
            return {bytes.fromhex(d)[1:33].hex() for d in self.ask("/v1/directory")["descriptors"]}
        return set()

    def router_well(self, router: Router) -> bool:
        """Agent and relay speak with each other, and the gateway lists the router."""
        status = router.status()
        fresh = time.time() - os.stat(router.run_dir / "status.json").st_mtime < 3 if status else False
        return fresh and bool((status.get("relay") or {}).get("runtime")) and router.id in self.listed()

    # -- buyers, households, verifiers -------------------------------------------------------------------------

    def buyer_folder(self, name: str) -> Path:
        return RUN / name

    def start_buyers(self) -> None:
        for i, (name, node) in enumerate(self.buyers.items()):
            folder = self.buyer_folder(name)
            folder.mkdir(parents=True, exist_ok=True)
            config = write_json(folder / "config.json", self.client_settings(folder, self.urls[i % len(self.urls)]))
            (folder / "wallet.key").write_text(self.wallets[name][2:] + "\n")
            argv = ("bwclient", "up", "--config", str(config))
            self.keep(f"{name}-client", "client", partial(self.module, node, argv))
        self.wait("tunnels of all buyers", self.tunnels_up, 180)
        for i, (name, node) in enumerate(self.buyers.items()):
            self.watchers[name] = self.watch(name)
            self.python(
                f"{name}-traffic", node, "tests.soak.traffic", "--to", self.lab.nodes["web"].v4,
                "--files", str(self.files), "--report", str(self.buyer_folder(name) / "traffic.json"),
                "--seed", str(self.plan.seed * 1000 + i),
            )  # fmt: skip
        self.watchers["web"] = self.watch("web")

    def module(self, node: Node, argv: Sequence[str], name: str) -> Process:
        return self.python(name, node, *argv)

    def tunnels_up(self) -> bool:
        self.mind()
        time.sleep(0.3)  # what is asked all the time takes the processors from those who are waited for
        return all(self.tunnel_up(name) for name in self.buyers)

    def client_settings(self, folder: Path, url: str) -> dict[str, Any]:
        return {
            "gateway": {"url": url, "key": self.info["gateway_key"]}, "rpc_url": self.chain.url, "region": REGION,
            "hops": 3, "diversity": "relaxed", "dns": [], "run_dir": str(folder / "run"),
            "state_dir": str(folder / "state"), "wallet_key_file": str(folder / "wallet.key"), "stock_units": STOCK,
            "spend_limit_units": UNITS, "spend_limit_hour_units": UNITS, "spend_limit_day_units": UNITS,
            "max_impact_pct": 100.0, "slippage_pct": 20.0,
        }  # fmt: skip

    def tunnel(self, name: str) -> dict[str, Any]:
        return read_json(self.buyer_folder(name) / "run" / "status.json")

    def tunnel_up(self, name: str) -> bool:
        keeper, status = self.keepers[f"{name}-client"], self.tunnel(name)
        return status.get("state") == "up" and keeper.alive() and keeper.process is not None and (
            status.get("pid") == keeper.process.pid
        )  # fmt: skip

    def traffic(self, name: str) -> dict[str, Any]:
        return read_json(self.buyer_folder(name) / "traffic.json")

    def buyer_well(self, name: str) -> bool:
        """A file came whole within the last seconds."""
        return self.tunnel_up(name) and time.monotonic() - self.traffic(name).get("last_ok", 0.0) < 8

    def start_households(self) -> None:
        for seed, node in enumerate(self.lab.homes):
            report = RUN / node.name / "household.json"
            argv = ["upload", "--to", self.lab.nodes["sink"].v4, "--report", str(report), "--seed", str(seed)]
            argv += ["--burst-kb", "300", "--gap", "4:20"]
            self.keep(f"{node.name}-household", "household", partial(self.household, node, argv), flat=False)

    def household(self, node: Node, argv: Sequence[str], name: str) -> Process:
        return self.python(name, node, "tests.lab.household", *argv, ns=node.lan_ns)

    def join_verifiers(self) -> None:
        """Settings, vaults, bonds."""
        if not self.verifiers:
            return
        for i, v in enumerate(self.verifiers.values()):
            gateway = {"url": self.urls[i % len(self.urls)], "key": self.info["gateway_key"]}
            v.make({"gateway": gateway, "rpc_url": self.chain.url}, covert=i == 0)
        join_all(list(self.verifiers.values()), self.chain.url, self.info["contracts"])

    def start_verifiers(self) -> None:
        """The chain's clock goes on to the first epoch in which they are drawn."""
        epoch = windows(self.plan.routers)["audit_epoch"]
        with inside(self.gateway.ns):
            now = int(self.chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            self.chain.rpc("evm_increaseTime", (now // epoch + 2) * epoch - now)
        for name, v in self.verifiers.items():
            argv = ("bwverifier", "run", "--config", str(v.config))
            self.keep(f"{name}-verifier", "verifier", partial(self.module, v.node, argv))
        if self.verifiers:
            self.wait("a verifier", lambda: any(self.verifier_well(n) for n in self.verifiers), 90)

    def verifier_well(self, name: str) -> bool:
        """The process that runs now follows the chain."""
        process, status = self.keepers[f"{name}-verifier"].process, self.verifiers[name].status()
        return process is not None and status.get("pid") == process.pid and status.get("epoch", 0) > 0

    def audits(self) -> Found:
        """What the daemons report and the chain holds. Raises LabError, ChainError."""
        logs = [log for name in self.verifiers for log in RUN.glob(f"{name}-verifier.*.log")]
        delays = sum(line.startswith("delayed:") for log in logs for line in log.read_text(errors="replace").splitlines())
        relays = [r.id for r in self.routers.values()]
        return gather(list(self.verifiers.values()), self.chain.url, self.info["contracts"]["proof"], relays, delays)

    # -- all the time, and the end -----------------------------------------------------------------------------

    def mind(self) -> None:
        """Start again what died."""
        for keeper in self.keepers.values():
            keeper.mind(self.processes)

    def cut(self, node: Node, yes: bool) -> None:
        """The node's line loses every packet, or none."""
        rules = 'table inet cut { chain a { type filter hook prerouting priority raw; iifname "wan0" drop; }; }\n'
        undo = "table inet cut\ndelete table inet cut\n"
        run_in(node.ns, ["nft", "-f", "-"], text=undo + (rules if yes else ""))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the ledger. Raises psycopg.Error while the database is down."""
        if self.database is None:
            raise psycopg.OperationalError("no database")
        with self.database.connect() as c:
            return list(c.execute(sql))

    def remove(self) -> None:
        """The file systems that were mounted."""
        for router in self.flash:
            subprocess.run(["umount", "-l", str(router.state_dir)], check=False, capture_output=True)
        if self.database:
            self.database.remove()


def first(start: Callable[[str], Process], name: str) -> Process:
    """A server's process, before all homes' when the processors are full: in life it has a machine of its own."""
    process = start(name)
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, process.pid, SERVERS_NICE)
    return process


def sweep() -> None:
    """Unmount what a soak that was killed has left."""
    for line in Path("/proc/mounts").read_text().splitlines():
        words = line.split()
        if words[0] == "bwsoak" and (words[1].startswith(str(RUN)) or "bwsoak-pg-" in words[1]):
            subprocess.run(["umount", "-l", words[1]], check=False, capture_output=True)
