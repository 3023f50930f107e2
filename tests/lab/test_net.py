"""The lab itself: it builds, its lines have their rates, its captures see what is there, nothing is left after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import capture, household, net, proc, web
from tests.lab.net import Lab, Line

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(Line(up_kbps=20_000, buffer=64 * 1024), homes=2) as built:
        yield built


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[proc.Processes]:
    started = proc.Processes(tmp_path)
    yield started
    started.stop()


def start_sink(lab: Lab, processes: proc.Processes) -> None:
    sink = processes.start("sink", [sys.executable, "-m", "tests.lab.household", "serve"], lab.nodes["sink"].ns)
    proc.wait_for("sink", lambda: "ready" in sink.tail(), 10)


def start_web(lab: Lab, processes: proc.Processes, folder: Path, size: int) -> web.RandomFile:
    made = web.make_file(folder, size)
    argv = [sys.executable, "-m", "tests.lab.web", "--folder", str(folder)]
    server = processes.start("web", argv, lab.nodes["web"].ns)
    proc.wait_for("web server", lambda: "ready" in server.tail(), 10)
    return made


def start_capture(lab: Lab, processes: proc.Processes, node: str, made: web.RandomFile, report: Path) -> proc.Process:
    server = lab.nodes["web"]
    watcher = processes.start(
        f"capture-{node}",
        [sys.executable, "-m", "tests.lab.capture", "--link", lab.nodes[node].link, "--web", server.v4,
         "--web6", server.v6, "--path", made.url_path, "--head", made.head.hex(), "--report", str(report)],
        lab.inet,
    )  # fmt: skip
    proc.wait_for(f"capture of {node}", report.exists, 10)
    return watcher


def read(watcher: proc.Process, report: Path) -> dict[str, Any]:
    assert watcher.stop() == 0, watcher.tail()
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def upload(lab: Lab, processes: proc.Processes, tmp_path: Path, size_kb: int, to: str) -> dict[str, Any]:
    report = tmp_path / "household.json"
    argv = [sys.executable, "-m", "tests.lab.household", "upload", "--to", to, "--report", str(report)]
    argv += ["--burst-kb", str(size_kb), "--bursts", "1", "--gap", "0.5:0.5"]
    home = processes.start("household", argv, lab.nodes["r1"].lan_ns)
    assert home.popen.wait(20) == 0, home.tail()
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_uplink_has_its_rate_and_its_buffer(lab: Lab, processes: proc.Processes, tmp_path: Path, version: str) -> None:
    start_sink(lab, processes)
    told = upload(lab, processes, tmp_path, 5000, getattr(lab.nodes["sink"], version))
    goodput_of_line = 20.0 * 1448 / 1514
    assert told["mbps"] == pytest.approx(goodput_of_line, rel=0.10)
    assert told["rtt_idle_ms"]["p50"] < 3
    buffer_ms = 64 * 1024 * 8 / 20_000
    assert 0.4 * buffer_ms < told["rtt_busy_ms"]["p99"] < 1.5 * buffer_ms


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_lan_host_fetches_from_the_web_server(
    lab: Lab, processes: proc.Processes, tmp_path: Path, version: str
) -> None:
    made = start_web(lab, processes, tmp_path / "web", 300_000)
    reports = {n: tmp_path / f"{n}.json" for n in ("r1", "r2", "web")}
    watchers = {n: start_capture(lab, processes, n, made, f) for n, f in reports.items()}
    server = lab.nodes["web"]
    host = f"[{server.v6}]" if version == "v6" else server.v4
    got = tmp_path / "got"
    net.run_in(lab.nodes["r1"].lan_ns, ["curl", "-sS", "-o", str(got), f"http://{host}{made.url_path}"])
    assert web.sha256_of(got) == made.sha256
    found = {n: read(watchers[n], reports[n]) for n in reports}
    for name in ("r1", "web"):
        seen = found[name]
        assert 200 < seen["outer"] <= seen["packets_to"] + seen["packets_from"]
        assert seen["path"] == 1 and seen["head"] == 1 and seen["text"] >= 1
        assert seen["dropped"] == seen["truncated"] == 0
        assert seen["longest"] <= 1500
        assert capture.clear_headers(seen, server.v4, []) > 200
    assert found["r1"]["bytes_to"] > 300_000
    assert capture.clear_headers(found["r2"], server.v4, []) == 0


def test_capture_finds_an_address_in_a_hidden_header(lab: Lab, processes: proc.Processes, tmp_path: Path) -> None:
    """A packet in a packet, not encrypted: src || dst in the payload counts, four bytes by chance do not."""
    made = web.make_file(tmp_path / "web", 1000)
    server, report = lab.nodes["web"], tmp_path / "r2.json"
    watcher = start_capture(lab, processes, "r2", made, report)
    inner, outer = "10.66.0.7", lab.nodes["r2"]
    script = (
        "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        f"web,inner=socket.inet_aton('{server.v4}'),socket.inet_aton('{inner}')\n"
        f"for p in (b'x'*33+inner+web+b'y'*9, b'x'*12+web+b'z'*5): s.sendto(p,('{lab.nodes['sink'].v4}',5000))"
    )
    net.run_in(outer.ns, [sys.executable, "-c", script])
    time.sleep(0.3)
    seen = read(watcher, report)
    sent_and_quoted_by_icmp = 2
    assert seen["outer"] == 0 and seen["inner4"] == len(seen["inner4_places"]) == 2 * sent_and_quoted_by_icmp
    assert capture.clear_headers(seen, server.v4, [inner]) == sent_and_quoted_by_icmp


def test_capture_keeps_up(lab: Lab, processes: proc.Processes, tmp_path: Path) -> None:
    """40 MB at 96 Mbit/s, above what any line of the lab carries: no packet dropped by the capture, none cut short."""
    made = start_web(lab, processes, tmp_path / "web", 40_000_000)
    report = tmp_path / "buyer.json"
    watcher = start_capture(lab, processes, "buyer", made, report)
    argv = [
        "curl",
        "-sS",
        "--limit-rate",
        "12M",
        "-o",
        str(tmp_path / "got"),
        f"http://{lab.nodes['web'].v4}{made.url_path}",
    ]
    net.run_in(lab.nodes["buyer"].ns, argv, timeout=60)
    seen = read(watcher, report)
    assert seen["bytes_to"] > 40_000_000 and seen["longest"] == 1500
    assert seen["dropped"] == seen["truncated"] == 0
    made.path.unlink()
    (tmp_path / "got").unlink()


def test_home_router_lets_nothing_into_the_lan(lab: Lab, processes: proc.Processes, tmp_path: Path) -> None:
    made = web.make_file(tmp_path / "nas", 1000)
    argv = [sys.executable, "-m", "tests.lab.web", "--folder", str(made.path.parent)]
    nas = processes.start("nas", argv, lab.nodes["r1"].lan_ns)
    proc.wait_for("LAN server", lambda: "ready" in nas.tail(), 10)
    fetch = ["curl", "-sS", "-m", "1", "-o", "/dev/null", f"http://[{lab.nodes['r1'].lan6}2]{made.url_path}"]
    net.run_in(lab.nodes["r1"].ns, fetch)
    with pytest.raises(net.LabError, match="ended with 28"):
        net.run_in(lab.nodes["sink"].ns, fetch)


def test_household_rests_between_bursts(tmp_path: Path) -> None:
    assert household.spread([]) == {}
    assert household.spread([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "n": 3}


def test_nothing_is_left(tmp_path: Path) -> None:
    before = list(map(net.host_state, net.HOST_STATE))
    with Lab(homes=1) as built:
        prefix = built.prefix
        started = proc.Processes(tmp_path)
        sleeper = started.start("sleeper", ["sleep", "600"], built.nodes["r1"].lan_ns)
        assert prefix + "-r1" in net.lab_namespaces()
        where = [built.nodes["r1"].lan_ns]
        proc.wait_for("the sleeper", lambda: sleeper.pid in net.processes_in(where), 5)
    assert not [n for n in net.lab_namespaces() if n.startswith(prefix)]
    assert list(map(net.host_state, net.HOST_STATE)) == before
    assert sleeper.popen.wait(5) == -signal.SIGKILL
    built.stop()


OWNER = """
import time
from tests.lab import net, proc
lab = net.Lab(homes=1)
lab.start()
child = proc.Processes(__import__("pathlib").Path({folder!r})).start("child", ["sleep", "600"], lab.nodes["web"].ns)
print(lab.prefix, child.pid, flush=True)
time.sleep(600)
"""


def test_the_next_start_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    code = OWNER.format(folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=proc.ROOT) as owner:
        assert owner.stdout
        prefix, child = owner.stdout.readline().split()
        assert prefix not in net.sweep(), "a living run was swept"
        assert Path(f"/proc/{child}").exists()
        owner.kill()
    assert f"{prefix}-web" in net.lab_namespaces()
    with Lab(homes=0):
        assert not [n for n in net.lab_namespaces() if n.startswith(prefix)]
        assert not Path(f"/proc/{child}/exe").exists()


def test_a_node_that_is_not_there_is_named(lab: Lab) -> None:
    with pytest.raises(net.LabError, match="no interface nosuch0"):
        lab.index(lab.inet, "nosuch0")
    with pytest.raises(net.LabError, match=r"false in .* ended with 1"):
        net.run_in(lab.inet, ["false"])
