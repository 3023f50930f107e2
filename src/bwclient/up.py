"""`bw up`: buy tickets, build a path, move the machine's traffic through it, settle, restore the network."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bwrouter.platform import net

from . import directory, path
from .circuit import CircuitError
from .netconf import MARK, NetConf
from .purse import Purse, PurseError
from .settings import Settings
from .tunnel import Tunnel

_BUILD_TRIES = 5


def _hosts(*urls: str) -> list[str]:
    """The addresses behind URLs, as networks that stay outside the tunnel."""
    out: set[str] = set()
    for url in urls:
        host = urlsplit(url).hostname or ""
        for info in socket.getaddrinfo(host, None):
            out.add(str(ipaddress.ip_network(str(info[4][0]))))
    return sorted(out)


class Up:
    """One run of the tunnel. `status.json` in the run directory always tells how it stands."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.state = "starting"
        self.reason = ""
        self.tunnel: Tunnel | None = None
        self.purse: Purse | None = None
        self._stop = False
        self._status_at = 0.0
        self._file = Path(settings.run_dir) / "status.json"

    def stop(self, *_: object) -> None:
        self._stop = True

    def _write_status(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._status_at < 0.5:
            return
        self._status_at = now
        status: dict[str, Any] = {"state": self.state, "reason": self.reason, "pid": os.getpid(), "time": time.time()}
        if self.tunnel is not None:
            status |= self.tunnel.status()
        if self.purse is not None:
            status["purse"] = self.purse.status()
        tmp = self._file.with_suffix(".tmp")
        tmp.write_text(json.dumps(status))
        tmp.rename(self._file)

    def _say(self, state: str, reason: str = "") -> None:
        self.state, self.reason = state, reason
        self._write_status(force=True)
        print(f"{state}{': ' + reason if reason else ''}", file=sys.stderr, flush=True)

    def run(self) -> int:
        """0 after an orderly end, 1 when the tunnel could not be had or was lost."""
        s = self.settings
        Path(s.run_dir).mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        try:
            return self._run()
        except (PurseError, directory.DirectoryError, path.PathError, net.NetError) as e:
            self._say("failed", str(e))
            return 1
        finally:
            if self.purse is not None:
                self.purse.close()

    def _run(self) -> int:
        s = self.settings
        self._say("buying")
        self.purse = Purse(s)
        self.purse.stock_up()
        self._say("building")
        tunnel = self.tunnel = Tunnel(self.purse, s.listen_port, MARK)
        try:
            if not self._build(tunnel):
                return 0 if self._stop else 1
            return self._carry(tunnel)
        finally:
            tunnel.close()
            if self.state == "closing":
                self._say("down")
            self._write_status(force=True)

    def _carry(self, tunnel: Tunnel) -> int:
        """The machine's traffic through the tunnel until stopped; a path that fails is replaced."""
        s = self.settings
        tun = net.open_tun(s.tun)
        conf = NetConf(s.tun, tunnel.mtu)
        try:
            conf.up(tunnel.inner_v4, tunnel.inner_v6, _hosts(s.gateway.url, s.rpc_url) + s.exclude)
            tunnel.attach(tun)
            while not self._stop:
                self._say("up")
                try:
                    tunnel.run(lambda: self._turn() or tunnel.stale)
                    reason = "keys are renewed"
                except CircuitError as e:
                    reason = str(e)
                if not self._stop:
                    self._say("rerouting", reason)
                    if not self._build(tunnel, keep_exit=True):
                        return 1
            self._say("closing")
            return 0
        except PurseError as e:
            self._say("lost", str(e))
            return 1
        finally:
            conf.down()
            tunnel.detach()

    def _turn(self) -> bool:
        self._write_status()
        return self._stop

    def _build(self, tunnel: Tunnel, keep_exit: bool = False) -> bool:
        """A path for the tunnel, or False (`state` says why). `keep_exit`: to the exit where the session lives."""
        s = self.settings
        avoid: set[bytes] = set()
        last = tunnel.circuit.hops[-1].descriptor.relay if keep_exit and tunnel.circuit is not None else None
        for _ in range(_BUILD_TRIES):
            if self._stop:
                return True
            state = Path(s.state_dir) / "directory.bin"
            relays = directory.fetch(s.gateway.url, bytes.fromhex(s.gateway.key), state=state).relays
            hops = path.choose(relays, s.hops, s.region, frozenset(avoid), last)
            try:
                tunnel.build(hops)
                return True
            except CircuitError as e:
                avoid.add(hops[e.hop].relay)
                print(f"path failed at {hops[e.hop].relay.hex()[:8]}, {e}; trying another", file=sys.stderr)
        self._say("failed", f"no path could be built in {_BUILD_TRIES} tries")
        return False
