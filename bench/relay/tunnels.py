"""Debian's wireguard-go and OpenVPN as hops: tunnels from both ends meet in the middle, which decrypts and encrypts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from . import pump
from .circuit import sockaddr
from .machine import PEERS, Machine, Namespace, Process, wait_for

MTU = 1420  # inside the tunnel
DATAGRAM = MTU - 28  # UDP payload of one full inner packet


def _tool(ns: Namespace, name: str, *arguments: str, text: str = "") -> str:
    path = PEERS / "usr/bin" / name
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(str(p) for p in PEERS.glob("**/lib/*-linux-gnu"))}
    with ns:
        ran = subprocess.run([str(path), *arguments], input=text, text=True, env=environment, capture_output=True)
    if ran.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)}: {ran.stderr}")
    return ran.stdout.strip()


class Tunnel:
    """What both have in common: full inner packets from one end to the other. `process` is the middle's."""

    name: str
    process: Process
    machine: Machine
    inner_b: str

    def load(self, packets: int) -> tuple[float, float, pump.Result]:
        """CPU seconds of the middle, MB of inner IP packets that arrived, and what became of them."""
        with self.machine.a:
            source = pump.sink(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), gro=False)
        with self.machine.b:
            into = pump.sink(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), gro=False)
        with source, into:
            into.bind(("::", 0))
            to = sockaddr(self.inner_b, into.getsockname()[1])
            cells, result = pump.Cells(packets), pump.Result()
            before = self.process.cpu_seconds()
            pump.run(source, to, cells.address, packets, DATAGRAM, into, DATAGRAM, result, message=16, window=48)
            used = self.process.cpu_seconds() - before
        self.process.check()
        return used, result.received * MTU / 1e6, result


class WireGuardGo(Tunnel):
    name = "wireguard-go"

    def __init__(self, machine: Machine) -> None:
        self.machine, self.inner_b = machine, "10.91.0.3"
        ends = [(machine.a, "bwA", "10.91.0.1"), (machine.m, "bwM", "10.91.0.2"), (machine.b, "bwB", "10.91.0.3")]
        keys = [_tool(ns, "wg", "genkey") for ns, _, _ in ends]
        public = [_tool(machine.m, "wg", "pubkey", text=k) for k in keys]
        running = []
        for (ns, name, address), key in zip(ends, keys):
            p = machine.start(ns, [str(PEERS / "usr/bin/wireguard-go"), "-f", name], f"wg-{name}", ns is machine.m)
            running.append(p)
            wait_for("wireguard-go's socket", lambda name=name: Path(f"/run/wireguard/{name}.sock").exists(), 10, p)  # type: ignore[misc]
            (machine.folder / f"{name}.key").write_text(key)
            _tool(ns, "wg", "set", name, "listen-port", "51820", "private-key", str(machine.folder / f"{name}.key"))
            ns.ip(f"addr add {address}/24 dev {name}")
            ns.ip(f"link set {name} mtu {MTU} up")
        for ns, name, endpoint in ((machine.a, "bwA", Machine.M1), (machine.b, "bwB", Machine.M2)):
            _peer(ns, name, public[1], endpoint, "10.91.0.0/24")
        for i, endpoint, address in ((0, Machine.A, "10.91.0.1/32"), (2, Machine.B, "10.91.0.3/32")):
            _peer(machine.m, "bwM", public[i], endpoint, address)
        self.process = running[1]
        wait_for("the WireGuard tunnel", lambda: _ping(machine.a, self.inner_b), 15, *running)


def _peer(ns: Namespace, name: str, key: str, endpoint: str, allowed: str) -> None:
    _tool(ns, "wg", "set", name, "peer", key, "endpoint", f"{endpoint}:51820", "allowed-ips", allowed)


class OpenVpn(Tunnel):
    name = "openvpn"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        prints = {n: self._certificate(n) for n in ("server", "a", "b")}
        common = ["--proto", "udp", "--dev-type", "tun", "--tun-mtu", str(MTU), "--disable-dco", "--verb", "3"]
        clients = "\n".join(prints[n] for n in ("a", "b"))
        server = machine.folder / "openvpn.conf"
        server.write_text(
            "mode server\ntls-server\ntopology subnet\nserver 10.92.0.0 255.255.255.0\nclient-to-client\n"
            f"keepalive 5 60\ndh none\nport 1194\ndev ovM\n<peer-fingerprint>\n{clients}\n</peer-fingerprint>\n"
        )
        self.process = self._start(machine.m, "server", True, "--config", str(server), *common)
        running = [self.process]
        for ns, name, remote in ((machine.a, "a", Machine.M1), (machine.b, "b", Machine.M2)):
            running.append(
                self._start(
                    ns,
                    name,
                    False,
                    "--client",
                    "--remote",
                    remote,
                    "1194",
                    "--dev",
                    "ovE",
                    "--nobind",
                    "--peer-fingerprint",
                    prints["server"],
                    *common,
                )  # fmt: skip
            )
        done = "Initialization Sequence Completed"
        wait_for("OpenVPN", lambda: all(done in p.log.read_text() for p in running), 30, *running)
        found = re.search(r"inet (10\.92[\d.]+)", machine.b.ip("-4 addr show dev ovE"))
        if not found:
            raise RuntimeError("OpenVPN gave its client no address")
        self.inner_b = found[1]
        wait_for("the OpenVPN tunnel", lambda: _ping(machine.a, self.inner_b), 15, *running)

    def _certificate(self, name: str) -> str:
        """A self-signed key pair NAME.key, NAME.crt; its fingerprint."""
        base = str(self.machine.folder / f"openvpn-{name}")
        _tool(
            self.machine.m, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", base + ".key", "-out", base + ".crt",
        )  # fmt: skip
        said = _tool(self.machine.m, "openssl", "x509", "-fingerprint", "-sha256", "-noout", "-in", base + ".crt")
        return said.partition("=")[2]

    def _start(self, ns: Namespace, name: str, subject: bool, *arguments: str) -> Process:
        base = str(self.machine.folder / f"openvpn-{name}")
        argv = [str(PEERS / "usr/sbin/openvpn"), *arguments, "--key", base + ".key", "--cert", base + ".crt"]
        return self.machine.start(ns, argv, f"openvpn-{name}", subject)


def _ping(ns: Namespace, address: str) -> bool:
    if not shutil.which("ping"):
        raise RuntimeError("ping is missing: install iputils-ping")
    with ns:
        return subprocess.run(["ping", "-c1", "-W1", address], capture_output=True).returncode == 0
