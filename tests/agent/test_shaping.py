"""Traffic control in a real kernel: both executors do the same, undo is exact, what is somebody else's stays."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bwrouter.agent import shape
from bwrouter.agent.log import Log
from bwrouter.agent.shaping import Shaping
from bwrouter.platform import clock, config, net, tc
from tests.agent.parts import MICROPYTHON, ROOT
from tests.lab.net import inside

pytestmark = [pytest.mark.slow, pytest.mark.root]
NS = f"bws{os.getpid()}"
BY_COMMAND = """
from bwrouter.platform import tc
from bwrouter.agent import shape
assert tc.executor is not None and tc.IPRoute is None
tc.executor("%s", lambda text: None).%s
"""


def ns(command: str) -> str:
    done = subprocess.run(["ip", "netns", "exec", NS, *command.split()], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def state(wan: str = "wan0") -> str:
    """What the kernel has on an interface, without the one counter that `tc` shows among the settings. Matches are told
    byte by byte: pyroute2 begins a u32 word at the first byte that its mask names, tc at a multiple of four."""
    text = "".join(ns(f"tc {what} show dev {wan}") for what in ("qdisc", "class", "filter"))
    text = re.sub(r"direct_packets_stat \d+", "", text)
    return re.sub(r"match ([0-9a-f]{8})/([0-9a-f]{8}) at (\d+)", _bytes_of_match, text)


def _bytes_of_match(found: re.Match[str]) -> str:
    value, mask, at = bytes.fromhex(found[1]), bytes.fromhex(found[2]), int(found[3])
    return "match " + " ".join(f"byte {at + i}: {value[i]:02x}/{mask[i]:02x}" for i in range(4) if mask[i])


def fresh() -> None:
    subprocess.run(["ip", "-n", NS, "link", "del", "wan0"], capture_output=True, timeout=20)
    ns("ip link add wan0 type veth peer name far0")
    ns("ip link set wan0 up")
    ns("ip link set far0 up")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = ROOT / "build/tmp" / NS
    (path / "state").mkdir(parents=True, exist_ok=True)
    subprocess.run(["ip", "netns", "add", NS], check=True, timeout=20)
    try:
        fresh()
        yield path
    finally:
        subprocess.run(["ip", "netns", "del", NS], check=False, timeout=20)
        shutil.rmtree(path, ignore_errors=True)


def by_command(folder: Path, call: str) -> None:
    """The executor of MicroPython."""
    subprocess.run(
        ["ip", "netns", "exec", NS, str(MICROPYTHON), "-c", BY_COMMAND % (folder, call)],
        env={**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"}, check=True, timeout=20,
    )  # fmt: skip


def shaping(folder: Path, executor: Any = None, **changes: Any) -> Shaping:
    given = {"wan": "wan0", "shaper": True, "run_dir": str(folder), "state_dir": str(folder / "state"), **changes}
    settings = config.settings(given)
    return Shaping(settings, Log("test", "error"), executor or tc.Netlink(str(folder), lambda text: None))


@pytest.mark.parametrize("port", [0, 51900])
@pytest.mark.parametrize("kbps", [300, 2000, 40000, 300000, 2000000])
def test_both_executors_leave_the_same_kernel_state(folder: Path, kbps: int, port: int) -> None:
    by_command(folder, f'apply("wan0", shape.plan({kbps}, {kbps} // 2, {port}), shape.command)')
    first = state()
    fresh()
    with inside(NS):
        tc.Netlink(str(folder), lambda text: None).apply("wan0", shape.plan(kbps, kbps // 2, port), shape.command)
    assert state() == first
    assert "class htb b3:20 parent b3:1" in first and "prio 7" in first and "flowid b3:20" in first
    by_command(folder, f'change("wan0", shape.changes({kbps} * 2, {kbps}), shape.command)')
    changed = state()
    fresh()
    with inside(NS):
        netlink = tc.Netlink(str(folder), lambda text: None)
        netlink.apply("wan0", shape.plan(kbps, kbps // 2, port), shape.command)
        netlink.change("wan0", shape.changes(kbps * 2, kbps), shape.command)
    assert state() == changed != first
    assert_short_queues(first, kbps)
    assert_short_queues(changed, 2 * kbps)


def assert_short_queues(text: str, kbps: int) -> None:
    """A leaf of the kernel's own would hold 1000 packets, seconds of a slow line."""
    leaves = re.findall(r"qdisc (\w+) b3[12]: parent b3:[12]0 (?:limit (\d+)p)?", text)
    assert len(leaves) == 2
    for kind, limit in leaves:
        assert kind == "fq_codel" or (kind == "pfifo" and int(limit) == shape.leaves(kbps)[0].options["limit"])


@pytest.mark.parametrize("executor", [tc.Netlink, tc.Command])
def test_undo_is_exact(folder: Path, executor: Any) -> None:
    before = state()
    made = executor(str(folder), lambda text: None)
    with inside(NS):
        s = shaping(folder, made)
        on_here(s)
        assert s.on, s.error
        assert json.loads((folder / "shaping.json").read_text())["handle"] == "b3:"
        assert "htb b3:" in state()
        s.undo()
    assert state() == before
    assert not (folder / "shaping.json").exists()


