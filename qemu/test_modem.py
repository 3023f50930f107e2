"""The traffic control plan in a kernel that has fq_codel and cake: Debian's, in a guest.

    build/venv/bin/python -m pytest qemu/test_modem.py
"""

import subprocess

import pytest

from bwrouter.agent import shape
from qemu.guest import ROOT, Guest


@pytest.fixture(scope="module")
def guest():
    subprocess.run([str(ROOT / "qemu/modem.sh")], check=True, timeout=300)
    card = ["-netdev", "user,id=a,restrict=on", "-device", "virtio-net-pci,netdev=a"]
    with Guest("x86_64", 256, image="modem", options=card) as started:
        started.run("ip link set eth0 up")
        yield started


def root(guest):
    """(kind, handle, options) as platform/tc.py reads them."""
    words = next(line for line in guest.run("/opt/tc qdisc show dev eth0").splitlines() if " root " in line).split()
    return words[1], int(words[2].split(":")[0] or "0", 16) << 16, " ".join(words[4:])


def test_every_step_is_taken_with_fq_codel_leaves_and_undone(guest):
    before = guest.run("/opt/tc qdisc show dev eth0")
    assert shape.verdict(*root(guest))[0]
    for op in shape.plan(40000, 30000):
        guest.run("/opt/tc " + shape.command(op, "eth0"), check=not op.optional)
    after = guest.run("/opt/tc qdisc show dev eth0")
    assert after.count("qdisc fq_codel b3") == 2 and "qdisc htb b3: root" in after
    assert guest.run("/opt/tc filter show dev eth0").count("b3:20") == 2
    for op in shape.changes(20000, 10000):
        guest.run("/opt/tc " + shape.command(op, "eth0", "change"), check=not op.optional)
    assert guest.run("/opt/tc qdisc show dev eth0") == after
    assert "rate 19940Kbit" in guest.run("/opt/tc class show dev eth0")
    assert shape.verdict(*root(guest)) == (True, "")
    guest.run("/opt/tc qdisc del dev eth0 root")
    assert guest.run("/opt/tc qdisc show dev eth0") == before


@pytest.mark.parametrize(
    ("mode", "words"), [("besteffort", "ignores DSCP"), ("diffserv3", "left alone"), ("diffserv4", "left alone")]
)
def test_cake_of_somebody_elses_is_seen_for_what_it_is(guest, mode, words):
    guest.run(f"/opt/tc qdisc add dev eth0 root cake bandwidth 40mbit {mode}")
    free, warning = shape.verdict(*root(guest))
    guest.run("/opt/tc qdisc del dev eth0 root")
    assert not free and words in warning
    assert ("ignores" in warning) == (mode == "besteffort")
