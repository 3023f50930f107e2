"""The lab's pool (tests/lab) with a guest in the place of a home router: QEMU runs in r1's network namespace, its card
bridged to r1's line, under r1's address. Chain, gateway, the other two routers, web server and buyer are the lab's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from qemu.guest import ROOT, Guest
from tests.lab import pool
from tests.lab.net import Lab, run_in
from tests.lab.pool import Pool, Router
from tests.lab.proc import Processes

HOME = "r1"
TAP = "guest0"


class GuestPool(Pool):
    """`pool.routers["r1"]` is the guest: its keys and processes are in there, only id and wallet are known here."""

    @property
    def guest_router(self) -> Router:
        return self.routers[HOME]

    @contextlib.contextmanager
    def _without_guest(self) -> Iterator[None]:
        kept = self.routers
        self.routers = {name: router for name, router in kept.items() if name != HOME}
        try:
            yield
        finally:
            self.routers = kept

    def make_routers(self) -> None:
        with self._without_guest():
            super().make_routers()

    def start_routers(self) -> None:
        with self._without_guest():
            super().start_routers()

    def configure(self, guest: Guest, **more: str) -> None:
        """What the owner sets before enabling: gateway, stake, line. Nothing is started."""
        settings = {
            "region": str(pool.REGION),
            "rate_kbps": "10000",
            "uplink_kbps": "20000",
            "stake_wei": str(pool.STAKE),
            **more,
        }
        lines = [f"set bwrouter.main.{name}={value}" for name, value in settings.items()]
        lines += ["add bwrouter gateway", f"set bwrouter.@gateway[0].url={self.url}"]
        lines += [f"set bwrouter.@gateway[0].key={self.info['gateway_key']}", "commit bwrouter"]
        text = "\n".join(lines)
        guest.run(f"uci batch <<EOI >/dev/null\n{text}\nEOI")
        guest.run(f"printf 'device wan eth0\\nipaddr wan {self.address}\\n' >/tmp/network")

    @property
    def address(self) -> str:
        return self.lab.nodes[HOME].v4

    def guest_options(self) -> dict[str, object]:
        """Keyword arguments of Guest that put it on r1's line."""
        node = self.lab.nodes[HOME]
        gate = node.v4.rpartition(".")[0] + ".1"
        return {"nics": [TAP], "ns": node.ns, "append": f"guest.ip={node.v4}/24 guest.gw={gate}"}


def bridge(lab: Lab) -> None:
    """r1's namespace hands its line on to a TAP for QEMU; its own addresses go."""
    ns = lab.nodes[HOME].ns
    for command in (
        "nft delete table inet home",  # the router's firewall, which may see bridged packets too
        "ip addr flush dev wan0",
        "ip link add br0 type bridge",
        "ip link set wan0 master br0",
        f"ip tuntap add dev {TAP} mode tap",
        f"ip link set {TAP} master br0",
        f"ip link set {TAP} up",
        "ip link set br0 up",
    ):
        run_in(ns, command.split())


@contextlib.contextmanager
def guest_pool(size: int, seconds: float) -> Iterator[GuestPool]:
    """A pool without its guest, running, in a folder of its own; `seconds` bound all that is waited for."""
    folder = ROOT / "build" / "tmp" / f"pool-{os.getpid()}"
    folder.mkdir(parents=True)
    end = time.monotonic() + seconds
    lab_run = vars(pool)
    before, lab_run["RUN"] = lab_run["RUN"], folder
    try:
        processes = Processes(folder)
        with Lab(homes=2) as lab:
            try:
                bridge(lab)
                parts = GuestPool(lab, processes, size, lambda: end - time.monotonic())
                parts.start_internet()
                parts.start_gateway()
                parts.make_routers()
                yield parts
            finally:
                processes.stop()
    finally:
        lab_run["RUN"] = before
        shutil.rmtree(folder, ignore_errors=True)


def package() -> Path:
    """The built .ipk."""
    found = sorted((ROOT / "dist").glob("bwrouter_*_all.ipk"))
    assert found, "no .ipk: run make ipk"
    return found[-1]
