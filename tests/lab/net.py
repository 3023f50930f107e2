"""A small internet in network namespaces.

One namespace routes (`inet`); every node hangs on it by a point-to-point veth of its own, so that no broadcast (ARP,
ND) tells one link about another. A home is a router namespace, a LAN host behind it (forwarding, masquerade, firewall)
and a modem between router and internet: a bridge whose upstream side is a token bucket with a deep buffer.

Addresses: 198.18.<n>.0/24 and 2001:2:0:<n>::/64 (RFC 2544, RFC 5180), node at .2/::2, `inet` at .1/::1.
Every namespace is called `<prefix>-<node>`; the prefix is the run's own, and the run that owns it holds an abstract
Unix socket of that name, which the kernel frees when the run dies, however it dies. `sweep()` removes what dead runs
left. All interfaces, qdiscs, nftables and sysctls live inside these namespaces and go with them. Needs root.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import netns
from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.iproute.linux import IPRoute

CLONE_NEWNET = 0x40000000
NETNS_DIR = Path("/var/run/netns")
PREFIX = re.compile(r"^(bwl[0-9a-f]{6})-")
RELAY_PORT = 51900
FURTHER_HOMES = 150  # number of a home that HOMES does not name, less its own
LAN4, LAN_HOST4, LAN_GATEWAY4 = "192.168.1.0/24", "192.168.1.2", "192.168.1.1"
SEGMENTATION = (
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
)

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not be built or used; the text names what and how to mend it."""


@dataclass(frozen=True)
class Line:
    """An access line. Rates in kbit/s (IP and Ethernet bytes), modem buffer in bytes."""

    up_kbps: int = 60_000
    down_kbps: int = 250_000
    buffer: int = 256 * 1024
    burst: int = 16 * 1024


