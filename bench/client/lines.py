"""The homes' access lines while the benchmark runs: delay and rate, changed at will."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from pyroute2.ethtool.ioctl import IoctlEthtool

from tests.client.stage import Stage
from tests.lab.net import inside, run_in
from tests.lab.pool import read_json, write_json

DELAY = Path("build/bench/delay")
BUFFER_MS = 100  # of a modem's upstream queue


def whole_checksums(ns: str, ifname: str) -> None:
    """What crosses the link has its checksums: a packet socket takes frames as they are, and nobody after it would put
    in what a veth leaves to the hardware that it has not."""
    with inside(ns):
        card = IoctlEthtool(ifname)
        try:
            features = card.get_features()
            features.set_value("tx-checksum-ip-generic", False)
            card.set_features(features)
        finally:
            card.close()


class Lines:
    """A delay process in place of each modem's bridge, and the rate of its bucket."""

    def __init__(self, s: Stage) -> None:
        self.s = s
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        modems = s.lab.modems
        for home in s.lab.homes:
            whole_checksums(home.ns, "wan0")
            whole_checksums(s.lab.inet, home.link)
            for port in (f"l-{home.name}", f"w-{home.name}"):
                run_in(modems, ["ip", "link", "set", port, "nomaster"])
                run_in(modems, ["ip", "link", "set", port, "promisc", "on"])
            self.children[home.name] = subprocess.Popen(
                ["ip", "netns", "exec", modems, str(DELAY), f"l-{home.name}", f"w-{home.name}", "0"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def delay(self, one_way_ms: float) -> None:
        """Every frame that crosses a home's line, either way, comes so much later."""
        for child in self.children.values():
            assert child.stdin
            child.stdin.write(f"{one_way_ms}\n".encode())
            child.stdin.flush()

    def rate(self, mbps: int) -> None:
        """Upstream rate of every home; the routers' settings name it too, so that both processes start anew, with the
        round trip of now for the one that is no queue's."""
        limit = max(64_000, mbps * 1000 // 8 * BUFFER_MS)
        pool = self.s.pool
        env = dict(x.split("=", 1) for x in pool.router_env())
        for home in self.s.lab.homes:
            command = f"tc qdisc change dev w-{home.name} root tbf rate {mbps}mbit burst 32kb limit {limit}"
            run_in(self.s.lab.modems, command.split())
            router = pool.routers[home.name]
            uplink = {"uplink_kbps": mbps * 1000, "rate_kbps": min(mbps * 1000, 100_000)}
            write_json(router.config, read_json(router.config) | uplink)
            for process in (router.relay, router.agent):
                assert process
                process.ask()
        for home in self.s.lab.homes:
            router = pool.routers[home.name]
            for process in (router.relay, router.agent):
                assert process
                process.stop()
                self.s.forget(process)
            name = router.node.name
            router.agent = pool.processes.start(f"{name}-agent", router.command("agent"), router.node.ns, env)
            router.relay = pool.processes.start(f"{name}-relay", router.relay_command(), router.node.ns, env)
        time.sleep(1.0)
        self.s.wait("the relays' whole rate", lambda: all(self._risen(h.name, mbps) for h in self.s.lab.homes), 20)

    def _risen(self, name: str, mbps: int) -> bool:
        """Whether a home's relay may use all of its line but the reserve: the rate rises from nothing in 5 s."""
        rate = self.s.pool.routers[name].status().get("rate", {})
        return bool(rate.get("uplink_kbps") == mbps * 1000 and rate.get("allowed_kbps", 0) >= mbps * 930)

    def stop(self) -> None:
        for child in self.children.values():
            assert child.stdin
            child.stdin.close()
            child.wait(5)
