"""What `bw up` changes on the machine, in one place: kill switch, routes, resolver, LAN; and how all of it is undone,
by the run that did it or by a later `bw down`."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import Protocol

from pyroute2.netlink.exceptions import NetlinkError

from bwrouter.platform import net

from . import killswitch, lan, netconf
from .killswitch import Endpoint, Switch
from .netconf import MARK, NetConf
from .resolver import Resolver
from .settings import Settings


class Place(Protocol):
    """Where a tunnel carries packets from: the machine, or a namespace (proxy.py)."""

    mark: int
    was_closed: bool

    @property
    def protected(self) -> bool: ...
    def protect(self, endpoints: list[Endpoint]) -> None: ...
    def allow(self, endpoints: list[Endpoint]) -> None: ...
    def carry(self, mtu: int, v4: str, v6: str) -> int: ...
    def readdress(self, v4: str, v6: str) -> None: ...
    def refresh(self) -> None: ...
    def release(self, keep_closed: bool) -> None: ...


class Busy(RuntimeError):
    """Another tunnel is up on this machine."""


class Machine:
    """The machine's network while a tunnel of `settings` is up."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        state = Path(settings.state_dir)
        self.lan_journal = state / "lan.json"
        self.resolver = Resolver(state / "dns.json", Path(settings.resolv_conf))
        self.was_closed = killswitch.closed()
        self.switch: Switch | None = None
        self.conf: NetConf | None = None
        self.tun = -1
        self._lock = open(state / "lock", "w")  # noqa: SIM115 - held as long as this object lives
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Busy(f"a tunnel of {state} is up already: `bw status` shows it, `bw down` ends it") from None

    mark = MARK

    @property
    def protected(self) -> bool:
        """Whether the kill switch is closed."""
        return self.switch is not None

    def readdress(self, v4: str, v6: str) -> None:
        """Other inner addresses, of another exit."""
        if self.conf is not None:
            self.conf.readdress(v4, v6)

    def protect(self, endpoints: list[Endpoint]) -> None:
        """Close the switch, but to these endpoints; forget the routing rules of a crashed run. Raises SwitchError."""
        s = self.settings
        if s.leak_protection:
            self.switch = Switch(s.tun, MARK, s.exclude, s.lan)
            self.switch.close(endpoints)
        netconf.clear()

    def allow(self, endpoints: list[Endpoint]) -> None:
        """Exactly these may be spoken to. Raises SwitchError."""
        if self.switch is not None:
            self.switch.allow(endpoints)

    def carry(self, mtu: int, v4: str, v6: str) -> int:
        """Make the TUN and send everything into it; its descriptor. Raises NetError, SwitchError, ResolverError."""
        s = self.settings
        self.tun = net.open_tun(s.tun, napi=True)
        netconf.join_packets(s.tun)
        self.conf = NetConf(s.tun, mtu)
        self.conf.up(v4, v6, s.exclude)
        if s.lan:
            self.conf.lan(s.lan)
            lan.up(s.lan, s.tun, self.lan_journal)
        if s.dns:
            self.resolver.set(s.tun, s.dns)
        return self.tun

    def refresh(self) -> None:
        """Every few seconds: the LAN may have other networks by now."""
        if self.conf is not None and self.settings.lan:
            with contextlib.suppress(NetlinkError):  # an interface on its way; it is tried again
                self.conf.lan(self.settings.lan)

    def release(self, keep_closed: bool) -> None:
        """Undo routes, resolver and LAN; open the switch unless it is to stay closed. Raises what could not be undone,
        after the rest was."""
        failed: list[Exception] = []
        steps = [self.resolver.restore]
        if self.conf is not None:
            steps.insert(0, self.conf.down)  # type: ignore[arg-type]
        if self.lan_journal.exists():
            steps.append(lambda: lan.down(self.lan_journal))  # type: ignore[arg-type,return-value]
        if not keep_closed and (self.switch is not None or self.was_closed):
            steps.append(killswitch.open_)  # type: ignore[arg-type]
        for step in steps:
            try:
                step()
            except Exception as e:  # noqa: BLE001 - the rest must be undone whatever it was
                failed.append(e)
        self.conf = None
        self._lock.close()
        if failed:
            raise failed[0]


def restore(settings: Settings) -> list[str]:
    """Undo everything that a run which is gone left; what was undone, in words. Raises ResolverError, SwitchError."""
    state = Path(settings.state_dir)
    done = []
    if netconf.clear():
        done.append("routing rules")
    if Resolver(state / "dns.json", Path(settings.resolv_conf)).restore():
        done.append("name resolution")
    if (state / "lan.json").exists():
        lan.down(state / "lan.json")
        done.append("forwarding")
    if killswitch.closed():
        killswitch.open_()
        done.append("kill switch")
    return done
