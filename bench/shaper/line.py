"""The scene: home - router - modem - internet in network namespaces, and a link on which the buyer's cells come.

    home ══ lan0 router wan0 ══ modem (bridge; token bucket and deep buffer upstream) ══ internet
              feed0 ══ buyer
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.relay.machine import SUBJECT_CPU, TRAFFIC_CPUS, Machine, Namespace, Process
from qemu.guest import Guest
from tests.lab.net import wire_size

BUFFER_MS = 300  # of the modem: what is called bufferbloat
BUFFER_MOST = 2_000_000
HOME, LAN = "192.168.1.2", "192.168.1.1"
SINK = Machine.B


def buffer_bytes(kbps: int) -> int:
    return min(BUFFER_MOST, max(30_000, kbps * BUFFER_MS // 8))


class Scene(Machine):
    """`a`: the buyer's side, `m`: the router, `b`: the internet, `home`: the household, as bench/relay names them."""

    def __init__(self, folder: Path, kbps: int, queue: str = "modem") -> None:
        """`queue`: where the line's queue stands: "modem", "cake" (in a guest) or "wan" (a modem that is built in)."""
        self.folder, self.kbps = folder, kbps
        self.processes: list[Process] = []
        self.a, self.m, self.b, self.home, self.modem = (Namespace() for _ in range(5))
        self.a.join(self.m, "a0", "feed0")
        self.home.join(self.m, "home0", "lan0")
        self.modem.join(self.m, "in0", "wan0")
        self.modem.join(self.b, "out0", "b0")
        self._addresses()
        self.guest: Guest | None = None
        try:
            if queue == "cake":
                self._cake()
            else:
                self._modem(queue == "wan")
        except BaseException:
            self.stop()
            raise

    def _addresses(self) -> None:
        for ns, name, address in (
            (self.a, "a0", self.A), (self.m, "feed0", self.M1), (self.home, "home0", HOME), (self.m, "lan0", LAN),
            (self.m, "wan0", self.M2), (self.b, "b0", self.B),
        ):  # fmt: skip
            ns.ip(f"addr add {address}/24 dev {name}")
            ns.ip(f"link set {name} up")
            whole(ns, name)
        self.home.ip(f"route add default via {LAN}")
        self.a.ip(f"route add default via {self.M1}")
        self.m.ip(f"route add default via {self.B}")
        self.b.ip(f"route add 192.168.1.0/24 via {self.M2}")
        with self.m:
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")

    def _modem(self, built_in: bool) -> None:
        ns = self.modem
        ns.ip("link add modem type bridge")
        for name in ("in0", "out0"):
            whole(ns, name)
            ns.ip(f"link set {name} master modem up")
        ns.ip("link set modem up")
        # The burst is what a token bucket needs at the kernel's timer (HZ), and a packet at least.
        burst = max(3000, self.kbps * 1000 // 8 // 1000)
        ns, name = (self.m, "wan0") if built_in else (ns, "out0")
        tc(ns, f"qdisc add dev {name} root tbf rate {self.kbps}kbit burst {burst}b limit {buffer_bytes(self.kbps)}b")

    def _cake(self) -> None:
        """In the modem's place a guest that bridges, with cake diffserv4 upstream: this kernel may have no cake."""
        ns = self.modem
        for side, tap, bridge in (("in0", "tap0", "br0"), ("out0", "tap1", "br1")):
            whole(ns, side)
            ns.ip(f"tuntap add {tap} mode tap")
            ns.ip(f"link add {bridge} type bridge")
            for name in (side, tap):
                ns.ip(f"link set {name} master {bridge} up")
            ns.ip(f"link set {bridge} up")
        devices = []
        plain = "gso=off,guest_tso4=off,guest_csum=off,csum=off,mrg_rxbuf=off"
        for tap in ("tap0", "tap1"):
            devices += ["-netdev", f"tap,id={tap},ifname={tap},script=no,downscript=no"]
            devices += ["-device", f"virtio-net-pci,netdev={tap},{plain}"]
        with ns:
            self.guest = Guest("x86_64", 256, image="modem", options=devices)
            self.guest.__enter__()
        self.guest.run(
            "ip link add br0 type bridge; for i in eth0 eth1; do ip link set $i master br0; ip link set $i up; done; "
            f"ip link set br0 up && /opt/tc qdisc add dev eth1 root cake bandwidth {self.kbps}kbit diffserv4"
        )

    def stop(self) -> None:
        super().stop()
        if self.guest is not None:
            self.guest.close()

    def start_in_router(self, argv: list[str], name: str, **options: Any) -> Process:
        """In the router, with a /sys that shows the router's interfaces."""
        inside = ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && mount -t sysfs sys /sys && exec "$@"', "sh"]
        p = Process(self.m, [*inside, *argv], self.folder / f"{name}.log", {SUBJECT_CPU}, **options)
        self.processes.append(p)
        return p

    def start_at(self, ns: Namespace, argv: list[str], name: str) -> Process:
        p = Process(ns, argv, self.folder / f"{name}.log", TRAFFIC_CPUS)
        self.processes.append(p)
        return p


def whole(ns: Namespace, name: str) -> None:
    """No packet larger than the MTU, as on a cable."""
    with ns:
        wire_size(name)


def tc(ns: Namespace, command: str) -> None:
    with ns:
        subprocess.run(["tc", *command.split()], check=True)
