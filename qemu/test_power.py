"""Power cuts: QEMU is killed under load, twenty times, and the disk keeps no more than a real one may (qemu/disk.py).

The overlay is ext4 on that disk. In the guest the service runs as installed, and qemu/saver.py writes a config, keys, a quota and
a book of tickets by the router's own code without a pause, naming over the control port each write that has returned. After
the cut (DESIGN, part 4): every file is whole, none is older than what was named, and the service starts by itself.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from qemu import disk
from qemu.guest import ROOT, Guest
from qemu.pool import package

ARCH = os.environ.get("GUEST_ARCH", "mipsel")
CUTS = int(os.environ.get("CUTS", "20"))
MEMORY = 64 if ARCH == "mipsel" else 256
SAVER = ROOT / "qemu" / "saver.py"


def start(folder: Path, image: Path, extra: dict[str, Path] | None = None) -> Guest:
    options = disk.options(image, folder / "log")
    return Guest(ARCH, MEMORY, extra, options=options, rom=True, append="guest.disk=1")


def install(guest: Guest) -> str:
    """The package, enabled; returns config and keys as they must stay."""
    guest.run(
        "printf 'device wan lo\\n' >/tmp/network; opkg install /srv/bwrouter.ipk; rm /srv/bwrouter.ipk", timeout_s=300
    )
    guest.run("uci set bwrouter.main.enabled=1; uci commit bwrouter; /etc/init.d/bwrouter start", timeout_s=300)
    guest.run(
        "n=0; while ! [ -s /var/run/bwrouter/status.json ] && [ $((n += 1)) -lt 300 ]; do usleep 200000; done", 120
    )
    return owned(guest)


def owned(guest: Guest) -> str:
    return guest.run("cat /etc/config/bwrouter /etc/bwrouter/*.key /etc/passwd; ls /etc/bwrouter/*.key")


def test_twenty_cuts_under_load(tmp_path):
    chance = random.Random(8)
    image, after = disk.make(tmp_path / "disk"), tmp_path / "after"
    kept, promised, lost, waits = "", 0, 0, []
    for cut in range(CUTS + 1):
        before = tmp_path / "before"
        before.write_bytes(image.read_bytes())
        extra = {"/srv/bwrouter.ipk": package()} if cut == 0 else None
        with start(tmp_path, image, extra) as guest:
            if cut == 0:
                kept = install(guest)
                guest.run("sync")
            assert owned(guest) == kept, f"cut {cut}: config, keys or users are not what they were"
            check(guest, promised, cut)
            if cut == CUTS:
                break
            promised = load(guest, chance.uniform(1, 5))
            guest.process.kill()
            guest.process.wait()
        lost += disk.after_cut(before, tmp_path / "log", after, cut)
        check_disk(after)
        image.write_bytes(after.read_bytes())
        waits.append(promised)
    print(f"{CUTS} cuts, {waits} rounds of writes promised, {lost} writes lost by the disk")
    assert len(set(waits)) > CUTS // 2, "the load was too light to prove anything"


def load(guest: Guest, seconds: float) -> int:
    """Runs the saver for so long; returns the last round that it said is safe."""
    script = SAVER.read_text()
    guest.run(f"cat >/tmp/saver.py <<'EOS'\n{script}\nEOS")
    guest.run(
        "MICROPYPATH=/usr/lib/bwrouter:.frozen micropython /tmp/saver.py /etc/saver </dev/null >/tmp/saver.out 2>&1 &"
    )
    end = time.monotonic() + seconds
    said = ""
    while time.monotonic() < end or not said:
        said = guest.run("tail -n 1 /tmp/saver.out").strip()
        assert not said or said.isdigit(), guest.run("cat /tmp/saver.out")
    return int(said)


def check(guest: Guest, promised: int, cut: int) -> None:
    """The service came up by itself; each file of the saver is whole and not older than promised."""
    up = "n=0; while ! [ -s /var/run/bwrouter/status.json ] && [ $((n += 1)) -lt 300 ]; do usleep 200000; done; pidof micropython"
    assert len(guest.run(up, 120).split()) >= 3, f"cut {cut}: the service does not run:\n" + guest.run("logread | tail")
    if not promised:
        return
    for name in ("config.json", "wallet.key", "quota.json", "tickets.json"):
        content = json.loads(guest.run(f"cat /etc/saver/{name}"))
        assert content["round"] >= promised, (
            f"cut {cut}: {name} is of round {content['round']}, {promised} was promised"
        )
        assert content["padding"] == "x" * content["size"], f"cut {cut}: {name} is torn"


def check_disk(image: Path) -> None:
    """The journal is played back and nothing else is wrong; ext4 would refuse to mount what is."""
    done = subprocess.run(["e2fsck", "-f", "-y", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout


def test_the_disk_forgets_what_was_not_flushed(tmp_path):
    """The record itself: a write before a flush is there, one after the last flush may be gone."""
    import struct

    sector = 512
    head = struct.pack("<QQQI", disk.MAGIC, 1, 4, sector).ljust(sector, b"\0")
    log, before, result = tmp_path / "log", tmp_path / "before", tmp_path / "result"
    before.write_bytes(bytes(8 * sector))

    def record(start: int, data: bytes, flags: int) -> bytes:
        return struct.pack("<QQQQ", start, len(data) // sector, flags, 0).ljust(sector, b"\0") + data

    kept, late = b"k" * sector, b"l" * sector
    log.write_bytes(
        head + record(1, kept, 0) + record(0, b"", disk.FLUSH) + record(2, late, 0) + record(3, kept, disk.FUA)
    )
    seen = set()
    for seed in range(16):
        disk.after_cut(before, log, result, seed)
        raw = result.read_bytes()
        assert raw[sector : 2 * sector] == kept and raw[3 * sector : 4 * sector] == kept
        seen.add(raw[2 * sector : 3 * sector])
    assert seen == {late, bytes(sector)}


pytestmark = pytest.mark.timeout(3600)
