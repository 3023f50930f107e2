"""`bw lan`: a router of the lab whose provider advertises itself and delegates a prefix, and a host behind it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.client.stage import DNSMASQ, FOLDER, Stage
from tests.client.watch import Watch
from tests.lab.net import run_in
from tests.lab.proc import environment

pytestmark = [pytest.mark.slow, pytest.mark.root]
NAME = "site.lab"
DELEGATED, RENEWED = "2001:2:0:2033::", "2001:2:0:2034::"
RA_LIFETIME = 30
PYTHON = [sys.executable, "-m"]


class Lan:
    """A LAN behind the buyer's machine: its interface `lan0`, one host in a namespace of its own."""

    def __init__(self, lab: Stage) -> None:
        self.lab, inner = lab, lab.lab
        self.ns, self.router = f"{inner.prefix}-behind", lab.buyer.ns
        inner._add_namespace(self.ns)
        inner._cable(self.ns, "eth0", self.router, "lan0")
        inner._address(self.router, "lan0", "192.168.7.1", 24)
        inner._address(self.router, "lan0", DELEGATED + "1", 64)
        inner._address(self.ns, "eth0", "192.168.7.2", 24)
        inner.rtnl(self.ns, "route", "add", dst="default", gateway="192.168.7.1")
        inner._close_rtnl()
        self.route(DELEGATED)
        self.sysctls = self.sysctl()
        ra = ["--enable-ra", "--bind-interfaces", f"--resolv-file={lab.resolv_conf}"]
        for name, ns, link, more in (
            ("ra-lan", self.router, "lan0", []), ("ra-wan", inner.inet, lab.buyer.link, ["--port=0"])
        ):  # fmt: skip
            argv = ["dnsmasq", *DNSMASQ, *ra, *more, f"--interface={link}", f"--dhcp-range=::,constructor:{link},ra-only"]
            argv.append(f"--ra-param={link},4,{RA_LIFETIME}")
            lab.pool.processes.start(name, argv, ns)

    def route(self, prefix: str) -> None:
        """The provider delegates this prefix."""
        run_in(self.lab.lab.inet, ["ip", "-6", "route", "replace", prefix + "/64", "via", self.lab.buyer.v6])

    def sysctl(self) -> dict[str, str]:
        keys = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.wan0.forwarding",
                "net.ipv6.conf.wan0.accept_ra"]  # fmt: skip
        values = run_in(self.router, ["sysctl", "-n", *keys]).split()
        return dict(zip(keys, values, strict=True))

    def host(self, *argv: str) -> str:
        return run_in(self.ns, list(argv), timeout=20)

    def address(self, prefix: str) -> str:
        """The address that the host gave itself in a prefix; empty while it has none."""
        found = re.search(rf"{prefix[:-1]}[0-9a-f:]+(?=/64)", self.host("ip", "-6", "addr", "show", "dev", "eth0"))
        return found[0] if found else ""

    def heard_provider(self) -> int:
        """Seconds for which the router will still believe the provider's last advertisement."""
        said = run_in(self.router, ["ip", "-6", "route", "show", "default", "proto", "ra"])
        found = re.search(r"expires (\d+)sec", said)
        return int(found[1]) if found else 0

    def remove(self) -> None:
        run_in(self.router, ["ip", "link", "del", "lan0"])
        run_in(self.router, ["ip", "-6", "addr", "flush", "dev", "wan0", "dynamic"])
        run_in(self.router, ["ip", "-6", "route", "flush", "proto", "ra"])
        for prefix in (DELEGATED, RENEWED):
            run_in(self.lab.lab.inet, ["sh", "-c", f"ip -6 route del {prefix}/64 || true"])


@pytest.fixture
def lan(lab: Stage) -> Iterator[Lan]:
    before = list(lab.pool.processes.started)
    made = Lan(lab)
    yield made
    lab.tidy(before)
    made.remove()


def test_a_whole_lan_goes_through_the_tunnel_and_nowhere_else(lab: Stage, lan: Lan) -> None:
    assert lab.pool.file
    lab.names(NAME)
    lab.wait("the host's own address", lambda: lan.address(DELEGATED))
    lab.wait("the provider's advertisement", lan.heard_provider)
    client = lab.up("lan", "lan0")
    watch = Watch(lab.lab, lab.buyer, [r.node for r in lab.pool.routers.values()])
    noise = lab.pool.processes.start(
        "noise", [*PYTHON, "tests.client.noise", "--to4", lab.web.v4, "--to6", lab.web.v6, "--gate", "192.168.7.1",
                  "--device", "eth0"], lan.ns, environment(),
    )  # fmt: skip
    try:
        assert lan.host("dig", "+short", "@192.168.7.1", NAME, "A").split() == [lab.web.v4]
        target = FOLDER / "lan.out"
        for host in (lab.web.v4, f"[{lab.web.v6}]"):
            lan.host("curl", "-sSf", "-o", str(target), f"http://{host}{lab.pool.file.url_path}")
            assert target.stat().st_size == lab.pool.file.size
        time.sleep(2.0)

        # The provider's advertisements are still believed: forwarding has not made the router deaf. dnsmasq sends
        # one in 5 to 20 s during its first minute.
        lab.wait("an advertisement of the provider", lambda: lan.heard_provider() >= RA_LIFETIME - 2, 25)
        assert lan.sysctl()["net.ipv6.conf.all.forwarding"] == "1"

        # Another prefix is delegated while the tunnel is up.
        lan.route(RENEWED)
        run_in(lan.router, ["ip", "addr", "add", RENEWED + "1/64", "dev", "lan0"])
        run_in(lan.router, ["ip", "addr", "del", DELEGATED + "1/64", "dev", "lan0"])
        lab.wait("an address of the new prefix", lambda: lan.address(RENEWED))
        own = lan.address(RENEWED)
        lan.host("curl", "-sSf", "--interface", own, "-o", str(target), f"http://[{lab.web.v6}]{lab.pool.file.url_path}")
        lab.wait("the rules", lambda: RENEWED in run_in(lan.router, ["ip", "-6", "rule"]))
        lan.host("ping", "-6", "-c", "1", "-W", "2", "-I", own, RENEWED + "1")
        target.unlink()

        os.kill(client.pid, signal.SIGKILL)
        client.popen.wait()
        lab.forget(client)
        time.sleep(1.5)
        lan.host("ping", "-c", "1", "-W", "2", "192.168.7.1")
        with pytest.raises(Exception, match="curl"):
            lan.host("curl", "-sS", "--max-time", "1", f"http://{lab.web.v4}/")
    finally:
        noise.stop()
        lab.forget(noise)
        watch.stop()
    assert watch.counts["tunnel"] > 500 and [said for _, said in watch.leaks][:5] == []
    done = lab.bw("down", "--json")
    assert {"routing rules", "forwarding", "kill switch"} <= set(done["restored"])
    assert lan.sysctl() == lan.sysctls