def on_here(s: Shaping, line: int = 10000, cap: int = 8000) -> None:
    """`keep` with this namespace's interfaces: /sys here shows those of the namespace that mounted it."""
    s.keep(line, cap)


@pytest.fixture(autouse=True)
def indices(monkeypatch: pytest.MonkeyPatch) -> None:
    from bwrouter.agent import shaping as module

    def index(wan: str) -> int | None:
        found = subprocess.run(["ip", "-n", NS, "-o", "link", "show", wan], capture_output=True, text=True, timeout=20)
        return int(found.stdout.split(":")[0]) if found.returncode == 0 else None

    monkeypatch.setattr(module, "_index", index)


def sent_of_classes() -> dict[str, int]:
    """Packets that went through each class."""
    found = re.findall(r"class htb (\S+) .*?Sent \d+ bytes (\d+) pkt", ns("tc -s class show dev wan0"), re.S)
    return {name: int(packets) for name, packets in found}


@pytest.mark.parametrize("port", [0, 51900])
def test_the_relays_packets_go_last_and_the_households_first(folder: Path, port: int) -> None:
    for command in (
        "ip addr add 198.18.0.1/24 dev wan0",
        "ip -6 addr add 2001:2::1/64 dev wan0 nodad",
        "ip neigh add 198.18.0.2 lladdr 02:00:00:00:00:02 dev wan0",
        "ip -6 neigh add 2001:2::2 lladdr 02:00:00:00:00:02 dev wan0",
    ):
        ns(command)
    with inside(NS):
        tc.Netlink(str(folder), lambda text: None).apply("wan0", shape.plan(10000, 8000, port), shape.command)
        before = sent_of_classes()
        for count, tos, source in ((3, 0x04, 51900), (5, 0x00, 40000), (7, 0xB8, 40001)):
            for to in ("198.18.0.2", "2001:2::2"):
                fd = net.udp_socket(source, tos=tos)
                for _ in range(count):
                    assert net.sendto(fd, b"x" * 100, net.pack_addr(to, 9))
                net.close(fd)
        after = sent_of_classes()
    assert after["b3:20"] - before["b3:20"] == 6
    assert after["b3:10"] - before["b3:10"] >= 24  # and what IPv6 says of itself


def test_a_killed_agent_is_undone_by_the_next(folder: Path) -> None:
    before = state()
    with inside(NS):
        on_here(shaping(folder))
        assert state() != before
        off = shaping(folder, shaper=False)
        on_here(off)
        assert state() == before and not off.error


@pytest.mark.parametrize("foreign", ["tbf rate 10mbit burst 5kb limit 50kb", "htb default 1"])
def test_what_somebody_else_set_is_untouched(folder: Path, foreign: str) -> None:
    ns(f"tc qdisc add dev wan0 root handle 7: {foreign}")
    before = state()
    with inside(NS):
        s = shaping(folder)
        on_here(s)
        assert not s.on and "left alone" in s.error
        s.undo()
        assert state() == before
        # Even when a state file of ours lies about.
        (folder / "shaping.json").write_text(json.dumps({"wan": "wan0", "index": 1, "root": "htb", "handle": "b3:"}))
        s.undo()
    assert state() == before


def test_it_survives_an_interface_made_anew_and_one_that_is_away(folder: Path, monkeypatch: Any) -> None:
    from bwrouter.agent import shaping as module

    monkeypatch.setattr(module, "RETRY_MS", 0)
    with inside(NS):
        s = shaping(folder)
        on_here(s)
        shaped = state()
        fresh()
        on_here(s)
        on_here(s)
        assert s.on and state() == shaped
        ns("ip link del wan0")
        on_here(s)
        assert not s.on and "setting wan" in s.error
        fresh()
        on_here(s)
        assert s.on and not s.error and state() == shaped
        s.undo()


def test_ours_that_somebody_replaced_is_given_up(folder: Path, monkeypatch: Any) -> None:
    from bwrouter.agent import shaping as module

    monkeypatch.setattr(module, "LOOK_MS", 0)
    with inside(NS):
        s = shaping(folder)
        on_here(s)
        ns("tc qdisc replace dev wan0 root handle 9: tbf rate 10mbit burst 5kb limit 50kb")
        before = state()
        on_here(s)
        on_here(s)
        s.undo()
    assert state() == before


def test_rates_follow_and_a_failed_step_leaves_nothing_half_made(folder: Path, monkeypatch: Any) -> None:
    from bwrouter.agent import shaping as module

    monkeypatch.setattr(module, "CHANGE_MS", 0)
    before = state()
    with inside(NS):
        s = shaping(folder)
        on_here(s)
        on_here(s, 20000, 5000)
        assert "ceil 5Mbit" in state() and "rate 19940Kbit" in state()
        s.undo()
        bad = shape.plan(10000, 8000)
        bad.insert(4, shape.Op("qdisc", "no_such_qdisc", shape.HANDLE << 16 | 0x10, 0xB310000))
        for executor in (tc.Netlink, tc.Command):
            with pytest.raises(tc.TcError, match="no_such_qdisc"):
                executor(str(folder), lambda text: None).apply("wan0", bad, shape.command)
            assert state() == before
    assert clock.ms() > 0
