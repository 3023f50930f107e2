"""One lane: real relays in a namespace of its own, and sessions one after the other, buyers' and auditors' by turns.

A buyer is `bwclient.up.Up` itself, the code of `bw proxy`, with a stock of test tickets and a fixed list of relays in
place of purse and directory. An audit is `bwverifier.covert`. The program that loads pages through the proxy is the
same at both, a process of its own, as a buyer's browser is; buyers load from another server than the auditor's, which
is another process. What buyers load, and when, is an assumption (`bwverifier.habits`), and the same for both: that
nothing else differs is what is measured.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bwclient.up
from bench.blind.tap import Seen, Tap, features
from bwrouter.wire.descriptor import Descriptor
from bwverifier.browser import Visit
from bwverifier.covert import Covert
from bwverifier.habits import HABITS, Page, session
from bwverifier.probe import Probe
from tests.lab.net import wire_size
from tests.relay.scene import Scene
from tests.verifier.stage import URL, WEB_IP, Choice, Stock, client_settings, covert

SITE_PORT = 8091
RELAYS = 5
TARGET = 1  # index of the relay that looks
LINGER = 0.25
CUSTOMER, AUDIT, PROVE = "customer", "audit", "prove"


class Site(BaseHTTPRequestHandler):
    """Somebody's web server: /N answers N bytes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        body = os.urandom(int(self.path.split("/")[1]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "image/webp")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve() -> None:
    """The site's process, until it is ended."""
    ThreadingHTTPServer((WEB_IP, SITE_PORT), Site).serve_forever()


class Through(Choice):
    """A buyer whose path happens to lead through the relay that looks; spares go by others."""

    def __init__(self, relays: list[Descriptor], target: Descriptor) -> None:
        super().__init__(relays)
        self.target = target
        self.error = ""

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        path = super().choose(last, apart)
        if apart or self.target in path[1:]:
            return path
        first = path[1] if path[0] is self.target else path[0]
        return [first, self.target, path[2]]

    def begin(self) -> None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class Pocket(Stock):
    """Test tickets with a purse's face."""

    def stock_up(self) -> None: ...
    def close(self) -> None: ...

    def status(self) -> dict[str, Any]:
        return {}


class Room:
    """A place for `Up` that stays when it goes."""

    protected, was_closed, mark = True, False, 0

    def __init__(self, machine: Covert) -> None:
        self.cell = machine.cell

    def protect(self, endpoints: list[Any]) -> None: ...
    def allow(self, endpoints: list[Any]) -> None: ...
    def refresh(self) -> None: ...
    def release(self, keep_closed: bool) -> None: ...

    def carry(self, mtu: int, v4: str, v6: str) -> int:
        self.cell.carry(mtu, v4, v6)
        return os.dup(self.cell.tun)

    def readdress(self, v4: str, v6: str) -> None:
        self.cell.readdress(v4, v6)


def visits(pages: list[Page]) -> list[Visit]:
    """Pages of somebody's web server."""
    return [Visit(tuple(f"/{size}/{'x' * random.randint(1, 30)}" for size in p.sizes), p.pause) for p in pages]


def customer(scene: Scene, machine: Covert, target: Descriptor, pages: list[Page], linger: float) -> bool:
    """One buyer's session with the client's own code."""
    relays = Through([*machine_relays(scene)], target)
    browser = machine.browser
    browser.rest()

    def said(state: str, reason: str) -> None:
        if state == "up" and life.ident is None:
            browser.open(WEB_IP, SITE_PORT, visits(pages))
            life.start()

    def live() -> None:
        browser.poll(60.0)
        time.sleep(linger)
        up.stop()

    life = threading.Thread(target=live, daemon=True)
    up = bwclient.up.Up(client_settings(scene.folder), said, Room(machine))
    vars(bwclient.up).update(Purse=lambda settings: Pocket(), Relays=lambda settings: relays)
    code = up.run()
    if life.ident is not None:
        life.join()
    return code == 0 and sum(g.size for g in browser.got) == sum(sum(p.sizes) for p in pages)


_RELAYS: list[Descriptor] = []


def machine_relays(scene: Scene) -> list[Descriptor]:
    """The scene's descriptors, made once."""
    if not _RELAYS:
        _RELAYS.extend(scene.path())
    return _RELAYS


def prove(scene: Scene, target: Descriptor) -> bool:
    """A burst, as the control: a circuit that a relay does recognise."""
    relays = machine_relays(scene)
    probe = Probe(Stock())
    path = [relays[0], target, relays[-1]]
    m = probe.measure(path, 1, 100, target.rate)
    probe.close(patience=0.3)
    return m.chunks > 0


def run(count: int, proves: int, seed: int, out: Path) -> None:
    """`count` sessions of buyers and auditors, and `proves` bursts, in random order; a JSON line for each in `out`."""
    rng = random.Random(seed)
    kinds = [CUSTOMER, AUDIT] * (count // 2) + [PROVE] * proves
    rng.shuffle(kinds)
    with Scene(count=RELAYS, runtime="micropython") as scene, open(out, "w") as lines:
        wire_size("lo")
        site = multiprocessing.get_context("fork").Process(target=serve, daemon=True)
        site.start()
        with covert(scene) as (machine, _):
            relay = scene.relays[TARGET]
            for r in scene.relays:
                r.rate_kbps = 50_000
            target = machine_relays(scene)[TARGET]
            tap = Tap(relay.port, scene.relays[-1].port)
            ports = [r.port for r in scene.relays if r is not relay]
            for kind in kinds:
                pages, linger = session(HABITS["short"], rng), rng.uniform(0, LINGER)
                relay.opened.clear()
                relay.redeemed.clear()
                tap.drain()
                if kind == CUSTOMER:
                    good = customer(scene, machine, target, pages, linger)
                elif kind == AUDIT:
                    d = machine.audit(target, Choice(machine_relays(scene)), Pocket(), URL, pages, linger)
                    good = d.known and d.share == 1.0
                else:
                    good = prove(scene, target)
                time.sleep(0.06)  # the relay's last words to its agent
                seen = Seen(tap.drain(), list(relay.opened.values()), list(relay.redeemed.values()))
                if good and len(seen.packets) > 10:
                    print(json.dumps({"kind": kind, "x": features(seen, ports)}), file=lines, flush=True)
                else:
                    print(f"{kind} left out: {len(seen.packets)} packets", file=sys.stderr, flush=True)
            tap.close()
        site.terminate()
        site.join()


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