@dataclass(frozen=True)
class Node:
    """A host of the lab: its namespace, its number on the internet, its public addresses, a line if it is a home."""

    name: str
    ns: str
    number: int
    line: Line | None = None

    @property
    def v4(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def v6(self) -> str:
        return f"2001:2:0:{self.number:x}::2"

    @property
    def lan6(self) -> str:
        """The home's routed IPv6 prefix."""
        return f"2001:2:0:{0x1000 + self.number:x}::"

    @property
    def lan_ns(self) -> str:
        return self.ns + "-lan"

    @property
    def link(self) -> str:
        """The name of this node's interface in the `inet` namespace."""
        return f"i-{self.name}"


HOMES = {f"r{i}": 10 + i for i in range(1, 9)}
SERVERS = {"dc": 21, "gateway": 31, "web": 41, "sink": 42, "buyer": 51}


def home_numbers(count: int) -> dict[str, int]:
    """Names of `count` homes and their numbers on the internet. Raises ValueError above 99."""
    if count > 99:
        raise ValueError(f"{count} homes: there are addresses for 99")
    return dict(list(HOMES.items())[:count]) | {f"r{i}": FURTHER_HOMES + i for i in range(len(HOMES) + 1, count + 1)}


@contextlib.contextmanager
def inside(ns: str) -> Iterator[None]:
    """This thread's network namespace is `ns` within the block."""
    with open("/proc/thread-self/ns/net") as home, open(NETNS_DIR / ns) as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise LabError(f"setns: {os.strerror(code)}; the lab needs root")


def sysctl(ns: str, values: dict[str, str]) -> None:
    """Set `net.*` keys (dots as in sysctl(8)) inside `ns` only."""
    with inside(ns):
        for key, value in values.items():
            Path("/proc/sys", *key.split(".")).write_text(value)


def run_in(ns: str, argv: list[str], *, text: str | None = None, timeout: float = 20.0) -> str:
    """Run a command to its end inside `ns` and return its stdout. Raises LabError with its stderr."""
    done = subprocess.run(
        ["ip", "netns", "exec", ns, *argv], input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise LabError(f"{' '.join(argv)} in {ns} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def no_segmentation(ns: str, ifname: str) -> None:
    """`wire_size` for a link of namespace `ns`."""
    with inside(ns):
        wire_size(ifname)


def wire_size(ifname: str) -> None:
    """What crosses the link has wire size: no packet bigger than the MTU, as on a cable."""
    card = IoctlEthtool(ifname)
    try:
        features = card.get_features()
        for name in SEGMENTATION:
            if features.is_available(name):
                features.set_value(name, False)
        card.set_features(features)
    finally:
        card.close()


class Lab:
    """The namespaces of one run. Use as a context manager; `stop()` may be called any number of times."""

    def __init__(self, line: Line | None = None, homes: int = 4, more: dict[str, int] | None = None) -> None:
        """`more`: further servers by name and number; one called dc... is an exit of the pool."""
        self.prefix = "bwl" + secrets.token_hex(3)
        self.inet, self.modems = f"{self.prefix}-inet", f"{self.prefix}-modems"
        self.line = line or Line()
        self.nodes: dict[str, Node] = {}
        for name, number in home_numbers(homes).items():
            self.nodes[name] = Node(name, f"{self.prefix}-{name}", number, self.line)
        for name, number in (SERVERS | (more or {})).items():
            self.nodes[name] = Node(name, f"{self.prefix}-{name}", number)
        self._owner: socket.socket | None = None
        self._rtnl: dict[str, Any] = {}
        self._indices: dict[tuple[str, str], int] = {}
        self._built: list[str] = []
        self._pid = 0

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def homes(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.line]

    def start(self) -> None:
        """Build everything. Raises LabError; nothing is left then."""
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root")
        sweep()
        self._owner = claim(self.prefix)
        self._pid = os.getpid()
        atexit.register(self.stop)
        try:
            self._add_namespace(self.inet, forward=True)
            self._add_namespace(self.modems, ipv6=False)
            for node in self.nodes.values():
                self._add_node(node)
        except BaseException:
            self.stop()
            raise
        finally:
            self._close_rtnl()

    def stop(self) -> None:
        """Kill what still runs inside the lab's namespaces and remove them."""
        if self._owner is None or os.getpid() != self._pid:
            return
        self._close_rtnl()
        remove_namespaces(self._built)
        self._built.clear()
        self._owner.close()
        self._owner = None
        atexit.unregister(self.stop)

    def rtnl(self, ns: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """One request to the netlink socket of `ns`; `start()` and `stop()` close the sockets."""
        if ns not in self._rtnl:
            self._rtnl[ns] = IPRoute(netns=ns, flags=0)
        return getattr(self._rtnl[ns], method)(*args, **kwargs)

    def _close_rtnl(self) -> None:
        for sock in self._rtnl.values():
            sock.close()
        self._rtnl.clear()

    def _add_namespace(self, ns: str, forward: bool = False, ipv6: bool = True) -> None:
        self._built.append(ns)
        netns.create(ns)
        keys = {"net.ipv6.conf.default.accept_dad": "0", "net.ipv6.conf.default.router_solicitations": "0"}
        if forward:
            keys |= {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
        if not ipv6:
            keys["net.ipv6.conf.default.disable_ipv6"] = "1"
        sysctl(ns, keys)
        self.rtnl(ns, "link", "set", index=1, state="up")

    def _cable(self, ns: str, ifname: str, far_ns: str, far_ifname: str) -> None:
        """A veth pair between two namespaces, both ends up."""
        self.rtnl(ns, "link", "add", ifname=ifname, kind="veth", peer={"ifname": far_ifname, "net_ns_fd": far_ns})
        for where, name in ((ns, ifname), (far_ns, far_ifname)):
            self.rtnl(where, "link", "set", index=self.index(where, name), state="up")
            no_segmentation(where, name)

    def index(self, ns: str, ifname: str) -> int:
        if (ns, ifname) not in self._indices:
            found = self.rtnl(ns, "link_lookup", ifname=ifname)
            if not found:
                raise LabError(f"no interface {ifname} in {ns}")
            self._indices[ns, ifname] = int(found[0])
        return self._indices[ns, ifname]

    def _address(self, ns: str, ifname: str, address: str, mask: int) -> None:
        self.rtnl(ns, "addr", "add", index=self.index(ns, ifname), address=address, prefixlen=mask)

    def _default(self, ns: str, v4: str, v6: str) -> None:
        self.rtnl(ns, "route", "add", dst="default", gateway=v4)
        self.rtnl(ns, "route", "add", family=socket.AF_INET6, dst="default", gateway=v6)

    def _add_node(self, node: Node) -> None:
        self._add_namespace(node.ns, forward=node.line is not None)
        if node.line:
            self._add_line(node, node.line)
        else:
            self._cable(node.ns, "wan0", self.inet, node.link)
        gate4, gate6 = f"198.18.{node.number}.1", f"2001:2:0:{node.number:x}::1"
        self._address(node.ns, "wan0", node.v4, 24)
        self._address(node.ns, "wan0", node.v6, 64)
        self._address(self.inet, node.link, gate4, 24)
        self._address(self.inet, node.link, gate6, 64)
        self._default(node.ns, gate4, gate6)
        if node.line:
            self._add_home(node)

    def _add_line(self, node: Node, line: Line) -> None:
        """router wan0 = modem (bridge) = inet, shaped upstream by the modem and downstream by the provider."""
        bridge, lan, wan = f"b-{node.name}", f"l-{node.name}", f"w-{node.name}"
        self.rtnl(self.modems, "link", "add", ifname=bridge, kind="bridge")
        self._cable(node.ns, "wan0", self.modems, lan)
        self._cable(self.inet, node.link, self.modems, wan)
        master = self.index(self.modems, bridge)
        self.rtnl(self.modems, "link", "set", index=master, state="up")
        for port in (lan, wan):
            self.rtnl(self.modems, "link", "set", index=self.index(self.modems, port), master=master)
        self._bucket(self.modems, wan, line.up_kbps, line)
        self._bucket(self.inet, node.link, line.down_kbps, line)

    def _bucket(self, ns: str, ifname: str, kbps: int, line: Line) -> None:
        self.rtnl(
            ns,
            "tc",
            "add",
            "tbf",
            index=self.index(ns, ifname),
            rate=f"{kbps}kbit",
            burst=line.burst,
            limit=line.buffer,
        )

    def _add_home(self, node: Node) -> None:
        self._add_namespace(node.lan_ns)
        self._cable(node.lan_ns, "lan0", node.ns, "lan0")
        self._address(node.ns, "lan0", LAN_GATEWAY4, 24)
        self._address(node.ns, "lan0", node.lan6 + "1", 64)
        self._address(node.lan_ns, "lan0", LAN_HOST4, 24)
        self._address(node.lan_ns, "lan0", node.lan6 + "2", 64)
        self._default(node.lan_ns, LAN_GATEWAY4, node.lan6 + "1")
        self.rtnl(self.inet, "route", "add", family=socket.AF_INET6, dst=node.lan6 + "/64", gateway=node.v6)
        run_in(node.ns, ["nft", "-f", "-"], text=HOME_FIREWALL)


HOME_FIREWALL = f"""
table inet home {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname {{ "lo", "lan0" }} accept
    meta l4proto {{ icmp, icmpv6 }} accept
    udp dport {RELAY_PORT} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan0" accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "wan0" ip saddr {LAN4} masquerade
  }}
}}
"""


def claim(prefix: str) -> socket.socket:
    """Hold `prefix` for as long as this process lives. Raises OSError if another process holds it."""
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        owner.bind("\0bwrouter-lab/" + prefix)
    except OSError:
        owner.close()
        raise
    return owner


def lab_namespaces() -> list[str]:
    return sorted(n for n in netns.listnetns() if PREFIX.match(n))


def processes_in(namespaces: list[str]) -> list[int]:
    """Process ids whose network namespace is one of these."""
    inodes = set()
    for ns in namespaces:
        with contextlib.suppress(OSError):
            inodes.add((NETNS_DIR / ns).stat().st_ino)
    found = []
    for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        with contextlib.suppress(OSError):
            if pid != os.getpid() and os.stat(f"/proc/{pid}/ns/net").st_ino in inodes:
                found.append(pid)
    return found


def remove_namespaces(namespaces: list[str]) -> None:
    """Kill every process in these namespaces, wait for their end, unmount the namespaces."""
    deadline = time.monotonic() + 5
    while (left := processes_in(namespaces)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for ns in namespaces:
        if (NETNS_DIR / ns).exists():
            netns.remove(ns)
    if left:
        raise LabError(f"processes {left} in the lab's namespaces do not end")


def sweep() -> list[str]:
    """Remove the namespaces and processes of runs whose owner is dead. Returns the prefixes removed."""
    removed = []
    names = lab_namespaces()
    for prefix in sorted({n.split("-")[0] for n in names}):
        try:
            owner = claim(prefix)
        except OSError:
            continue
        remove_namespaces([n for n in names if n.startswith(prefix + "-")])
        owner.close()
        removed.append(prefix)
    return removed


HOST_STATE = ("ip -br link", "tc qdisc show", "nft list ruleset", "ip route", "sysctl net.ipv4.ip_forward")


def host_state(what: str) -> str:
    """What one of HOST_STATE says of the namespace that the lab was started in: it must not change."""
    return subprocess.run(what.split(), capture_output=True, text=True, check=False, timeout=10).stdout


def main() -> int:
    gone = sweep()
    print(f"lab: removed what {len(gone)} dead run(s) left" if gone else "lab: nothing left over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
