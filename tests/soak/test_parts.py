"""The soak's own parts: its keeper starts anew, its faults all come, its line and its clock do what they say."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from bench.relay.machine import Namespace
from tests.lab.net import wire_size
from tests.lab.proc import BUILD, ROOT, Processes
from tests.soak.faults import KILLS, VICTIMS, Fault, Faults, nothing
from tests.soak.keeper import Keeper
from tests.soak.plan import BadPlan, from_environment
from tests.soak.town import Town


@pytest.mark.parametrize(("name", "value"), [("MINUTES", "0"), ("ROUTERS", "5"), ("ROUTERS", "7.5"), ("BUYERS", "many")])
def test_a_wrong_setting_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(BadPlan, match=f"{name}: '{value}' is not allowed"):
        from_environment()


def test_the_keeper_starts_anew_what_died(tmp_path):
    processes = Processes(tmp_path)
    keeper = Keeper("x", "x", lambda name: processes.start(name, ["sleep", "60"]))
    first = keeper.up()
    keeper.sample()
    keeper.kill()
    first.popen.wait()
    deadline = time.monotonic() + 10
    while keeper.starts < 2:
        keeper.mind(processes)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert keeper.alive() and keeper.process is not first and len(keeper.history) == 1
    assert {p.name for p in tmp_path.glob("*.log")} == {"x.1.log", "x.2.log"}
    processes.stop()


def keepers(kinds):
    """Living processes of these kinds, as a town has them."""
    return {f"{kind}{i}": SimpleNamespace(kind=kind, name=f"{kind}{i}", starts=1, alive=lambda: True, kill=None)
            for i, kind in enumerate(kinds)}  # fmt: skip


def test_kills_take_their_turns_and_what_is_busy_comes_later():
    faults = Faults(cast(Town, SimpleNamespace(keepers=keepers(VICTIMS))), 1)
    faults.makers = {"kill": faults.kill, "other": lambda: None if "other" in faults.busy else told("other")}

    def told(kind):
        return Fault(kind, kind, 0.0, nothing, nothing, lambda: True)

    faults.busy = {"other"}
    kinds = [fault.kind for fault in (faults.draw() for _ in range(KILLS)) if fault]
    assert len(set(kinds)) == KILLS and "other" not in kinds and faults.draw() is None
    faults.busy.clear()
    last = faults.draw()
    assert last and last.kind == "other"
    kinds += [fault.kind for fault in (faults.draw() for _ in range(KILLS + 1)) if fault]
    assert {f"kill {v}" for v in VICTIMS} == set(kinds) - {"other"}


@pytest.fixture(scope="module")
def built():
    subprocess.run(["make", "-s", "build/soak/line", "build/soak/libclock.so"], cwd=ROOT, check=True)


def test_a_clock_is_moved_while_the_process_runs(built, tmp_path):
    file = tmp_path / "clock"
    file.write_bytes(struct.pack("d", 0.0))
    script = "import time\nwhile True:\n    input(); print(time.time(), time.monotonic(), flush=True)"
    env = {"LD_PRELOAD": str(BUILD / "soak/libclock.so"), "BW_CLOCK": str(file), "PATH": "/usr/bin:/bin"}
    child = subprocess.Popen([sys.executable, "-c", script], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout

    def ask():
        assert child.stdin and child.stdout
        child.stdin.write("\n")
        child.stdin.flush()
        return [float(x) for x in child.stdout.readline().split()]

    try:
        assert abs(ask()[0] - time.time()) < 2
        for offset in (86_400.0, -3600.0, 0.0):
            with open(file, "r+b") as f:
                f.write(struct.pack("d", offset))
            wall, monotonic = ask()
            assert abs(wall - time.time() - offset) < 2 and abs(monotonic - time.monotonic()) < 2
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(("words", "least", "most"), [
    ("0 0 0 0 0", (1.0, 0.0), (1.0, 0.01)), ("0 0 30 0 0", (0.5, 0.0), (0.85, 0.01)), ("0 0 0 50 0", (1.3, 0.0), (1.7, 0.01)),
    ("20 0 0 0 30", (1.0, 0.1), (1.0, 0.6)),
])  # fmt: skip
def test_a_bad_line_loses_doubles_and_reorders(built, words, least, most):
    """500 datagrams through it: how many arrive, and how many of them after a later one."""
    here, far, middle = Namespace(), Namespace(), Namespace()
    for ns, name, address in ((here, "h0", "198.18.9.1"), (far, "f0", "198.18.9.2")):
        ns.join(middle, name, "m" + name)
        with ns:
            wire_size(name)
        ns.ip(f"addr add {address}/24 dev {name}")
        ns.ip(f"link set dev {name} up")
        middle.ip(f"link set dev m{name} promisc on up")
    with middle:
        line = subprocess.Popen([BUILD / "soak/line", "mh0", "mf0", *words.split(), "7"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert line.stdin and line.stdout and line.stdout.readline() == b"ready\n"
    try:
        with far:
            got = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            got.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE: all of them wait in it
        with here:
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        got.bind(("198.18.9.2", 9000))
        got.settimeout(1.5)
        out.sendto(b"\0" * 4, ("198.18.9.2", 9000))  # address resolution
        with suppress(TimeoutError):
            got.recv(100)
            got.recv(100)
        for i in range(500):
            out.sendto(struct.pack("I", i), ("198.18.9.2", 9000))
            time.sleep(0.001)
        came = []
        with suppress(TimeoutError):
            while True:
                came.append(struct.unpack("I", got.recv(100))[0])
        late = sum(a > b for a, b in zip(came, came[1:]))
        assert least[0] <= len(came) / 500 <= most[0]
        assert least[1] <= late / 500 <= most[1]
    finally:
        line.stdin.close()
        assert line.wait(5) == 0
        line.stdout.close()
        got.close()
        out.close()
