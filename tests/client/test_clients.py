"""Other people's programs on a machine under `bw up`, and what they leave on its physical link."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.stage import FOLDER, Stage
from tests.client.watch import Watch
from tests.lab.net import run_in
from tests.lab.proc import environment

pytestmark = [pytest.mark.slow, pytest.mark.root]
NAME = "site.lab"
PAGE = """<!doctype html><title>page</title><script>
async function size(url) { return (await (await fetch(url)).arrayBuffer()).byteLength; }
async function seen() {
  const pc = new RTCPeerConnection({iceServers: [{urls: "stun:%(name)s:3478"}]}), all = [];
  pc.createDataChannel("x");
  pc.onicecandidate = e => { if (e.candidate) all.push(e.candidate.candidate); };
  await pc.setLocalDescription(await pc.createOffer());
  await new Promise(done => { pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && done();
                              setTimeout(done, 4000); });
  return all;
}
(async () => { window.found = {size: await size("%(file)s"), candidates: await seen()}; })();
</script>"""


@pytest.fixture
def up(lab: Stage) -> Iterator[Stage]:
    """Servers at the far side, the tunnel up, a capture on the physical link that must stay clean."""
    folder = FOLDER / "far"
    folder.mkdir(parents=True, exist_ok=True)
    lab.names(NAME)
    lab.server("quic", [*PYTHON, "tests.client.quic", "serve", "--folder", str(folder)])
    lab.server("stun", [*PYTHON, "tests.client.stun"])
    lab.server("iperf", ["iperf3", "--server", "--forceflush"], "listening")
    lab.up()
    watch = Watch(lab.lab, lab.buyer, [r.node for r in lab.pool.routers.values()])
    yield lab
    time.sleep(0.3)
    watch.stop()
    assert watch.counts["tunnel"] > 100 and [said for _, said in watch.leaks] == []


PYTHON = [sys.executable, "-m"]


def buyer(lab: Stage, argv: list[str], timeout: float = 40.0) -> str:
    """A program of the buyer's, with the names that its machine has now."""
    env = [f"{k}={v}" for k, v in environment().items()]
    return run_in(lab.buyer.ns, ["env", *env, *lab.with_names(*argv)], timeout=timeout)


def test_curl_dig_iperf_quic_and_a_browser(up: Stage) -> None:
    assert up.pool.file
    web, file = up.web, up.pool.file
    for server in (web.v4, web.v6):
        for kind, answer in (("A", web.v4), ("AAAA", web.v6)):
            assert buyer(up, ["dig", "+short", "+tries=1", f"@{server}", NAME, kind]).split() == [answer]
    assert buyer(up, ["dig", "+short", "+tcp", NAME, "A"]).split() == [web.v4], "by the machine's own resolver"

    target = FOLDER / "curl.out"
    for way in ("-4", "-6"):
        buyer(up, ["curl", "-sSf", way, "-o", str(target), f"http://{NAME}{file.url_path}"])
        assert hashlib.sha256(target.read_bytes()).hexdigest() == file.sha256
        target.unlink()

    for to in (web.v4, web.v6):
        said = json.loads(buyer(up, [*PYTHON, "tests.client.quic", "get", "--to", to, "--size", "500000"]))
        assert said == {"bytes": 500_000, "ok": True}

    for to in (web.v4, web.v6):
        for more in ([], ["--reverse"]):
            tcp = json.loads(buyer(up, ["iperf3", "--json", "--client", to, "--time", "1", *more]))["end"]
            assert tcp["sum_received"]["bytes"] > 100_000
        udp = json.loads(buyer(up, ["iperf3", "--json", "--client", to, "--time", "1", "--udp", "--bitrate", "2M"]))
        lost: dict[str, Any] = udp["end"]["sum"]
        assert lost["packets"] > 100 and lost["lost_packets"] <= lost["packets"] * 0.05

    page = Path(file.path.parent, "page.html")
    page.write_text(PAGE % {"name": NAME, "file": file.url_path})
    found = json.loads(buyer(up, [*PYTHON, "tests.client.page", f"http://{NAME}/page.html"]).splitlines()[-1])
    page.unlink()
    assert found["size"] == file.size
    status = up.status()
    shown = " ".join(found["candidates"])
    assert "srflx" in shown or status["inner_v4"] in shown, "STUN was asked and answered"
    assert up.buyer.v4 not in shown and up.buyer.v6 not in shown, "WebRTC shows no address of the machine"

    url = f"http://{web.v4}{file.url_path}"
    rows = up.bw("check", "--json", "--stun", f"{web.v4}:3478", "--download", url)["rows"]
    told = {r["what"]: r for r in rows}
    exits = [r.node.v4 for r in up.pool.routers.values() if r.node.name.startswith("dc")]
    assert told["address that STUN sees"]["found"] in exits and "Mbit/s" in told["download"]["found"]
