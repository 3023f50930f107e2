"""A download through three hops, against plain TCP over the same line with the same round trip."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.client.stage import Stage
from tests.lab.net import inside, run_in
from tests.lab.proc import TICKS

from .lines import Lines
from .spent import Spent, bound_mbit

RATES_MBPS = (10, 40, 300)
RTTS_MS = tuple(int(x) for x in os.environ.get("RTTS", "20 80").split())
CROSSINGS = 8  # of home lines in one round trip over two homes and an exit
HEADERS = (1368 - 52) / (1368 + 75 + 28 + 14)  # TCP payload of a full inner packet over what its cell takes on a link
EXIT_TUN = "bwexit0"
ALONE = ("client", "entry", "middle", "exit", "curl")  # each has one thread that moves packets
PLAIN_SECONDS, TUNNEL_SECONDS = 5.0, 8.0


def fetch(ns: str, url: str, seconds: float, spent: Spent) -> tuple[float, dict[str, float]]:
    """Mbit/s of the second half of `seconds` of a download, begun again at its end, and what it cost: milliseconds of
    CPU for each megabyte."""
    with inside(ns):
        child = subprocess.Popen(["curl", "-s", "-o", "/dev/null", f"{url}?[1-99]"])
    io = Path(f"/proc/{child.pid}/io")
    time.sleep(seconds / 2)
    first, at = _received(io), time.monotonic()
    spent.mark(child.pid)
    time.sleep(seconds / 2)
    last, took = _received(io), time.monotonic() - at
    spent.mark(child.pid)
    child.kill()
    child.wait()
    return (last - first) * 8 / took / 1e6, spent.per_mb(max(last - first, 1) / 1e6)


def first_byte(ns: str, url: str) -> float:
    """Milliseconds from a request's start, TCP handshake included, to the first byte of its answer; median of five."""
    argv = ["curl", "-s", "-I", "-o", "/dev/null", "-w", "%{time_starttransfer}", url]
    return statistics.median(float(run_in(ns, argv)) for _ in range(5)) * 1000


def _received(io: Path) -> int:
    """Bytes that the process wrote to /dev/null: the body."""
    words = dict(line.split(": ") for line in io.read_text().splitlines())
    return int(words["wchar"])


class Rates:
    """What the agents of a path's homes allowed their relays while it carried: the least of each, and why."""

    def __init__(self, s: Stage) -> None:
        status = s.status()
        self.routers = [s.router(i, status) for i in range(len(status["hops"]) - 1)]
        self.least: list[tuple[int, str]] = [(1 << 30, "")] * len(self.routers)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.5):
            for i, router in enumerate(self.routers):
                rate = router.status().get("rate", {})
                self.least[i] = min(self.least[i], (rate.get("allowed_kbps", 0), rate.get("reason", "")))

    def stop(self) -> list[str]:
        self._end.set()
        self._thread.join()
        return [f"{kbps} {why}" for kbps, why in self.least]


def machine_idle() -> float:
    """Seconds that all processors together have been idle."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / TICKS


def dropped(s: Stage) -> dict[str, int]:
    """Cells that the relays of the path dropped, by place and reason, and packets that the client did."""
    status = s.status()
    found = {f"client {reason}": n for reason, n in status["drops"].items()}
    found["client socket"] = socket_full(s.buyer.ns)
    for place in range(len(status["hops"])):
        router = s.router(place, status)
        relay = router.status().get("relay") or {}
        found |= {f"hop {place + 1} {reason}": n for reason, n in relay.get("drops", {}).items()}
        found[f"hop {place + 1} socket"] = socket_full(router.node.ns)
    found["exit TUN"] = tun_full(router.node.ns, EXIT_TUN)
    return found


def tun_full(ns: str, name: str) -> int:
    """Packets that found no room in a TUN's queue."""
    (link,) = json.loads(run_in(ns, ["ip", "-j", "-s", "link", "show", "dev", name]))
    return int(link["stats64"]["tx"]["dropped"])


def socket_full(ns: str) -> int:
    """UDP datagrams that found no room in a socket's buffer."""
    names, values = (line.split() for line in run_in(ns, ["grep", "^Udp:", "/proc/net/snmp"]).splitlines())
    found = dict(zip(names, values, strict=True))
    return int(found["RcvbufErrors"])


def goodput(s: Stage, lines: Lines, rates: tuple[int, ...], report: dict[str, Any]) -> None:
    """Every rate and round trip. Plain TCP goes from a home's own web server to a host that has no tunnel."""
    assert s.pool.file
    url = f"http://{s.web.v4}{s.pool.file.url_path}"
    home = s.lab.homes[0]
    run_in(home.ns, ["nft", "add rule inet home input tcp dport 80 accept"])
    server = s.pool.python("plain", home, "tests.lab.web", "--folder", str(s.pool.file.path.parent))
    rows: list[dict[str, Any]] = []
    for mbps in rates:
        for rtt in RTTS_MS:
            lines.delay(rtt / CROSSINGS)
            lines.rate(mbps)
            client = s.up()
            first = first_byte(s.buyer.ns, url)
            before, idle, began = dropped(s), machine_idle(), time.monotonic()
            watched = Rates(s)
            got, cost = fetch(s.buyer.ns, url, TUNNEL_SECONDS, Spent(s, lines, client, "web"))
            allowed = watched.stop()
            idle = (machine_idle() - idle) / (time.monotonic() - began)
            time.sleep(1.2)  # the routers' status is a second old at most
            lost = {name: n - before.get(name, 0) for name, n in dropped(s).items() if n > before.get(name, 0)}
            s.bw("down")
            s.forget(client)
            lines.delay(rtt / 2)
            plain_url = f"http://{home.v4}{s.pool.file.url_path}"
            plain, plain_cost = fetch(s.lab.nodes["sink"].ns, plain_url, PLAIN_SECONDS, Spent(s, lines, None, "plain"))
            rows.append(
                {"mbps": mbps, "rtt_ms": rtt, "plain_mbps": round(plain, 2), "tunnel_mbps": round(got, 2),
                 "share": round(got / (plain * HEADERS), 3), "of_line": round(got / (mbps * HEADERS), 3),
                 "ttfb_ms": round(first, 1), "cpu_bound_mbit": bound_mbit(cost, ALONE), "cpu_ms_per_mb": cost,
                 "plain_cpu_ms_per_mb": plain_cost, "idle_cpus": round(idle, 2), "dropped": lost,
                 "least_allowed_kbps": allowed}
            )  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    server.stop()
    s.forget(server)
    lines.delay(0)
    report |= {
        "goodput": rows, "goodput_share": min(r["share"] for r in rows),
        "goodput_of_line": min(r["of_line"] for r in rows), "ttfb_ms": max(r["ttfb_ms"] for r in rows),
    }  # fmt: skip
