"""What the package costs a router: `make bench-guest ARCH=mipsel`. The last line is one JSON object.

A guest with 64 MB (256 where Debian's kernel is too large for that) and an ext4 overlay on a disk of its own installs
the .ipk, enables it and idles; flash writes are those that the disk has completed, scaled to an hour. They are counted
once what the installation wrote has reached its place (ext4 writes it twice: into its journal at once, and home half a
minute later), and a `sync` before either reading leaves nothing out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from qemu import disk
from qemu.guest import ROOT, Guest
from qemu.pool import package

GOALS = {"rss_kb": 8192, "installed_bytes": 150_000, "idle_cpu_pct": 1.0, "flash_writes_per_hour": 1.0}
KEY = "ab" * 32
SETTLE_S = 60


def pids(guest: Guest) -> list[str]:
    return guest.run("pidof micropython; true").split()


def measure_pss(guest: Guest) -> int:
    """kB of relay and agent (its worker too), shared pages divided."""
    text = guest.run("for p in $(pidof micropython); do cat /proc/$p/smaps_rollup; done")
    return sum(int(kb) for kb in re.findall(r"^Pss:\s+(\d+)", text, re.M))


def ticks(guest: Guest) -> int:
    """CPU time of the package's processes so far, 1/100 s."""
    text = guest.run("for p in $(pidof micropython); do cut -d')' -f2 /proc/$p/stat; done")
    return sum(int(line.split()[11]) + int(line.split()[12]) for line in text.splitlines())


def uptime(guest: Guest) -> float:
    return float(guest.run("cut -d' ' -f1 /proc/uptime"))


def writes(guest: Guest) -> int:
    """Write requests with data in them that the overlay's disk has completed: the kernel counts flushes as writes too,
    and a `sync` with nothing to write is one."""
    fields = guest.run("sync; cat /sys/block/vdb/stat").split()
    return int(fields[4]) - int(fields[15])


def written_files(guest: Guest) -> str:
    """Files of the overlay that are younger than the mark that `measure` set."""
    return guest.run("find /overlay/upper -newer /tmp/mark ! -type d; true").strip()


def start(guest: Guest) -> float:
    """Seconds in the guest from the init script's start to the agent's first status with an answer of the relay."""
    guest.run(
        "printf 'device wan eth0\\nipaddr wan 10.0.2.15\\n' >/tmp/network; uci set bwrouter.main.enabled=1;"
        f" uci add bwrouter gateway >/dev/null; uci set bwrouter.@gateway[0].url=http://10.0.2.2:8080;"
        f" uci set bwrouter.@gateway[0].key={KEY}; uci commit bwrouter"
    )
    return float(
        guest.run(
            "b=$(cut -d' ' -f1 /proc/uptime); /etc/init.d/bwrouter start; n=0;"
            ' while ! grep -q \'"t": *"stats"\' /var/run/bwrouter/status.json 2>/dev/null && [ $((n += 1)) -lt 600 ];'
            " do usleep 100000; done; e=$(cut -d' ' -f1 /proc/uptime); [ $n -lt 600 ] || exit 1;"
            " echo $b $e | awk '{ print $2 - $1 }'",
            timeout_s=300,
        )
    )


def run(arch: str, idle_s: float) -> dict[str, object]:
    with TemporaryDirectory(dir=ROOT / "build" / "tmp") as folder:
        image = disk.make(Path(folder) / "disk")
        # A line that leads nowhere: nothing leaves QEMU.
        place = ",addr=0x12" if "mips" in arch else ""
        line = ["-netdev", "user,id=n0,restrict=on", "-device", "virtio-net-pci,netdev=n0" + place]
        # The guest's clock counts instructions, 2 ns each: about a 24Kc at 500 MHz, whatever else this machine does.
        line += ["-icount", "shift=1", "-rtc", "clock=vm"]
        memory, files = 64 if "mips" in arch else 256, {"/srv/b.ipk": package()}
        append = "guest.ip=10.0.2.15/24 guest.gw=10.0.2.2"
        with Guest(arch, memory, files, boot_s=300, options=line, rom=True, disk=str(image), append=append) as guest:
            return measure(guest, idle_s)


def measure(guest: Guest, idle_s: float) -> dict[str, object]:
    guest.run("opkg install /srv/b.ipk && rm /srv/b.ipk", timeout_s=300)
    # uci-defaults are gone once they have run.
    listed = "xargs stat -c %s </usr/lib/opkg/info/bwrouter.list 2>/dev/null; true"
    installed = sum(int(size) for size in guest.run(listed).split())
    seconds = start(guest)
    # The guest's own seconds: under -icount they are longer than ours on a busy machine.
    guest.run(f"sync; sleep {SETTLE_S}; sync; sleep 10; touch /tmp/mark", timeout_s=60 + 20 * SETTLE_S)
    began, used, written = uptime(guest), ticks(guest), writes(guest)
    guest.run(f"sleep {idle_s:.0f}", timeout_s=60 + 20 * idle_s)
    busy = (ticks(guest) - used) / (uptime(guest) - began)
    out = {
        "arch": guest.arch, "memory_mb": guest.memory_mb, "processes": len(pids(guest)), "rss_kb": measure_pss(guest),
        "installed_bytes": installed, "start_seconds": round(seconds, 1), "idle_cpu_pct": round(busy, 2),
        "flash_writes_per_hour": round((writes(guest) - written) * 3600 / (uptime(guest) - began), 2),
        "free_kb": int(guest.run("free | awk '/^Mem/ { print $7 }'")),
        "out_of_memory": int(guest.run("dmesg | grep -c 'Out of memory'; true")),
        "measured_seconds": round(uptime(guest) - began),
    }  # fmt: skip
    if changed := written_files(guest):
        print(f"written to flash meanwhile: {changed}")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="mipsel")
    parser.add_argument("--idle", type=float, default=600, help="seconds to idle")
    options = parser.parse_args()
    result = run(options.arch, options.idle)
    for name, goal in GOALS.items():
        value = result[name]
        assert isinstance(value, int | float)
        print(f"{name:24} {value:>12} goal <= {goal}{'' if value <= goal else '   MISSED'}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
