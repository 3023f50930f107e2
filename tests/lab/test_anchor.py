"""An exit behind a provider's symmetric NAT: found through an anchor, used and paid, and found again when that dies."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bwrouter.wire import descriptor as D
from tests.lab import net, proc
from tests.lab.pool import Pool, Router, fresh_folder
from tests.lab.proc import wait_for
from tests.lab.run import only_one

HIDDEN = "dc"
SIZE = 3_000_000
SECONDS = 170.0


def behind_nat(lab: net.Lab, node: net.Node) -> str:
    """Give `node` an address of its provider's own (RFC 6598); the provider translates it, with another port for every
    flow, and lets nothing in that was not asked for. Returns that address."""
    own, gate = f"100.64.{node.number}.2", f"100.64.{node.number}.1"
    for ns, link, address in ((node.ns, "wan0", own), (lab.inet, node.link, gate)):
        subprocess.run(["ip", "-n", ns, "addr", "flush", "dev", link], check=True)
        subprocess.run(["ip", "-n", ns, "addr", "add", f"{address}/24", "dev", link], check=True)
    subprocess.run(["ip", "-n", node.ns, "route", "replace", "default", "via", gate], check=True)
    subprocess.run(["ip", "-n", lab.inet, "route", "add", "blackhole", node.v4 + "/32"], check=True)
    rules = f"""table ip provider {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {own} udp dport 0-65535 snat to {node.v4}:1024-65535 random,fully-random
    ip saddr {own} snat to {node.v4}
  }}
}}
"""
    net.run_in(lab.inet, ["nft", "-f", "-"], text=rules)
    return own


class HiddenPool(Pool):
    """The exit's settings are those of a router whose WAN has no public address."""

    own = ""

    def make_routers(self) -> None:
        hidden = self.routers[HIDDEN]
        told = hidden.settings

        def settings(gateways: list[dict[str, str]]) -> dict[str, Any]:
            return told(gateways) | {"public_v4": "", "wan_v4": self.own}

        hidden.settings = settings  # type: ignore[method-assign]
        super().make_routers()

    def anchor(self) -> Router | None:
        """Whose address the hidden router is published under."""
        for raw in self.ask("/v1/directory")["descriptors"]:
            d = D.parse(bytes.fromhex(raw))
            if d.relay.hex() == self.routers[HIDDEN].id and d.anchored:
                return next(r for r in self.routers.values() if r.node.v4 == ".".join(map(str, d.v4)))
        return None

    def reach(self) -> dict[str, Any]:
        found: dict[str, Any] = self.routers[HIDDEN].status().get("reach") or {}
        return found

    def buy(self) -> None:
        """A file over the tunnel, whose exit is the hidden router."""
        self.target.unlink(missing_ok=True)
        self.start_buyer()
        assert self.client_status()["hops"][-1]["id"] == self.routers[HIDDEN].id
        self.download()
        assert self.downloaded() == SIZE
        self.stop_buyer()

    def units(self) -> int:
        return int(self.ask("/v1/earnings/" + self.routers[HIDDEN].id)["units"])


@pytest.fixture
def pool() -> Iterator[HiddenPool]:
    end = time.monotonic() + SECONDS
    processes = proc.Processes()
    with only_one():
        fresh_folder()
        with net.Lab() as lab:
            made = HiddenPool(lab, processes, SIZE, lambda: end - time.monotonic())
            made.own = behind_nat(lab, lab.nodes[HIDDEN])
            try:
                made.start_internet()
                made.start_gateway()
                made.make_routers()
                made.fund()
                made.start_routers()
                yield made
            finally:
                processes.stop()
                made.remove_files()


def test_an_exit_behind_nat_is_found_used_and_paid(pool: HiddenPool) -> None:
    pool.wait("the hidden router in the directory", lambda: pool.anchor() is not None, 60)
    pool.wait_listed()
    first = pool.anchor()
    assert first is not None and first is not pool.routers[HIDDEN]
    pool.wait("the hidden router's own word", lambda: pool.reach().get("state") == "anchor", 10)
    reach = pool.reach()
    assert (reach["state"], reach["address"], reach["anchor"]) == ("anchor", first.node.v4, first.id), reach
    pool.buy()
    assert first.status()["relay"]["introduced"] > 0 and first.status()["relay"]["anchored"] == 1
    wait_for("the exit's pay", lambda: pool.units() * 65536 > SIZE, 20)
    paid = pool.units()

    # The anchor dies: another takes its place within a minute, and buyers find the exit there.
    for process in (first.agent, first.relay):
        assert process is not None
        process.stop(1)
        pool.processes.started.remove(process)
    took = wait_for("another anchor", lambda: pool.anchor() not in (None, first), 60)
    assert pool.reach()["state"] == "anchor" and took < 60
    pool.buy()
    wait_for("the exit's pay", lambda: pool.units() > paid, 20)
