"""A small pool of real parts: chain and gateway, home routers, a data-centre exit, a buyer.

`make run` and the lab's tests use it. Every actor is a process (or two) in its own network namespace and speaks to the
others over sockets only. Routers run on MicroPython from `src/`; their relay has a user of its own, no capability and
no way to gain one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests
from eth_account import Account
from nacl.signing import SigningKey

from tests.lab import chain, web
from tests.lab.net import RELAY_PORT, Lab, Node, inside, run_in
from tests.lab.proc import BUILD, ROOT, RUN, Process, Processes, wait_for

REGION = 1
EPOCH_SECONDS, CHALLENGE_SECONDS = 3, 1
GATEWAY_PORT, RPC_PORT = 8080, 8545
EXIT = "dc"
HOPS, TICKET_BYTES = 3, 64 << 20
WATCHED = ("r1", "r2", "r3", "r4", "dc", "gateway", "buyer", "web")
MAY_SEE = ("dc", "web")  # the exit's and the web server's own links
FIRST_UID = 64101
STAKE, ROUTER_COIN, BUYER_COIN, BUYER_BWT = 100 * chain.ETHER, chain.ETHER, 10 * chain.ETHER, 1000 * chain.ETHER
# The tree is bound to a place that every user can reach, in a mount namespace of the process's own (`ip netns exec`).
SHELF = "/mnt"
AT_SHELF = ["sh", "-c", f'mount --rbind "$0" {SHELF} && cd {SHELF} && exec "$@"', str(ROOT)]


class Refused(Exception):
    """A part of the pool does not do what it must; the text names the part and what it said."""


def micropython() -> Path:
    """This machine's MicroPython. Raises Refused when it is not built."""
    path = BUILD / "micropython" / "native" / "micropython"
    if path.is_file():
        return path
    raise Refused("MicroPython is not built: run `make micropython`")


def log_level() -> str:
    """Of routers and gateway: LAB_LOG_LEVEL, or info."""
    return os.environ.get("LAB_LOG_LEVEL", "info")


def shelf(path: Path) -> str:
    """`path` of this checkout as the routers' processes see it."""
    return str(Path(SHELF) / path.relative_to(ROOT))


@dataclass
class Router:
    """One router of the pool: two processes and a folder."""

    node: Node
    uid: int
    folder: Path
    binary: Path
    agent: Process | None = None
    relay: Process | None = None
    id: str = ""
    wallet: str = ""
    wrap: list[str] = field(default_factory=list)  # words before the program: `env NAME=VALUE` and the like

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def settings(self, gateways: list[dict[str, str]]) -> dict[str, Any]:
        line = self.node.line
        uplink = line.up_kbps if line else 1_000_000
        return {
            "region": REGION, "rate_kbps": min(uplink, 100_000), "listen_port": RELAY_PORT, "public_v4": self.node.v4,
            "wan": "wan0", "lan_prefixes": ["192.168.1.0/24"] if line else [],
            "uplink_kbps": uplink, "reserve_pct": 5, "gateways": gateways, "stake_wei": str(STAKE),
            "exit": self.node.name.startswith(EXIT), "run_dir": shelf(self.run_dir), "state_dir": shelf(self.state_dir),
            "log_level": log_level(),
        }  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return [*AT_SHELF, *self.wrap, shelf(self.binary), "-m", "bwrouter", *words, "--config", shelf(self.config)]

    def relay_command(self) -> list[str]:
        """As the init script starts it: own user, no capabilities, no new privileges."""
        user = str(self.uid)
        drop = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"]
        drop += ["--bounding-set=-all", "--inh-caps=-all", "--"]
        argv = self.command("relay")
        return [*AT_SHELF, *drop, *argv[len(AT_SHELF) :]]

    def status(self) -> dict[str, Any]:
        return read_json(self.run_dir / "status.json")

    def learn_id(self) -> str:
        """The relay's public id, from its identity key."""
        seed = bytes.fromhex((self.state_dir / "identity.key").read_text().strip())
        self.id = bytes(SigningKey(seed).verify_key).hex()
        return self.id

    def runs_micropython(self) -> bool:
        """Whether the kernel says that the relay process is the MicroPython binary."""
        if self.relay is None or not self.relay.alive():
            return False
        return os.path.samestat(os.stat(f"/proc/{self.relay.pid}/exe"), self.binary.stat())


