"""The package's whole life on a router in QEMU: install, inert, enabled, relaying for pay, upgrade, remove.

Rung 3 of the ladder in docs/operations.md: opkg, procd, uci and rc.common are labelled stand-ins (qemu/standin); the .ipk,
its init script, both processes, kernel, loader, libsodium, MicroPython, chain, gateway, client and other routers are real.
    make qemu ARCH=mipsel
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from qemu.guest import ROOT, Guest, GuestError
from qemu.pool import guest_pool, package
from tests.lab.checks import UNIT_WEI
from tests.lab.pool import Refused

ARCH = os.environ.get("GUEST_ARCH", "mipsel")
SIZE = 1_000_000
PATIENCE = 150.0  # seconds for anything on an emulated CPU beside other work
pytestmark = [pytest.mark.timeout(1500), pytest.mark.skipif(ARCH == "mips", reason="rung 3 needs tc, ip and nft")]


def newer_package(folder: Path) -> Path:
    """The same package, one version on."""
    for name in ("package", "files", "src/bwrouter", "luci-app", "build/mpy-cross"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "src/bwrouter/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99.0.0"', init.read_text()))
    command = [sys.executable, str(folder / "package/build"), "--out", str(folder / "dist")]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1"}, capture_output=True)
    return next((folder / "dist").glob("bwrouter_*.ipk"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    return newer_package(tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="module")
def pool():
    with guest_pool(SIZE, 1400) as parts:
        yield parts


@pytest.fixture(scope="module")
def guest(pool, newer):
    extra = {"/srv/bwrouter.ipk": package(), "/srv/newer.ipk": newer}
    with Guest(ARCH, 64 if ARCH == "mipsel" else 256, extra, rom=True, **pool.guest_options()) as started:
        started.run("ip route && tc qdisc && nft list tables")  # each with its own loader and libraries
        yield started


def until(what, test, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (value := test()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
    return value


def processes(guest) -> dict[str, int]:
    """The package's processes: `agent` or `relay` -> process id; the agent's worker is its child and not listed."""
    lines = guest.run(
        "for p in $(pidof micropython); do tr '\\0' ' ' </proc/$p/cmdline; awk '/^PPid/ { print $2, \"'$p'\" }' /proc/$p/status; done"
    )
    found = re.findall(r"-m bwrouter (agent|relay) .*?(\d+) (\d+)$", lines, re.M)
    own = {pid for _, _, pid in found}
    return {name: int(pid) for name, parent, pid in found if parent not in own}


def files(guest, *folders: str) -> set[str]:
    return set(guest.run(f"find {' '.join(folders)} ! -type d 2>/dev/null; true").split())


def status(guest) -> dict:
    try:
        return json.loads(guest.run("bwrouter status --json", check=False).splitlines()[0]) or {}
    except (ValueError, IndexError):
        return {}


def log(guest) -> str:
    return guest.run("logread | tail -n 30")


def test_install_is_inert(guest):
    guest.before = files(guest, "/etc", "/usr/bin", "/usr/lib", "/lib/upgrade")
    with pytest.raises(GuestError, match="cannot find dependency libsodium"):
        guest.run(
            "cp /usr/lib/opkg/status /tmp/s; sed -i 's/^Package: libsodium$/Package: other/' /usr/lib/opkg/status;"
            " opkg install /srv/bwrouter.ipk; r=$?; cp /tmp/s /usr/lib/opkg/status; exit $r"
        )
    assert files(guest, "/etc", "/usr/bin", "/usr/lib", "/lib/upgrade") - guest.before == set(), "a refusal left files"
    guest.run("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")  # the kernel's own solicitations
    time.sleep(1)
    sent = guest.run("cat /sys/class/net/eth0/statistics/tx_packets")
    guest.run("opkg install /srv/bwrouter.ipk", timeout_s=PATIENCE)
    assert guest.run("bwrouter --version").strip() == re.search(r"_([\d.]+)-", package().name)[1]
    guest.run("/etc/init.d/bwrouter enabled")
    time.sleep(3)
    assert not processes(guest) and guest.run("cat /proc/net/udp /proc/net/udp6 | grep -vc sl; true").strip() == "0"
    assert guest.run("cat /sys/class/net/eth0/statistics/tx_packets") == sent, "sends before it is enabled"
    guest.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    assert files(guest, "/etc/bwrouter", "/var/run/bwrouter") <= {"/var/run/bwrouter/ports"}


def test_enabled_it_stakes_and_is_listed(guest, pool):
    pool.configure(guest, enabled="1")
    guest.run("/etc/init.d/bwrouter start", timeout_s=PATIENCE)
    until("both processes", lambda: set(processes(guest)) == {"agent", "relay"})
    running = processes(guest)
    relay = guest.run(f"cat /proc/{running['relay']}/status")
    assert "NoNewPrivs:\t1" in relay and "CapEff:\t0000000000000000" in relay
    uid = guest.run("sed -n 's/^bwrouter:[^:]*:\\([0-9]*\\):.*/\\1/p' /etc/passwd").strip()
    assert re.search(r"^Uid:\t(\d+)", relay, re.M)[1] == uid != "0"
    until("the keys", lambda: guest.run("ls /etc/bwrouter/*.key | wc -l").strip() == "4")
    keys = json.loads(guest.run("bwrouter keys show --json", timeout_s=PATIENCE))
    pool.guest_router.id, pool.guest_router.wallet = keys["relay"], to_checksum_address(keys["wallet"])
    pool.fund()
    pool.start_routers()
    try:
        pool.wait("directory of all routers", lambda: len(pool.ask("/v1/directory")["descriptors"]) == 3, PATIENCE)
    except Refused as error:
        raise AssertionError(f"{error}\n{log(guest)}\n{status(guest)}") from error
    stake = pool.ask("/v1/stake/" + pool.guest_router.id)
    assert stake["state"] == "active" and int(stake["stake"]) == 100 * 10**18


def test_it_relays_a_file_and_is_paid(guest, pool):
    # The agent's worker does one thing at a time: proofs first, and on an emulated CPU they take their time.
    until("the router's own proof of its stake", lambda: (status(guest).get("proved") or {}).get("state") == "active")
    pool.start_buyer()
    hops = [hop["id"] for hop in pool.client_status()["hops"]]
    assert pool.guest_router.id in hops and len(hops) == 3
    try:
        seconds = pool.download()
    except Refused as error:
        raise AssertionError(f"{error}\n{log(guest)}\n{status(guest)}\n{pool.client_status()}") from error
    assert pool.target.read_bytes() == pool.file.path.read_bytes()
    pool.stop_buyer()
    paid = pool.client_status()["paid"][pool.guest_router.id]  # over all circuits, a spare too
    print(f"{ARCH}: {SIZE} bytes through three hops in {seconds:.1f} s, {paid} units paid to the guest")
    earned = lambda: pool.ask("/v1/earnings/" + pool.guest_router.id)
    until(f"all {paid} units redeemed", lambda: earned()["units"] == paid)
    until("claim on chain", lambda: int(earned()["claimed_wei"]) == int(earned()["cumulative_wei"]) > 0)
    assert int(earned()["balance_wei"]) == paid * UNIT_WEI * 9 // 10
    proved = lambda: (status(guest).get("proved") or {}).get("claimed_wei")
    until("the router's own proof of what was paid", lambda: proved() == earned()["claimed_wei"])


def test_killed_it_is_started_anew(guest):
    before = processes(guest)
    guest.run(f"kill -9 {before['relay']}")
    until("a new relay", lambda: processes(guest).get("relay", before["relay"]) != before["relay"])
    assert processes(guest)["agent"] == before["agent"]


def test_upgrade_keeps_config_and_keys(guest):
    kept = guest.run("cat /etc/config/bwrouter /etc/bwrouter/*.key")
    before = processes(guest)
    guest.run("opkg install /srv/newer.ipk", timeout_s=PATIENCE)
    assert guest.run("bwrouter --version").strip() == "99.0.0"
    assert guest.run("cat /etc/config/bwrouter /etc/bwrouter/*.key") == kept
    until("both processes", lambda: set(processes(guest)) == {"agent", "relay"})
    assert not set(processes(guest).values()) & set(before.values()), "an old process goes on"
    assert until("status of the new agent", lambda: status(guest).get("version")) == "99.0.0"


def test_remove_leaves_only_what_is_the_owners(guest):
    guest.run("opkg remove bwrouter", timeout_s=PATIENCE)
    assert not guest.run("pidof micropython; true").strip()
    assert guest.run("cat /proc/net/udp /proc/net/udp6 | grep -vc sl; true").strip() == "0"
    left = files(guest, "/etc", "/usr/bin", "/usr/lib", "/lib/upgrade") - guest.before
    allowed = re.compile(r"/etc/config/bwrouter(-opkg)?|/etc/bwrouter/\w+\.(key|json)")
    assert not [path for path in left if not allowed.fullmatch(path)]
    assert "/etc/config/bwrouter" in left and "/etc/bwrouter/wallet.key" in left
    assert not files(guest, "/var/run/bwrouter")
    guest.run("sed -n '/bwrouter/p' /usr/lib/opkg/status | grep -q . && exit 1; exit 0")
