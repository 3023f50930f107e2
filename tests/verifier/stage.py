"""Real relays in a namespace, and what covert audits need beside them: a web server, a buyer's choice of paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bwclient.path import choose
from bwclient.settings import Settings as ClientSettings
from bwrouter.wire.descriptor import Descriptor
from bwverifier.covert import Covert
from bwverifier.web import Web
from tests.relay.scene import FakeTicket, Scene, Source

WEB_IP, WEB_PORT = "198.18.9.9", 8090
URL = f"http://{WEB_IP}:{WEB_PORT}"


class Stock(Source):
    """As a purse: small tickets first, then large ones."""

    def take_small(self, region: int) -> FakeTicket:
        ticket = self.take(region)
        ticket.units = 64
        return ticket


class Choice:
    """A buyer's choice among a scene's relays; all have one /24, so that nearness is left out."""

    def __init__(self, relays: list[Descriptor]) -> None:
        self.relays = relays

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        spread = []
        for i, d in enumerate(self.relays):
            away = Descriptor(d.relay, d.static, d.obf, bytes((20 + i, 0, 0, 1)), d.port4, flags=d.flags, rate=d.rate)
            spread.append(away)
        path = choose(spread, 3, last=last, apart=apart)
        return [next(d for d in self.relays if d.relay == p.relay) for p in path]

    def blame(self, relay: bytes) -> None: ...
    def absolve(self, relay: bytes) -> None: ...
    def suspect(self, relay: bytes) -> None: ...
    def learn(self, c: Any) -> None: ...
    def hurry(self) -> None: ...


def client_settings(folder: Path) -> ClientSettings:
    """Of a client that never speaks to its gateway."""
    return ClientSettings.model_validate({
        "gateway": {"url": "http://127.0.0.1:9", "key": "00" * 32}, "rpc_url": "http://127.0.0.1:9", "dns": [],
        "run_dir": str(folder), "state_dir": str(folder), "tun": f"bw{os.getpid() % 100000}",
    })  # fmt: skip


@contextmanager
def covert(scene: Scene) -> Iterator[tuple[Covert, Choice]]:
    """A covert auditor in the scene's namespace."""
    machine = Covert(client_settings(scene.folder))
    machine.web = Web(f"{WEB_IP}:{WEB_PORT}")
    try:
        yield machine, Choice(scene.path())
    finally:
        machine.close()
        machine.web.close()