def says(process: Process, word: str) -> bool:
    return word in process.tail()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that is replaced atomically; empty while it is not there."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
    return path


class Pool:
    """Brings the parts up, in order, and asks them. `remaining()` bounds every wait."""

    def __init__(self, lab: Lab, processes: Processes, size: int, remaining: Callable[[], float]) -> None:
        self.lab, self.processes, self.size, self.remaining = lab, processes, size, remaining
        self.folder = RUN
        self.gateway = lab.nodes["gateway"]
        self.url = f"http://{self.gateway.v4}:{GATEWAY_PORT}"
        self.chain = chain.Chain(f"http://{self.gateway.v4}:{RPC_PORT}")
        self.info: dict[str, Any] = {}
        binary = micropython()
        names = [n for n in lab.nodes if lab.nodes[n].line or n.startswith(EXIT)]
        self.routers = {n: Router(lab.nodes[n], FIRST_UID + i, RUN / n, binary) for i, n in enumerate(names)}
        self.watchers: dict[str, Process] = {}
        self.file: web.RandomFile | None = None
        self.buyer_key = "0x" + os.urandom(32).hex()
        self.buyer = Account.from_key(self.buyer_key).address
        self.client: Process | None = None

    # -- the internet ------------------------------------------------------------------------------------------

    def wait(self, what: str, ready: Callable[[], object], limit: float = 30.0, by: Process | None = None) -> None:
        """Wait for `ready()`; fail early when process `by` ends."""

        def check() -> object:
            if by is not None and not by.alive():
                raise Refused(f"{what}: {by.name} ended with {by.popen.returncode}:\n{by.tail()}")
            return ready()

        try:
            wait_for(what, check, max(0.0, min(limit, self.remaining())))
        except TimeoutError as e:
            if self.remaining() <= 0:
                raise Refused(f"time is up while waiting for: {what} (RUN_SECONDS gives more)") from None
            said = f"; {by.name} said:\n{by.tail()}" if by else ""
            raise Refused(f"{e}{said}") from None

    def python(self, name: str, node: Node, *argv: str, ns: str = "") -> Process:
        return self.processes.start(name, [sys.executable, "-m", *argv], ns or node.ns)

    def start_internet(self) -> None:
        """Web server with a fresh file, sink, households, a capture on each link."""
        self.file = web.make_file(RUN / "web", self.size)
        server = self.python("web", self.lab.nodes["web"], "tests.lab.web", "--folder", str(RUN / "web"))
        sink = self.python("sink", self.lab.nodes["sink"], "tests.lab.household", "serve")
        for name in WATCHED:
            if name in self.lab.nodes:
                self.watchers[name] = self.watch(name)
        for process in (server, sink):
            self.wait(process.name, partial(says, process, "ready"), by=process)
        for name, process in self.watchers.items():
            self.wait(f"capture of {name}", self.report(name).exists, by=process)

    def watch(self, name: str) -> Process:
        assert self.file
        server, report = self.lab.nodes["web"], self.report(name)
        report.parent.mkdir(parents=True, exist_ok=True)
        return self.python(
            f"capture-{name}", self.lab.nodes[name], "tests.lab.capture", "--link", self.lab.nodes[name].link,
            "--web", server.v4, "--web6", server.v6, "--path", self.file.url_path, "--head", self.file.head.hex(),
            "--report", str(report), ns=self.lab.inet,
        )  # fmt: skip

    def start_households(self) -> None:
        for seed, node in enumerate(self.lab.homes):
            report = RUN / node.name / "household.json"
            report.parent.mkdir(parents=True, exist_ok=True)
            self.python(
                f"household-{node.name}", node, "tests.lab.household", "upload", "--to", self.lab.nodes["sink"].v4,
                "--report", str(report), "--seed", str(seed), "--burst-kb", "1000", "--gap", "3:9", ns=node.lan_ns,
            )  # fmt: skip

    # -- gateway, chain, money ---------------------------------------------------------------------------------

    def gateway_settings(self) -> dict[str, Any]:
        """What the gateway's settings file has."""
        return {
            "host": self.gateway.v4, "port": GATEWAY_PORT, "state_dir": str(RUN / "gateway"), "regions": [REGION],
            "epoch_seconds": EPOCH_SECONDS, "challenge_seconds": CHALLENGE_SECONDS,
            "chain": {"host": self.gateway.v4, "port": RPC_PORT}, "log_level": log_level(),
        }  # fmt: skip

    def start_gateway(self) -> Process:
        config = write_json(RUN / "gateway.json", self.gateway_settings())
        process = self.python("gateway", self.gateway, "bwgateway", "serve", "--config", str(config))
        process.last = True
        self.wait("gateway", self.gateway_answers, by=process)
        return process

    def gateway_answers(self) -> bool:
        try:
            self.info = self.ask("/v1/info")
        except (requests.ConnectionError, Refused):
            return False
        return True

    def ask(self, path: str) -> dict[str, Any]:
        """GET from the gateway, from its own namespace. Raises Refused on an error status."""
        with inside(self.gateway.ns), requests.Session() as session:
            session.trust_env = False
            answer = session.get(self.url + path, timeout=5)
        if answer.status_code != 200:
            raise Refused(f"gateway: GET {path} answered {answer.status_code}: {answer.text[:300]}")
        told: dict[str, Any] = answer.json()
        return told

    def fund(self) -> None:
        """The faucet: native coin and BWT for the routers' wallets and the buyer."""
        bwt = self.info["contracts"]["token"]
        orders = []
        for router in self.routers.values():
            orders += [(router.wallet, ROUTER_COIN, STAKE)]
        orders.append((self.buyer, BUYER_COIN, BUYER_BWT))
        transactions: list[dict[str, Any]] = []
        for account, coin, tokens in orders:
            transactions += [{"to": account, "value": coin}, chain.transfer(bwt, account, tokens)]
        key = (RUN / "gateway" / "treasury.key").read_text().strip()
        with inside(self.gateway.ns):
            self.chain.send_all(transactions, key)

    # -- routers -----------------------------------------------------------------------------------------------

    def make_routers(self) -> None:
        """Folders, settings and keys, as an installed router has them."""
        for router in self.routers.values():
            self.make_state_dir(router)
            router.run_dir.mkdir(parents=True)
            os.chown(router.run_dir, 0, router.uid)
            router.run_dir.chmod(0o770)
            write_json(router.config, router.settings(self.gateways()))
            run_in(router.node.ns, ["env", *self.router_env(), *router.command("keys", "init")])
            key = (router.state_dir / "wallet.key").read_text().strip()
            router.learn_id()
            router.wallet = Account.from_key(key).address

    def gateways(self) -> list[dict[str, str]]:
        """What routers list as their gateways."""
        return [{"url": self.url, "key": self.info["gateway_key"]}]

    def make_state_dir(self, router: Router) -> None:
        """Where a router keeps what must survive."""
        router.state_dir.mkdir(parents=True)

    def router_env(self) -> list[str]:
        return [f"MICROPYPATH={SHELF}/src:.frozen"]

    def start_routers(self) -> None:
        env = dict(x.split("=", 1) for x in self.router_env())
        for name, router in self.routers.items():
            router.agent = self.processes.start(f"{name}-agent", router.command("agent"), router.node.ns, env)
            router.relay = self.processes.start(f"{name}-relay", router.relay_command(), router.node.ns, env)

    def wait_listed(self) -> None:
        """Until the directory has a descriptor of every router."""

        def listed() -> bool:
            self.dead()
            return len(self.ask("/v1/directory")["descriptors"]) >= len(self.routers)

        self.wait("directory of all routers", listed, 30)

    # -- the buyer ---------------------------------------------------------------------------------------------

    def start_buyer(self) -> None:
        """The client swaps, deposits, takes tickets, builds the circuit and its TUN."""
        config = write_json(RUN / "buyer" / "config.json", self.buyer_settings())
        self.save_wallet()
        argv = ("bwclient", "up", "--config", str(config))
        self.client = self.python("client", self.lab.nodes["buyer"], *argv)
        self.wait("circuit", lambda: self.client_status().get("state") == "up", 30, by=self.client)

    def save_wallet(self) -> None:
        """The buyer's key, where its settings say."""
        file = Path(self.buyer_settings()["wallet_key_file"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.buyer_key[2:] + "\n")

    def buyer_settings(self) -> dict[str, Any]:
        folder = RUN / "buyer"
        tickets = HOPS * (1 + -(-self.size * 5 // (4 * TICKET_BYTES)))  # a quarter more than the file, one in reserve
        units = tickets * TICKET_BYTES // 65536
        return {
            "gateway": {"url": self.url, "key": self.info["gateway_key"]}, "rpc_url": self.chain.url,
            "region": REGION, "hops": HOPS, "diversity": "relaxed", "dns": [], "run_dir": str(folder / "run"),
            "wallet_key_file": str(folder / "wallet.key"),
            "state_dir": str(folder / "state"), "stock_units": units, "spend_limit_units": units,
        }  # fmt: skip

    def client_status(self) -> dict[str, Any]:
        return read_json(RUN / "buyer" / "run" / "status.json")

    @property
    def target(self) -> Path:
        return RUN / "buyer" / "download.bin"

    def downloaded(self) -> int:
        return self.target.stat().st_size if self.target.exists() else 0

    def download(self) -> float:
        """curl in the buyer's namespace; returns its seconds. Raises Refused when it fails or stalls."""
        assert self.file and self.client
        url = f"http://{self.lab.nodes['web'].v4}{self.file.url_path}"
        argv = ["curl", "--silent", "--show-error", "--fail", "--speed-time", "15", "--speed-limit", "1000"]
        curl = self.processes.start("curl", [*argv, "-o", str(self.target), url], self.lab.nodes["buyer"].ns)
        began = time.monotonic()
        while curl.alive():
            self.dead(but=curl)
            if self.remaining() <= 0:
                raise Refused(f"time is up after {self.downloaded():,} of {self.size:,} bytes (RUN_SECONDS gives more)")
            time.sleep(0.05)
        if curl.popen.returncode:
            raise Refused(f"curl ended with {curl.popen.returncode}: {curl.tail()}; client said:\n{self.client.tail()}")
        self.processes.started.remove(curl)
        return time.monotonic() - began

    def dead(self, but: Process | None = None) -> None:
        """Raise Refused when a process of the pool has ended by itself."""
        for process in self.processes.dead():
            if process is not but:
                raise Refused(f"{process.name} ended with {process.popen.returncode}:\n{process.tail()}")

    def stop_buyer(self) -> None:
        """SIGTERM: the client settles with every hop, closes the circuit and writes its last status."""
        assert self.client
        if status := self.client.stop(min(20.0, max(4.0, self.remaining()))):
            raise Refused(f"the client ended with {status}:\n{self.client.tail()}")
        self.processes.started.remove(self.client)

    # -- the end -----------------------------------------------------------------------------------------------

    def report(self, name: str) -> Path:
        """Where the capture of a link writes what it saw."""
        return RUN / "capture" / f"{name}.json"

    def by_id(self, relay: str) -> Router | None:
        return next((r for r in self.routers.values() if r.id == relay), None)

    def remove_files(self) -> None:
        """The large ones; logs, settings and reports stay in build/run."""
        self.target.unlink(missing_ok=True)
        if self.file:
            self.file.path.unlink(missing_ok=True)


def leftover_files(folder: Path, most: int = 8 << 20) -> list[Path]:
    """Files of a run that are too large to be logs or state."""
    return [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > most]


def fresh_folder() -> None:
    """An empty build/run."""
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
