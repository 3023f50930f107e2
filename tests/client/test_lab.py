"""`bw` on a real machine of the lab: nothing leaks, connections live on, the commands say what is so."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest

from tests.client.leaks import tell
from tests.client.stage import CONFIG, FOLDER, Stage
from tests.client.watch import read
from tests.lab.net import run_in
from tests.lab.proc import environment

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone]


def test_nothing_leaks_from_up_to_down(lab: Stage) -> None:
    story = tell(lab)
    print(json.dumps({name: len(found) for name, found in story.leaks.items()}), story.tunnel, story.before)
    assert story.before > 200 and story.tunnel > 500, "the noise and the tunnel are seen by the capture"
    assert {name: found[:5] for name, found in story.leaks.items() if found} == {}
    assert story.new_exit and story.restored, story.notes


def test_a_test_that_fails_leaves_nothing_to_the_next(lab: Stage) -> None:
    """What such a test leaves: a tunnel that is up, a dead relay, a cut line, a process of its own."""
    lab.up()
    left = lab.python("left", "tests.client.noise", "--to4", lab.web.v4, "--to6", lab.web.v6, "--gate", "198.18.51.1",
                      "--device", "wan0")  # fmt: skip
    homes = [r for r in lab.pool.routers.values() if r.node.line]
    lab.kill(homes[0])
    lab.cut(homes[1], True)
    lab.tidy([p for p in lab.pool.processes.started if p.name not in ("client", "left")])
    assert not left.alive() and lab.pool.processes.dead() == []
    assert "table inet bwclient" not in run_in(lab.buyer.ns, ["nft", "list", "tables"])
    assert "cut" not in run_in(homes[1].node.ns, ["nft", "list", "tables"])
    assert homes[0].relay and homes[0].relay.alive()


def test_connections_outlive_entry_middle_and_both(lab: Stage) -> None:
    client = lab.up()
    report = FOLDER / "echo.json"
    echo = lab.python("echo-type", "tests.client.echo", "type", "--to", lab.web.v4, "--report", str(report))
    lab.wait("echo", lambda: int(read(report).get("lines", 0)) > 10)
    for places in ((0,), (1,), (0, 1)):
        lab.wait("a spare path", lab.has_spare)
        os.kill(echo.pid, signal.SIGUSR1)
        dead = [lab.router(p) for p in places]
        for router in dead:
            lab.kill(router)
        time.sleep(2.5)
        for router in dead:
            lab.revive(router)
        time.sleep(1.0)
    os.kill(echo.pid, signal.SIGUSR1)
    time.sleep(0.5)
    told = read(report)
    print(told, lab.status()["steering"])
    assert told["lost"] == 0 and lab.status()["reroutes"] >= 3
    echo.stop()
    lab.forget(echo)
    paths = lab.bw("paths", "--json")
    assert len(paths["hops"]) == 3 and paths["rtt_ms"][2] > 0
    assert lab.bw("status", "--json")["state"] == "up"
    assert "goes through" in lab.bw("check", code=None)
    lab.bw("down")
    lab.forget(client)
    assert lab.bw("status", "--json", code=1)["state"] == "down"


def test_proxy_without_root_of_the_machine(lab: Stage) -> None:
    """curl over SOCKS5 and HTTP CONNECT; the machine's own routes stay as they are."""
    assert lab.pool.file
    before = run_in(lab.buyer.ns, ["ip", "rule"])
    argv = lab.argv("proxy", "--config", str(FOLDER / "config.json"))
    proxy = lab.pool.processes.start("proxy", argv, lab.buyer.ns)
    lab.pool.wait("proxy", lambda: lab.status(proxy.pid).get("state") == "up", 40, by=proxy)
    url = f"http://{lab.web.v4}{lab.pool.file.url_path}"
    for way in (["--socks5-hostname", "127.0.0.1:1080"], ["--proxytunnel", "--proxy", "http://127.0.0.1:8118"]):
        said = run_in(lab.buyer.ns, ["curl", "-sSf", *way, "-o", "/dev/null", "-w", "%{size_download}", url])
        assert int(said) == lab.pool.file.size
    assert run_in(lab.buyer.ns, ["ip", "rule"]) == before
    assert proxy.stop(20) == 0
    lab.forget(proxy)


def test_a_program_has_a_tunnel_of_its_own(lab: Stage) -> None:
    assert lab.pool.file
    argv = [sys.executable, "-m", "tests.client.library", str(CONFIG), lab.web.v4, lab.pool.file.url_path]
    env = [f"{k}={v}" for k, v in environment().items()]
    before = run_in(lab.buyer.ns, ["ip", "link"])
    assert run_in(lab.buyer.ns, ["env", *env, *argv], timeout=60).strip() == lab.pool.file.sha256
    assert run_in(lab.buyer.ns, ["ip", "link"]) == before
