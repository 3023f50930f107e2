"""The kill switch: an nftables table that lets nothing out but what belongs to the tunnel, IPv4 and IPv6 alike.

The kernel keeps the table when the client dies, however it dies: the switch stays closed until `open` removes it. What
passes on the physical links: the client's own marked datagrams to the endpoints named by `allow`, and what a link
needs to exist at all (neighbour discovery, router solicitation, DHCP; ARP is not IP). Forwarded packets pass only
through the tunnel. Packets that come in from a physical link for an inner address are dropped too, since an answer to
one would tell who has that address (CVE-2019-14899).
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable

TABLE = "bwclient"
Endpoint = tuple[str, str, int]
"""Protocol ("udp" or "tcp"), address, port."""


class SwitchError(RuntimeError):
    """nftables refused; the text has its words."""


def nft(text: str) -> str:
    """Run a script of nft(8) as one transaction. Raises SwitchError."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise SwitchError(f"nft cannot be run: {e}; install the package nftables") from e
    if done.returncode:
        raise SwitchError(f"nft refuses: {done.stderr.strip()}; the leak protection needs nftables and root")
    return done.stdout


def closed() -> bool:
    """Whether the switch is closed in this network namespace."""
    try:
        done = subprocess.run(["nft", "list", "table", "inet", TABLE], capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def ruleset(tun: str, mark: int, endpoints: Iterable[Endpoint], exclude: Iterable[str] = (), lan: str = "") -> str:
    """The whole table as a script that replaces an older one. `exclude`: networks that the user keeps outside the
    tunnel; `lan`: the interface whose hosts may reach this machine and the tunnel."""
    hops = {4: [], 6: []}  # type: dict[int, list[str]]
    for protocol, address, port in endpoints:
        hops[ipaddress.ip_address(address).version].append(f"{protocol} . {address} . {port}")
    nets = {4: [], 6: []}  # type: dict[int, list[str]]
    for text in exclude:
        network = ipaddress.ip_network(text, strict=False)
        nets[network.version].append(str(network))
    pieces = []
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        pieces.append(_set(f"hops{version}", f"type inet_proto . {kind} . inet_service;", hops[version]))
        pieces.append(_set(f"outside{version}", f"type {kind}; flags interval; auto-merge;", nets[version]))
    lan_in = f'    iifname "{lan}" accept\n' if lan else ""
    lan_out = f'    oifname "{lan}" accept\n' if lan else ""
    of, to = (f'iifname "{lan}" ', f'oifname "{lan}" ') if lan else ("", "")
    through = f"""    {of}oifname "{tun}" accept
    iifname "{tun}" {to}ct state established,related accept
"""
    return f"""table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
{"".join(pieces)}  chain output {{
    type filter hook output priority filter - 10; policy drop;
    oifname {{ "lo", "{tun}" }} accept
    meta mark {mark:#x} meta l4proto . ip daddr . th dport @hops4 accept
    meta mark {mark:#x} meta l4proto . ip6 daddr . th dport @hops6 accept
    ip daddr @outside4 accept
    ip6 daddr @outside6 accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} ip6 hoplimit 255 accept
    udp sport 68 udp dport 67 accept
    udp sport 546 udp dport 547 ip6 daddr ff02::1:2 accept
{lan_out}    counter name dropped
  }}
  chain input {{
    type filter hook input priority filter - 10; policy drop;
    iifname {{ "lo", "{tun}" }} accept
    meta l4proto . ip saddr . th sport @hops4 accept
    meta l4proto . ip6 saddr . th sport @hops6 accept
    ip saddr @outside4 accept
    ip6 saddr @outside6 accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} ip6 hoplimit 255 accept
    icmp type destination-unreachable accept
    icmpv6 type {{ destination-unreachable, packet-too-big }} accept
    udp sport 67 udp dport 68 accept
    udp sport 547 udp dport 546 accept
{lan_in}  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy drop;
{through}    counter name dropped
  }}
  counter dropped {{ }}
}}
"""


def _set(name: str, properties: str, elements: list[str]) -> str:
    listed = f" elements = {{ {', '.join(sorted(set(elements)))} }}" if elements else ""
    return f"  set {name} {{ {properties}{listed} }}\n"


class Switch:
    """The table of one tunnel."""

    def __init__(self, tun: str, mark: int, exclude: Iterable[str] = (), lan: str = "") -> None:
        self.tun, self.mark, self.exclude, self.lan = tun, mark, tuple(exclude), lan
        self._endpoints: frozenset[Endpoint] = frozenset()

    def close(self, endpoints: Iterable[Endpoint]) -> None:
        """Close the switch, or replace one that an earlier run left closed, in one transaction: it is open at no time
        in between. Raises SwitchError."""
        self._endpoints = frozenset(endpoints)
        nft(ruleset(self.tun, self.mark, self._endpoints, self.exclude, self.lan))

    def allow(self, endpoints: Iterable[Endpoint]) -> None:
        """From now on exactly these endpoints may be spoken to. Nothing is done when they are the same as before."""
        wanted = frozenset(endpoints)
        if wanted == self._endpoints:
            return
        lines = []
        for verb, some in (("add", wanted - self._endpoints), ("delete", self._endpoints - wanted)):
            for protocol, address, port in sorted(some):
                version = ipaddress.ip_address(address).version
                lines.append(f"{verb} element inet {TABLE} hops{version} {{ {protocol} . {address} . {port} }}\n")
        nft("".join(lines))
        self._endpoints = wanted


def open_() -> None:
    """Remove the table. It is no error when there is none."""
    nft(f"table inet {TABLE}\ndelete table inet {TABLE}\n")


def dropped() -> int:
    """Packets that the switch kept from leaving."""
    done = subprocess.run(
        ["nft", "list", "counter", "inet", TABLE, "dropped"], capture_output=True, text=True, check=False
    )
    words = done.stdout.split()
    return int(words[words.index("packets") + 1]) if "packets" in words else 0
