"""The client's network set-up on Linux: addresses of the TUN, routes, and the rules that keep its own packets out
of it.

All traffic but the client's own marked packets and the excluded networks goes to a routing table of its own whose
default is the TUN (the way of wg-quick). Everything made here is removed again, in reverse order.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

MARK = 0xB17
TABLE = 0xB17
_PRIO_EXCLUDE = 5170
_PRIO_TUNNEL = 5171
JOIN_NS = 200_000  # how long a packet of the tunnel waits for others of its connection, at most


def join_packets(tun: str) -> None:
    """Let the kernel join what the client writes into the TUN packet by packet (GRO): its TCP then acknowledges runs,
    and every acknowledgement less is a cell less that is sealed, sent and paid for at every hop. The setting takes
    CAP_NET_ADMIN of the machine itself: packets stay single in `bw proxy`'s namespace, and in a container."""
    with contextlib.suppress(OSError):
        Path("/sys/class/net", tun, "gro_flush_timeout").write_text(str(JOIN_NS))


class NetConf:
    """Routes of one TUN. `exclude` are networks that never go through the tunnel (the gateway's address, say)."""

    def __init__(self, tun: str, mtu: int):
        self.tun = tun
        self.mtu = mtu
        self._ip = IPRoute()
        self._undo: list[tuple[str, dict[str, Any]]] = []
        self._lan: set[tuple[int, str, int]] = set()  # family, network, length
        self.index = self._ip.link_lookup(ifname=tun)[0]

    def up(self, v4: str, v6: str, exclude: list[str]) -> None:
        """Give the TUN its inner addresses and send everything through it."""
        ip = self._ip
        ip.link("set", index=self.index, mtu=self.mtu, state="up")
        ip.addr("replace", index=self.index, address=v4, prefixlen=32)
        has_v6 = self._v6()
        if has_v6:
            ip.addr("replace", index=self.index, address=v6, prefixlen=128)
        for family, default in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            if family == socket.AF_INET6 and not has_v6:
                continue
            self._route(family=family, dst=default, oif=self.index, table=TABLE)
            # Everything that is not marked as the client's own goes to our table (FR_INVERT).
            self._rule(family=family, priority=_PRIO_TUNNEL, fwmark=MARK, flags=2, table=TABLE)
        for text in exclude:
            net = ipaddress.ip_network(text, strict=False)
            family = socket.AF_INET if net.version == 4 else socket.AF_INET6
            self._rule(
                family=family, priority=_PRIO_EXCLUDE, dst=str(net.network_address), dst_len=net.prefixlen, table=254
            )

    def readdress(self, v4: str, v6: str) -> None:
        """Other inner addresses, after a change of the exit."""
        ip = self._ip
        ip.flush_addr(index=self.index)
        ip.addr("replace", index=self.index, address=v4, prefixlen=32)
        if self._v6():
            ip.addr("replace", index=self.index, address=v6, prefixlen=128)
            ip.route("replace", family=socket.AF_INET6, dst="::/0", oif=self.index, table=TABLE)
        ip.route("replace", family=socket.AF_INET, dst="0.0.0.0/0", oif=self.index, table=TABLE)

    def lan(self, interface: str) -> None:
        """What is for the LAN's own hosts stays there, and what comes out of the tunnel for them goes there. To be
        called again now and then: the provider may delegate another prefix at any time."""
        ip = self._ip
        wanted: set[tuple[int, str, int]] = set()
        for index in ip.link_lookup(ifname=interface):
            for family in (socket.AF_INET, socket.AF_INET6):
                for route in ip.get_routes(family=family, oif=index, table=254):
                    dst = dict(route["attrs"]).get("RTA_DST")
                    if dst:
                        wanted.add((int(family), dst, route["dst_len"]))
        if not self._lan:
            for family in (socket.AF_INET, socket.AF_INET6):
                self._rule(family=family, priority=_PRIO_EXCLUDE, iifname=self.tun, table=254)
        for kind, dst, size in wanted - self._lan:
            self._rule(family=kind, priority=_PRIO_EXCLUDE, dst=dst, dst_len=size, table=254)
        for kind, dst, size in self._lan - wanted:
            what = {"family": kind, "priority": _PRIO_EXCLUDE, "dst": dst, "dst_len": size, "table": 254}
            self._ip.rule("del", **what)
            self._undo.remove(("rule", what))
        self._lan = wanted

    def _v6(self) -> bool:
        try:
            with open(f"/proc/sys/net/ipv6/conf/{self.tun}/disable_ipv6") as f:
                return f.read().strip() == "0"
        except OSError:
            return False

    def _route(self, **what: Any) -> None:
        self._ip.route("replace", **what)
        self._undo.append(("route", what))

    def _rule(self, **what: Any) -> None:
        self._ip.rule("add", **what)
        self._undo.append(("rule", what))

    def down(self) -> None:
        """Remove rules and routes. What is gone already (with its interface) is no error."""
        for kind, what in reversed(self._undo):
            try:
                getattr(self._ip, kind)("del", **what)
            except Exception:  # noqa: BLE001 - pyroute2 raises many kinds; the rest must still be undone
                continue
        self._undo.clear()
        self._ip.close()


def clear() -> int:
    """Remove the rules that an earlier run, which could not clean up, left; how many there were."""
    gone = 0
    with IPRoute() as ip:
        for family in (socket.AF_INET, socket.AF_INET6):
            for rule in ip.get_rules(family=family):
                priority = dict(rule["attrs"]).get("FRA_PRIORITY")
                if priority in (_PRIO_EXCLUDE, _PRIO_TUNNEL):
                    ip.rule("del", family=family, priority=priority)
                    gone += 1
    return gone
