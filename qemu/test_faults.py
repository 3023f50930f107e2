"""Bad input on a router: what is wrong stands in logread and in `bwrouter status`, nothing spins, and boot goes on.

One guest, as installed (rung 3 of docs/operations.md), with ext4 under its overlay and a gateway behind TLS that runs here. Each
test leaves the router as it found it.
    GUEST_ARCH=mipsel build/venv/bin/python -m pytest qemu/test_faults.py
"""

from __future__ import annotations

import http.server
import os
import ssl
import threading
import time

import pytest

from qemu import disk
from qemu.guest import Guest
from qemu.pool import package
from qemu.test_package import processes, status, until
from tests.agent.test_certificates import Hello, make

ARCH = os.environ.get("GUEST_ARCH", "mipsel")
GATEWAY = "10.0.2.2"  # QEMU's name for this machine's loopback
pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(ARCH == "mips", reason="rung 3 needs tc, ip and nft")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A TLS server with a certificate for another host; the guest finds it at GATEWAY."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make(folder, "other", "elsewhere.example.org", 10)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], certificate
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def guest(gateway, tmp_path_factory):
    port, certificate = gateway
    image = disk.make(tmp_path_factory.mktemp("disk") / "disk")
    place = ",addr=0x12" if ARCH == "mipsel" else ""
    line = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0" + place]
    extra = {"/srv/b.ipk": package(), "/srv/ca.crt": certificate}
    append = "guest.ip=10.0.2.15/24 guest.gw=10.0.2.2"
    with Guest(ARCH, 64 if ARCH == "mipsel" else 256, extra, options=line, rom=True, disk=str(image), append=append) as g:
        g.run("printf 'device wan eth0\\nipaddr wan 10.0.2.15\\n' >/tmp/network; opkg install /srv/b.ipk", 300)
        g.run(
            "uci set bwrouter.main.enabled=1; uci set bwrouter.main.uplink_kbps=20000; uci set bwrouter.main.rate_kbps=10000;"
            " uci set bwrouter.main.ca_file=/srv/ca.crt; uci add bwrouter gateway >/dev/null;"
            f" uci set bwrouter.@gateway[0].url=https://{GATEWAY}:{port}; uci set bwrouter.@gateway[0].key={'ab' * 32};"
            " uci set bwrouter.main.public_v4=198.51.100.7; uci commit bwrouter"
        )
        yield g


def start(guest) -> None:
    """The init script must not wait for what is missing: it is part of the boot."""
    guest.run("/etc/init.d/bwrouter restart", timeout_s=60)


def runs(guest):
    until("both processes", lambda: set(processes(guest)) == {"agent", "relay"}, 60)


def says(guest, words: str) -> None:
    """`bwrouter status` and logread have the words."""
    until(f"status with {words!r}", lambda: words in guest.run("bwrouter status 2>&1; true"), 90)
    assert words in guest.run("logread"), guest.run("logread | tail")


def steady(guest, seconds: float = 8) -> dict[str, int]:
    """The processes, which stay the same ones: nothing is started anew faster than once in five seconds."""
    before = processes(guest)
    time.sleep(seconds)
    assert processes(guest) == before, guest.run("logread | tail")
    return before


def test_a_clock_of_1970_and_then_the_time(guest):
    guest.run("date -s @1000")
    start(guest)
    runs(guest)
    says(guest, "the time of day is not set yet (NTP)")
    before = steady(guest)
    assert status(guest)["rate"]["reason"] in ("no demand", "rising", "uplink"), "the line is steered all the same"
    guest.run(f"date -s @{int(time.time())}")
    until("the new time in the status", lambda: abs(status(guest).get("time", 0) - time.time()) < 30, 30)
    assert processes(guest) == before


def test_a_gateway_with_a_wrong_certificate(guest):
    says(guest, "the gateway's certificate is not to be trusted")
    steady(guest)
    assert not status(guest)["gateways"][0]["ok"]


def test_a_corrupt_config(guest):
    guest.run("cp /etc/config/bwrouter /tmp/good; echo \"config bwrouter 'open\" >>/etc/config/bwrouter")
    guest.run("/etc/init.d/bwrouter restart", timeout_s=60, check=False)
    says(guest, "/etc/config/bwrouter")
    assert not processes(guest), "runs on what it could not read"
    guest.run("cp /tmp/good /etc/config/bwrouter; uci set bwrouter.main.rate_kbps=5; uci commit bwrouter")
    guest.run("/etc/init.d/bwrouter restart", timeout_s=60, check=False)
    says(guest, "rate_kbps")
    guest.run("cp /tmp/good /etc/config/bwrouter")
    start(guest)
    runs(guest)


def test_no_libsodium(guest):
    guest.run("mkdir /tmp/away; mv /usr/lib/libsodium* /tmp/away/")
    start(guest)
    try:
        until("the fault", lambda: "libsodium" in guest.run("cat /var/run/bwrouter/fault-*.txt 2>/dev/null; true"), 60)
        assert "libsodium" in guest.run("logread")
        assert "libsodium" in guest.run("bwrouter status 2>&1; true")
        assert set(steady(guest)) == {"agent", "relay"}
    finally:
        guest.run("mv /tmp/away/* /usr/lib/; rmdir /tmp/away")
    start(guest)
    runs(guest)


def test_no_tun(guest):
    guest.run("rmmod tun; rm -f /dev/net/tun; uci set bwrouter.main.exit=1; uci commit bwrouter")
    start(guest)
    try:
        says(guest, "is kmod-tun installed?")
        steady(guest)
    finally:
        guest.run("modprobe tun; uci delete bwrouter.main.exit; uci commit bwrouter")
    start(guest)
    runs(guest)


def test_no_tc(guest):
    guest.run("mv /sbin/tc /tmp/tc; uci set bwrouter.main.shaper=1; uci commit bwrouter")
    start(guest)
    try:
        until("the shaper's error", lambda: "tc" in status(guest).get("rate", {}).get("shaping", {}).get("error", ""), 60)
        steady(guest)
        assert "tc" in guest.run("logread | grep -i shap; bwrouter check 2>&1; true")
    finally:
        guest.run("mv /tmp/tc /sbin/tc; uci delete bwrouter.main.shaper; uci commit bwrouter")
    start(guest)
    runs(guest)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_flash_that_takes_nothing(guest, how):
    # What is written frees some blocks once more that were set aside for it.
    fill = "for i in 1 2 3 4; do dd if=/dev/zero of=/overlay/fill$i bs=1k 2>/dev/null; sync; done"
    spoil = {"full": fill, "read-only": "mount -o remount,ro /overlay"}
    mend = {"full": "rm /overlay/fill?", "read-only": "mount -o remount,rw /overlay"}
    guest.run(spoil[how] + "; true")
    try:
        assert guest.run("echo x >/etc/probe 2>&1; cat /etc/probe 2>&1; true").strip() != "x", "the flash takes it"
        start(guest)
        runs(guest)  # with its keys it needs no flash
        steady(guest)
        guest.run("mount -t tmpfs -o size=0,nr_inodes=1,ro none /etc/bwrouter")
        start(guest)
        until("the fault", lambda: "/etc/bwrouter" in guest.run("cat /var/run/bwrouter/fault-agent.txt 2>/dev/null; true"), 60)
        assert "/etc/bwrouter" in guest.run("bwrouter status 2>&1; true") and "/etc/bwrouter" in guest.run("logread")
        steady(guest)
    finally:
        guest.run("umount /etc/bwrouter; " + mend[how] + "; rm -f /etc/probe")
    start(guest)
    runs(guest)
