"""Every packet that leaves the buyer's machine on its physical link, and whether it may."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from tests.lab.net import Lab, Node, inside

RELAY_PORT = 51900
_SO_RCVBUFFORCE = 33
_IGNORE = {0x0806}  # ARP
_ND = {133, 135, 136}  # router solicitation, neighbour solicitation and advertisement (RFC 4861)
_NS_NETNS = "ip netns exec {} nft list table inet bwclient"


def verdict(frame: bytes, hops: set[bytes]) -> str:
    """"tunnel", "link" (what a link needs to exist) or the leak in words."""
    (kind,) = struct.unpack_from(">H", frame, 12)
    if kind in _IGNORE:
        return "link"
    if kind == 0x0800:
        protocol, source, to, ports = frame[23], frame[26:30], frame[30:34], 14 + (frame[14] & 15) * 4
        family = socket.AF_INET
    elif kind == 0x86DD:
        protocol, source, to, ports = frame[20], frame[22:38], frame[38:54], 54
        family = socket.AF_INET6
        if protocol == 58 and frame[21] == 255 and frame[54] in _ND:
            return "link"
    else:
        return f"ethertype {kind:#x}"
    port = struct.unpack_from(">H", frame, ports + 2)[0] if protocol in (6, 17) and len(frame) > ports + 3 else 0
    if protocol == 17 and port == RELAY_PORT and to in hops:
        return "tunnel"
    return f"protocol {protocol} {socket.inet_ntop(family, source)} > {socket.inet_ntop(family, to)} port {port}"


class Watch:
    """Captures on the far end of the node's link from construction to `stop`. Times are of the monotonic clock."""

    def __init__(self, lab: Lab, node: Node, hops: list[Node]) -> None:
        self.hops = {socket.inet_aton(h.v4) for h in hops} | {socket.inet_pton(socket.AF_INET6, h.v6) for h in hops}
        with inside(lab.inet):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self.sock.bind((node.link, 3))
        self.sock.settimeout(0.2)
        self.leaks: list[tuple[float, str]] = []
        self.counts: Counter[str] = Counter()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            try:
                frame, where = self.sock.recvfrom(128)
            except TimeoutError:
                continue
            if where[2] == socket.PACKET_OUTGOING:  # towards the buyer
                continue
            said = verdict(frame, self.hops)
            self.counts[said if said in ("tunnel", "link") else "other"] += 1
            if said not in ("tunnel", "link"):
                self.leaks.append((time.monotonic(), said))

    def between(self, begin: float, end: float) -> list[str]:
        """Leaks of a span of time."""
        return [said for at, said in list(self.leaks) if begin <= at <= end]

    @property
    def lost(self) -> int:
        """Packets that the capture itself could not take; must be 0 for its word to count."""
        raw = self.sock.getsockopt(263, 6, 8)
        return int(struct.unpack("II", raw)[1])

    def stop(self) -> None:
        self._stop = True
        self._thread.join()
        self.sock.close()


class SwitchClock:
    """When the kill switch of a namespace was seen closed last: until then nothing may have left."""

    def __init__(self, ns: str) -> None:
        self.ns, self.closed_at, self._stop = ns, 0.0, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            at = time.monotonic()
            done = subprocess.run(_NS_NETNS.format(self.ns).split(), capture_output=True, check=False)
            if done.returncode == 0:
                self.closed_at = at

    def stop(self) -> float:
        self._stop = True
        self._thread.join()
        return self.closed_at


def network_state(ns: str) -> dict[str, str]:
    """What `bw down` must bring back exactly."""
    commands = ("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -br addr", "nft list ruleset")
    found = {}
    for command in commands:
        done = subprocess.run(["ip", "netns", "exec", ns, *command.split()], capture_output=True, text=True, check=True)
        found[command] = done.stdout
    return found


def read(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


__all__ = ["SwitchClock", "Watch", "network_state", "os", "read", "verdict"]
