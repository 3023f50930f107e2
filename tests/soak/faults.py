"""What is done to a town. Each fault begins, lasts, ends, and names what must be well again afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.lab.chain import ChainError
from tests.lab.net import Node, inside, run_in
from tests.lab.pool import Router
from tests.lab.proc import BUILD, environment
from tests.soak import database
from tests.soak.keeper import Keeper
from tests.soak.liar import LIES
from tests.soak.town import Town

LINE = BUILD / "soak" / "line"
REORG_MOST = 2  # blocks; the gateways of the town wait for three
JUMPS = (-7 * 86_400.0, -3600.0, -90.0, 90.0, 3600.0, 40 * 86_400.0)
VICTIMS = ("agent", "relay", "gateway", "client", "verifier", "proxy", "postgres", "household")
KILLS = 4  # in each round
ROOM = 4096  # bytes that a full disk has left


@dataclass
class Fault:
    """One thing that goes wrong. `well` is asked from the end on until it is true."""

    kind: str
    told: str
    seconds: float
    begin: Callable[[], None]
    end: Callable[[], None]
    well: Callable[[], bool]
    began: float = 0.0
    ended: float = 0.0
    target: str = field(default="")


def nothing() -> None:
    """A fault that ends by itself."""


class Faults:
    """Draws faults for a town; the same seed draws the same ones, as far as the town has the same state."""

    def __init__(self, town: Town, seed: int) -> None:
        self.town, self.chance = town, random.Random(seed)
        self.busy: set[str] = set()  # targets under a fault
        self.makers: dict[str, Callable[[], Fault | None]] = {
            "kill": self.kill, "cut": self.cut, "loss": lambda: self.bad_line("loss", 10, 0, 5, 0, 0),
            "jitter": lambda: self.bad_line("jitter", 20, 200, 0, 0, 0),
            "reorder": lambda: self.bad_line("reorder", 20, 5, 0, 0, 25),
            "duplicate": lambda: self.bad_line("duplicate", 5, 0, 0, 20, 0),
            "clock": self.clock, "flash full": self.flash_full, "database full": self.database_full,
            "database restart": self.database_restart, "reorg": self.reorg, "lying rpc": self.lying,
            "silent chain": self.silent_chain,
        }  # fmt: skip
        self.round: list[str] = []
        self.victims: list[str] = []

    def draw(self) -> Fault | None:
        """The next one: every kind once in each round, kills KILLS times. What has no target that is not busy comes as
        soon as it has; None when nothing has."""
        if not self.round:
            self.round = [*self.makers, *["kill"] * (KILLS - 1)]
            self.chance.shuffle(self.round)
        for i, kind in enumerate(self.round):
            if fault := self.makers[kind]():
                del self.round[i]
                return fault
        return None

    def _free(self, names: list[str]) -> str | None:
        free = sorted(set(names) - self.busy)
        return self.chance.choice(free) if free else None

    def _home(self) -> Router | None:
        name = self._free([n.name for n in self.town.lab.homes])
        return self.town.routers[name] if name else None

    # -- processes ---------------------------------------------------------------------------------------------

    def kill(self) -> Fault | None:
        """kill -9 of any process that somebody starts again; of each kind once before any kind's turn comes again."""
        if not self.victims:
            self.victims = [v for v in VICTIMS if any(k.kind == v for k in self.town.keepers.values())]
            self.chance.shuffle(self.victims)
        for kind in self.victims:
            name = self._free([k.name for k in self.town.keepers.values() if k.kind == kind and k.alive()])
            if name is not None:
                break
        else:
            return None
        self.victims.remove(kind)
        keeper = self.town.keepers[name]
        starts = keeper.starts
        return Fault(
            f"kill {kind}", f"kill -9 {name}", 0.0, keeper.kill, nothing,
            lambda: keeper.starts > starts and keeper.alive() and self.service_well(keeper), target=name,
        )  # fmt: skip

    def service_well(self, keeper: Keeper) -> bool:
        """Whether what this process serves is served again."""
        town, name = self.town, keeper.name
        if keeper.kind in ("agent", "relay"):
            return town.router_well(town.routers[name.rsplit("-", 1)[0]])
        if keeper.kind == "gateway":
            return town.healthy(town.urls[int(name.removeprefix("gateway")) - 1])
        if keeper.kind == "client":
            return town.buyer_well(name.removesuffix("-client"))
        if keeper.kind == "postgres":
            return self.gateways_well()
        if keeper.kind == "verifier":
            return town.verifier_well(name.removesuffix("-verifier"))
        return keeper.alive()

    def gateways_well(self) -> bool:
        return all(self.town.healthy(url) for url in self.town.urls)

    def database_restart(self) -> Fault | None:
        """An operator's restart: SIGINT, PostgreSQL's fast shutdown."""
        keeper = self.town.keepers["postgres"]
        if "postgres" in self.busy or keeper.process is None:
            return None
        pid = keeper.process.pid
        return Fault(
            "database restart", "restart PostgreSQL", 0.0, lambda: os.kill(pid, signal.SIGINT), nothing,
            lambda: keeper.alive() and self.gateways_well(), target="postgres",
        )  # fmt: skip

    # -- lines -------------------------------------------------------------------------------------------------

    def cut(self) -> Fault | None:
        """A home's or a buyer's line is dead for some seconds."""
        name = self._free([n.name for n in self.town.lab.homes] + list(self.town.buyers))
        if name is None:
            return None
        node: Node = self.town.lab.nodes[name]
        router = self.town.routers.get(name)
        well = (lambda: self.town.router_well(router)) if router else (lambda: self.town.buyer_well(name))
        return Fault(
            "cut", f"cut the line of {name}", self.chance.uniform(2, 8), lambda: self.town.cut(node, True),
            lambda: self.town.cut(node, False), well, target=name,
        )  # fmt: skip

    def bad_line(self, kind: str, delay: int, jitter: int, loss: int, twice: int, early: int) -> Fault | None:
        """A process takes the place of a modem's bridge and treats frames badly."""
        router = self._home()
        if router is None:
            return None
        name, modems = router.node.name, self.town.lab.modems
        ports = (f"l-{name}", f"w-{name}")
        child: list[subprocess.Popen[bytes]] = []

        def begin() -> None:
            for port in ports:
                run_in(modems, ["ip", "link", "set", port, "nomaster"])
                run_in(modems, ["ip", "link", "set", port, "promisc", "on"])
            words = [*map(str, (delay, jitter, loss, twice, early)), str(self.chance.randrange(1, 2**31))]
            argv = ["ip", "netns", "exec", modems, str(LINE), *ports, *words]
            child.append(subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment(), start_new_session=True
            ))  # fmt: skip

        def end() -> None:
            for c in child:
                c.kill()
                c.wait(5)
            for port in ports:
                run_in(modems, ["ip", "link", "set", port, "promisc", "off"])
                run_in(modems, ["ip", "link", "set", port, "master", f"b-{name}"])

        told = f"{kind} on the line of {name}"
        return Fault(kind, told, self.chance.uniform(8, 20), begin, end, lambda: self.town.router_well(router), target=name)

    # -- clock, disks ------------------------------------------------------------------------------------------

    def clock(self) -> Fault | None:
        router = self._home()
        if router is None:
            return None
        clock, by = self.town.clocks[router.node.name], self.chance.choice(JUMPS)
        return Fault(
            "clock", f"the clock of {router.node.name} jumps by {by:+.0f} s", self.chance.uniform(4, 12),
            lambda: clock.set(by), lambda: clock.set(0.0), lambda: self.town.router_well(router),
            target=router.node.name,
        )  # fmt: skip

    def flash_full(self) -> Fault | None:
        name = self._free([r.node.name for r in self.town.flash])
        if name is None:
            return None
        router = self.town.routers[name]
        return Fault(
            "flash full", f"the flash of {name} is full", self.chance.uniform(4, 10),
            lambda: database.fill(router.state_dir), lambda: database.empty(router.state_dir),
            lambda: self.town.router_well(router), target=name,
        )  # fmt: skip

    def database_full(self) -> Fault | None:
        base = self.town.database
        if "postgres" in self.busy or base is None:
            return None
        return Fault(
            "database full", "PostgreSQL's disk is full", self.chance.uniform(2, 5), lambda: base.fill(ROOM),
            base.empty, self.gateways_well, target="postgres",
        )  # fmt: skip

    # -- chain -------------------------------------------------------------------------------------------------

    def reorg(self) -> Fault | None:
        """The newest blocks are replaced by empty ones: their transactions are gone."""
        if "chain" in self.busy:
            return None
        depth = self.chance.randint(1, REORG_MOST)

        def begin() -> None:
            with contextlib.suppress(ChainError), inside(self.town.gateway.ns):
                self.town.chain.rpc("anvil_reorg", depth, [])

        told = f"the chain loses {depth} block{'s' if depth > 1 else ''}"
        return Fault("reorg", told, 0.0, begin, nothing, self.town.chain_answers, target="chain")

    def lying(self) -> Fault | None:
        if "rpc" in self.busy:
            return None
        how, lie = self.chance.choice(LIES), self.town.lie
        return Fault(
            "lying rpc", f"an RPC endpoint lies: {how}", self.chance.uniform(5, 12),
            lambda: _write(lie, how), lambda: _write(lie, ""), self.gateways_well, target="rpc",
        )  # fmt: skip

    def silent_chain(self) -> Fault | None:
        """The node is stopped and goes on: every endpoint is silent."""
        anvil = next(p for p in self.town.processes.started if p.name == "anvil")
        if "chain" in self.busy:
            return None
        return Fault(
            "silent chain", "the chain's node stands still", self.chance.uniform(2, 6),
            lambda: os.kill(anvil.pid, signal.SIGSTOP), lambda: os.kill(anvil.pid, signal.SIGCONT),
            lambda: self.town.chain_answers() and self.gateways_well(), target="chain",
        )  # fmt: skip


def _write(lie: os.PathLike[str], text: str) -> None:
    with open(lie, "w") as f:
        f.write(text)
