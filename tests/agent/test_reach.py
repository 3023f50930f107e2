"""A router behind a modem that does NAT: Debian's miniupnpd, asked by PCP, NAT-PMP and UPnP, on both runtimes; and a
datagram from outside that then arrives."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import netns

from tests.agent.parts import MICROPYTHON, ROOT, until
from tests.lab.net import inside

pytestmark = [pytest.mark.slow, pytest.mark.root]
MINIUPNPD = shutil.which("miniupnpd") or "/usr/sbin/miniupnpd"
PORT = 51900
HOME, MODEM, PUBLIC, OUTSIDE = "192.168.60.2", "192.168.60.1", "203.0.114.1", "203.0.114.2"
JOB = Path(__file__).with_name("reach_job.py")
RUNTIMES = {"cpython": [sys.executable], "micropython": [str(MICROPYTHON)]}
NFT = """
table inet filter {
  chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; oifname "ext0" masquerade; jump postrouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""


class Scene:
    """A home router, its provider's modem, and a host in the internet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.modem, self.outside = (f"bwr{os.getpid()}-{n}" for n in ("home", "modem", "out"))
        self.daemon: subprocess.Popen[bytes] | None = None
        for ns in (self.home, self.modem, self.outside):
            netns.create(ns)
            self.ip(ns, "link set lo up")
        for near, name, far, other in (
            (self.home, "wan0", self.modem, "lan0"), (self.modem, "ext0", self.outside, "net0")
        ):  # fmt: skip
            self.ip(near, f"link add {name} type veth peer name {other} netns {far}")
            self.ip(near, f"link set {name} up")
            self.ip(far, f"link set {other} up")
        self.ip(self.home, f"addr add {HOME}/24 dev wan0")
        self.ip(self.modem, f"addr add {MODEM}/24 dev lan0")
        self.ip(self.home, f"route add default via {MODEM}")
        self.ip(self.outside, f"addr add {OUTSIDE}/24 dev net0")
        self.public(PUBLIC)
        subprocess.run(["ip", "netns", "exec", self.modem, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        subprocess.run(["ip", "netns", "exec", self.modem, "nft", "-f", "-"], input=NFT, text=True, check=True)

    def ip(self, ns: str, words: str) -> None:
        subprocess.run(["ip", "-n", ns, *words.split()], check=True, capture_output=True)

    def public(self, address: str) -> None:
        """The address that the provider gives the modem."""
        self.ip(self.modem, "addr flush dev ext0")
        self.ip(self.modem, f"addr add {address}/24 dev ext0")

    def start(self, **more: str) -> None:
        conf = {
            "ext_ifname": "ext0", "listening_ip": "lan0", "enable_natpmp": "yes", "enable_upnp": "yes",
            "secure_mode": "yes", "uuid": str(uuid.uuid4()), "min_lifetime": "120", "max_lifetime": "86400",
            "upnp_table_name": "filter", "upnp_nat_table_name": "filter", "upnp_forward_chain": "miniupnpd",
            "upnp_nat_chain": "prerouting_miniupnpd", "upnp_nat_postrouting_chain": "postrouting_miniupnpd",
            "ipv6_disable": "yes", **more,
        }  # fmt: skip
        file = self.folder / "miniupnpd.conf"
        rules = "allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        file.write_text("".join(f"{k}={v}\n" for k, v in conf.items()) + rules)
        self.log = self.folder / "miniupnpd.log"
        argv = ["ip", "netns", "exec", self.modem, MINIUPNPD, "-d", "-f", str(file), "-P", str(self.folder / "pid")]
        with self.log.open("wb") as out:
            self.daemon = subprocess.Popen(argv, stdout=out, stderr=out)
        until("miniupnpd", lambda: b"istening" in self.log.read_bytes(), 5)
        time.sleep(0.3)

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(5)
            self.daemon = None

    def keep(self, runtime: str, **job: Any) -> list[dict[str, Any]]:
        """What the router says after each turn."""
        settings = {"public_v4": "", "public_v6": "", "wan_v4": HOME, "wan": "wan0", "listen_port": PORT, "workers": "1"}
        job["settings"] = settings | job.get("settings", {})
        argv = ["ip", "netns", "exec", self.home, *RUNTIMES[runtime], str(JOB), json.dumps(job)]
        env = os.environ | {"MICROPYPATH": f"{ROOT}/src:.frozen", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def arrives(self, port: int) -> bool:
        """Whether a datagram from outside comes to the relay's port at home."""
        with inside(self.home):
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inside(self.outside):
            theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with ours, theirs:
            ours.bind(("", PORT))
            ours.settimeout(0.5)
            theirs.sendto(b"cell", (PUBLIC, port))
            try:
                return ours.recv(100) == b"cell"
            except TimeoutError:
                return False

    def remove(self) -> None:
        self.stop()
        for ns in (self.home, self.modem, self.outside):
            netns.remove(ns)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.remove()


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_the_modem_forwards_a_port_by_each_protocol(scene: Scene, runtime: str) -> None:
    # PCP and NAT-PMP share a port and a switch of miniupnpd's: what the first refuses, the others get to see.
    for by, conf, off in (
        ("PCP", {}, {}), ("NAT-PMP", {}, {"drop": "@ih,0,8 2"}), ("UPnP", {"enable_natpmp": "no"}, {})
    ):  # fmt: skip
        if off:
            rule = f"table inet nopcp {{ chain i {{ type filter hook input priority 0; udp dport 5351 {off['drop']} drop; }}; }}"
            subprocess.run(["ip", "netns", "exec", scene.modem, "nft", rule], check=True)
        scene.start(**conf)
        assert not scene.arrives(PORT)
        first, again = scene.keep(runtime, turns=2)
        status = first["status"]
        assert (status["state"], status["by"], status["address"]) == ("mapped", by, PUBLIC), (status, scene.log.read_text())
        assert first["changed"] and not again["changed"] and again["status"] == status and status["error"] == ""
        assert first["settings"]["mapped_port"] == status["port"] and first["settings"]["public_v4"] == PUBLIC
        assert scene.arrives(status["port"]), "a buyer's datagram comes through"
        scene.keep(runtime, close=True)
        assert not scene.arrives(status["port"]), "and no more when the mapping is given back"
        scene.stop()
        if off:
            subprocess.run(["ip", "netns", "exec", scene.modem, "nft", "delete table inet nopcp"], check=True)


def test_a_taken_port_becomes_another_one(scene: Scene) -> None:
    scene.start()
    scene.ip(scene.home, "addr add 192.168.60.3/24 dev wan0")
    told = []
    for own in ("192.168.60.3", HOME):
        scene.ip(scene.home, f"route replace 192.168.60.0/24 dev wan0 src {own}")
        told.append(scene.keep("cpython", settings={"wan_v4": own})[0]["status"])
    theirs, ours = told
    assert (theirs["state"], theirs["port"], ours["state"]) == ("mapped", PORT, "mapped"), scene.log.read_text()
    assert ours["port"] != PORT and scene.arrives(ours["port"])


def test_workers_have_neighbouring_ports(scene: Scene) -> None:
    scene.start()
    status = scene.keep("cpython", settings={"workers": "3"})[0]["status"]
    assert status["state"] == "mapped" and status["port"] == PORT
    listed = subprocess.run(
        ["ip", "netns", "exec", scene.modem, "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert all(f"dport {PORT + i}" in listed for i in range(3)), listed


def test_no_mapping_is_told_with_its_reason(scene: Scene) -> None:
    scene.public("100.64.7.7")  # the provider does NAT too: miniupnpd refuses
    scene.start()
    status = scene.keep("cpython")[0]["status"]
    assert (status["state"], status["by"]) == ("none", ""), status
    assert "PCP: n" in status["error"] and "NAT-PMP: n" in status["error"] and "UPnP: " in status["error"], status
    scene.stop()
    status = scene.keep("micropython")[0]["status"]
    assert status["state"] == "none" and "PCP: no answer; NAT-PMP: no answer; UPnP: no answer" in status["error"]


def test_a_modem_behind_nat_that_forwards_all_the_same(scene: Scene) -> None:
    """One that does not look at its own address, as many do: NAT-PMP by RFC 6886, played here."""
    with inside(scene.modem):
        modem = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    modem.bind((MODEM, 5351))

    def answer() -> None:
        while True:
            try:
                request, source = modem.recvfrom(100)
            except OSError:
                return
            if request == b"\0\0":
                modem.sendto(b"\0\x80\0\0\0\0\0\1" + socket.inet_aton("100.64.7.7"), source)
            elif request[:2] == b"\0\1":
                modem.sendto(b"\0\x81\0\0\0\0\0\1" + request[4:6] + request[4:6] + request[8:12], source)

    scene.log = scene.folder / "none"
    scene.log.touch()
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        status = scene.keep("cpython")[0]["status"]
    finally:
        modem.close()
    assert status["state"] == "none" and "NAT-PMP: the modem's own address, 100.64.7.7, is not public" in status["error"]


def test_nothing_is_asked_where_the_address_is_public(scene: Scene) -> None:
    scene.start()
    status = scene.keep("cpython", settings={"public_v4": "203.0.114.9"})[0]["status"]
    assert status["state"] == "public-v4" and status["address"] == "203.0.114.9" and status["by"] == ""
    assert "request" not in scene.log.read_text()
