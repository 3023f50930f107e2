"""`bw up`: buy tickets, build a path, move the machine's traffic through it, settle, restore the network."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bwrouter.platform import net
from bwrouter.relay.exit import BUCKETS, CONSTANT, NONE
from bwrouter.wire import address

from . import directory, path
from .circuit import CircuitError
from .datapath import Padding
from .killswitch import Endpoint, SwitchError
from .machine import Busy, Machine, Place
from .purse import Purse, PurseError
from .reach import OWN
from .relays import Relays
from .resolver import ResolverError
from .settings import Settings
from .steer import Lost, Steering
from .tunnel import Tunnel

PADDINGS = {"none": NONE, "buckets": BUCKETS, "constant": CONSTANT}
REFRESH_SECONDS = 3.0
DIRECT_AFTER = 15.0  # seconds without any path after which the gateway may be asked past the tunnel again
_REFUSALS = (
    PurseError, directory.DirectoryError, path.PathError, net.NetError, Lost, SwitchError, ResolverError, Busy,
    CircuitError, OSError,
)  # fmt: skip


class Up:
    """One run of the tunnel. `status.json` in the run directory always tells how it stands."""

    def __init__(self, settings: Settings, said: Callable[[str, str], None] | None = None, place: Place | None = None):
        self.settings = settings
        self.state = "starting"
        self.reason = ""
        self.tunnel: Tunnel | None = None
        self.purse: Purse | None = None
        self.steering: Steering | None = None
        self.relays: Relays | None = None
        self.machine = place
        self._said = said
        self._stop = False
        self._was_up = False
        self._status_at = self._refreshed_at = 0.0
        self._rerouting_since = 0.0
        self._gateway: list[Endpoint] = []
        self._always_direct = False
        self._file = Path(settings.run_dir) / "status.json"

    def stop(self, *_: object) -> None:
        self._stop = True

    # -- telling -----------------------------------------------------------------------

    def _write_status(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._status_at < 0.5:
            return
        self._status_at = now
        tmp = self._file.with_suffix(".tmp")
        tmp.write_text(json.dumps(self.status()))
        tmp.rename(self._file)

    def status(self) -> dict[str, Any]:
        """What `bw status --json` shows."""
        status: dict[str, Any] = {
            "state": self.state, "reason": self.reason, "pid": os.getpid(), "time": time.time(),
            "protected": self.machine is not None and self.machine.protected,
        }  # fmt: skip
        if self.tunnel is not None:
            status |= self.tunnel.status()
        if self.steering is not None:
            status["steering"] = self.steering.status()
        if self.purse is not None:
            status["purse"] = self.purse.status()
        return status

    def _say(self, state: str, reason: str = "") -> None:
        if state == "rerouting" and self.state != "rerouting":
            self._rerouting_since = time.monotonic()
        self.state, self.reason = state, reason
        self._write_status(force=True)
        if self._said is not None:
            self._said(state, reason)
        else:
            print(f"{state}{': ' + reason if reason else ''}", file=sys.stderr, flush=True)

    # -- the run -----------------------------------------------------------------------

    def run(self) -> int:
        """0 after an orderly end, 1 when the tunnel could not be had or was lost."""
        s = self.settings
        for folder in (s.run_dir, s.state_dir):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        code = 1
        try:
            if self.machine is None:
                self.machine = Machine(s)
            OWN.mark = self.machine.mark
            code = self._run()
        except _REFUSALS as e:
            self._say("lost" if self._was_up else "failed", str(e))
        finally:
            self._clean_up(code)
        return code

    def _run(self) -> int:
        s = self.settings
        assert self.machine is not None
        urls = [s.gateway.url, s.rpc_url]
        self._gateway = [(p, a, n) for p, a, n in OWN.endpoints(urls, Path(s.state_dir) / "hosts.json")]
        # What the exit would refuse to reach is reached past the tunnel: a gateway or chain in the buyer's network.
        private = any(address.refused(net.ip_bytes(a)) for _, a, _ in self._gateway)
        self._always_direct = private or self.machine.mark == 0
        self.machine.protect(self._gateway)
        self._say("buying")
        self.purse = Purse(s)
        self.purse.stock_up()
        self._say("building")
        self.relays = Relays(s)
        self.relays.begin()
        padding = Padding(PADDINGS[s.padding], s.pad_rate)
        tunnel = self.tunnel = Tunnel(self.purse, s.listen_port, self.machine.mark, padding, s.priority)
        steering = self.steering = Steering(
            tunnel, self.relays, self._say, self._renewed, self._endpoints, s.spare
        )
        steering.begin(self._building)
        if self._stop:
            return 0
        self._carry(tunnel, steering)
        self._say("closing")
        return 0

    def _building(self) -> bool:
        """Whether to stop, asked while the first path is being built: `status.json` tells how far it is."""
        self._write_status()
        return self._stop

    def _carry(self, tunnel: Tunnel, steering: Steering) -> None:
        """The machine's traffic through the tunnel until stopped; a path that fails is replaced. Raises Lost."""
        assert self.machine is not None and self.relays is not None
        tun = self.machine.carry(tunnel.mtu, tunnel.inner_v4, tunnel.inner_v6)
        tunnel.attach(tun)
        if not self._always_direct:
            OWN.through_tunnel(True)
        self._was_up = True
        self._endpoints(tunnel.endpoints())
        self.relays.start()
        self._say("up")
        while not self._stop:
            tunnel.step(steering.timeout_ms)
            steering.turn()
            self._direct_if_lost()
            self._write_status()
            if time.monotonic() - self._refreshed_at > REFRESH_SECONDS:
                self._refreshed_at = time.monotonic()
                self.machine.refresh()

    def _direct_if_lost(self) -> None:
        """Without any path for long, the directory may be out of date: the gateway may be asked past the tunnel."""
        lost = self.state == "rerouting" and time.monotonic() - self._rerouting_since > DIRECT_AFTER
        if OWN.direct != (lost or self._always_direct):
            OWN.through_tunnel(not lost)
            assert self.tunnel is not None
            self._endpoints(self.tunnel.endpoints())

    def _endpoints(self, first_hops: list[tuple[str, int]]) -> None:
        if self.machine is not None:
            gateway = self._gateway if OWN.direct else []
            self.machine.allow([("udp", a, n) for a, n in first_hops] + gateway)

    def _renewed(self) -> None:
        """Another exit: other inner addresses."""
        if self.machine is not None and self._was_up and self.tunnel is not None:
            self.machine.readdress(self.tunnel.inner_v4, self.tunnel.inner_v6)

    def _clean_up(self, code: int) -> None:
        if self.relays is not None:
            self.relays.close()
        if self.tunnel is not None:
            self.tunnel.hold(True)
            self.tunnel.endpoints_changed = lambda: None
            self.tunnel.close()
        if self.purse is not None:
            self.purse.close()
        machine = self.machine
        if machine is not None:
            # Fail closed: after an orderly end, and when it never was up, the machine is as before; else it stays shut.
            closed = code != 0 and machine.protected and (self._was_up or machine.was_closed)
            try:
                machine.release(closed)
            except Exception as e:  # noqa: BLE001 - told below; the exit code says it too
                print(f"the network could not be restored wholly: {e}; `bw down` tries again", file=sys.stderr)
            if closed:
                print("the kill switch stays closed: `bw up` tries again, `bw down` opens it", file=sys.stderr)
        if code == 0:
            self._say("down")
        self._write_status(force=True)
