"""Covert audits: a buyer's session like any other, whose path happens to lead through the audited relay.

Everything that a relay sees is made by the buyer's own library: circuits and spares by `Steering`, first hops by
`Guards`, tickets by `Purse`, TCP by the kernel behind a TUN. The session fetches pages from the verifier's own web
server through the exit, a loop, and is judged by what comes back: the right bytes, in time.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bwclient.circuit import Circuit
from bwclient.meter import TicketSource
from bwclient.path import PathError, reachable
from bwclient.proxy import Cell, listen
from bwclient.settings import Settings as ClientSettings
from bwclient.steer import Chooser, Lost, Steering
from bwclient.tunnel import Tunnel
from bwrouter.wire.descriptor import Descriptor

from .browser import OBJECT_SECONDS, Browser, Visit
from .habits import Page
from .web import Web

PATH_TRIES = 3  # circuits through the relay before it counts as out of reach
GIVE_UP_SECONDS = 20.0
LINGER_SECONDS = 3.0
SESSION_SECONDS = 600.0  # a session lasts no longer
LEAST_KBPS = 256  # an object may take OBJECT_SECONDS and its bytes at this rate
FORGIVEN = 10  # a share 1/FORGIVEN that does not arrive is the internet's


class NoPath(RuntimeError):
    """No circuit can lead through the relay unseen; the text says why."""


@dataclass
class Delivery:
    """What came of a session. `blamed`: the relay itself let circuits down; `known`: whether it says anything."""

    relay: bytes
    wanted: int = 0
    right: int = 0
    wrong: int = 0
    late: int = 0
    seconds: float = 0.0
    kbps: int = 0  # of the fastest object
    rtt_ms: int = 0
    blamed: int = 0
    known: bool = False
    why: str = ""
    path: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the bytes that were asked for, what arrived right and in time."""
        return self.right / self.wanted if self.wanted else 0.0


class Through(Chooser):
    """Paths as `relays` chooses them, the audited relay in the place of an inner hop."""

    def __init__(self, relays: Chooser, target: Descriptor) -> None:
        self.relays, self.target = relays, target
        self.blamed = self.chosen = 0
        self.stop = False

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        """The first paths lead through the relay; spares and what follows are anybody's. Raises NoPath, PathError."""
        try:
            base = self.relays.choose(last, apart)
        except PathError as e:
            if self.chosen:
                raise
            raise NoPath(str(e)) from e
        if apart or self.stop:
            return base
        self.chosen += 1
        for _ in range(20):
            if base[-1].relay != self.target.relay and len(base) >= 2:
                break
            base = self.relays.choose(last, apart)
        else:
            raise NoPath("it is the only exit: nothing could come back")
        if self.target.relay in (d.relay for d in base[1:]):
            return base
        if base[0].relay == self.target.relay:  # the first hop sees our address
            if len(base) == 2:
                raise NoPath("too few relays to put another one before it")
            path = [base[1], self.target, *base[2:]]
        else:
            path = [base[0], self.target, *base[2:]] if len(base) > 2 else [base[0], self.target, base[1]]
        if not reachable(path):
            raise NoPath("it and another relay of the path sit behind anchors")
        return path

    def blame(self, relay: bytes) -> None:
        """A hop let us down."""
        if relay == self.target.relay:
            self.blamed += 1
            self.stop = self.blamed >= PATH_TRIES
        else:
            self.relays.blame(relay)

    def absolve(self, relay: bytes) -> None:
        """A hop that let us down speaks after all. The target's blame stands: answering late must not end an audit."""
        if relay != self.target.relay:
            self.relays.absolve(relay)

    def suspect(self, relay: bytes) -> None:
        """A hop stood behind one that fell silent."""
        if relay != self.target.relay:
            self.relays.suspect(relay)

    def learn(self, c: Circuit) -> None:
        """Round trips."""
        self.relays.learn(c)

    def hurry(self) -> None:
        """The directory may be out of date."""
        self.relays.hurry()


class Covert:
    """The machine of covert audits: make it before any thread is started (it forks), use it for any number."""

    def __init__(self, settings: ClientSettings, web: Web | None = None) -> None:
        socks = listen(0)
        self.port = int(socks.getsockname()[1])
        self.cell = Cell(settings, socks, None)
        socks.close()
        self.browser = Browser(self.port)
        self.web = web
        self.tunnel: Tunnel | None = None

    def audit(
        self, target: Descriptor, relays: Chooser, source: TicketSource, url: str, pages: Sequence[Page],
        linger: float = 0.0, stopped: Callable[[], bool] = lambda: False,
    ) -> Delivery:  # fmt: skip
        """One session through `target`. Never raises for what relays do; `known` is false where it says nothing."""
        assert self.web is not None
        d = Delivery(target.relay)
        through = Through(relays, target)
        self.browser.rest()
        if self.tunnel is None:
            self.tunnel = Tunnel(source)
        tunnel = self.tunnel
        tunnel.source = source

        def renewed() -> None:
            self.cell.readdress(tunnel.inner_v4, tunnel.inner_v6)

        steering = Steering(tunnel, through, lambda state, reason: None, renewed, give_up=GIVE_UP_SECONDS)
        began = time.monotonic()
        try:
            steering.begin(lambda: stopped() or through.stop)
            c = tunnel.circuit
            if through.stop or c is None or not c.resumed:
                raise Lost("the relay lets no circuit through" if through.stop else "stopped")
            d.wanted = sum(sum(page.sizes) for page in pages)
            d.path = [h.descriptor.relay.hex() for h in c.hops]
            self.cell.carry(tunnel.mtu, tunnel.inner_v4, tunnel.inner_v6)
            tunnel.attach(os.dup(self.cell.tun))
            self._open(url, pages)
            held = self._carry(tunnel, steering, linger, lambda: stopped() or tunnel.circuit is not c)
            d.known = (held or through.blamed > 0) and not stopped()
            d.why = self.browser.why if held else "the circuit broke"
            rtt = c.health.rtt
            d.rtt_ms = int(rtt[-1].smooth * 1000) if rtt else 0
        except (Lost, NoPath, OSError, RuntimeError) as e:
            d.why = str(e)
        finally:
            self._end(tunnel)
        self._judge(d)
        d.blamed, d.seconds = through.blamed, time.monotonic() - began
        if through.stop and not d.path:
            d.known, d.wanted = True, sum(sum(page.sizes) for page in pages)
        d.known = d.known and (through.stop or target.relay.hex() in d.path[1:])
        return d

    def _open(self, url: str, pages: Sequence[Page]) -> None:
        """Have the browser visit pages of our own web server."""
        assert self.web is not None
        host, _, port = url.removeprefix("http://").rpartition(":")
        visits = [Visit(tuple(self.web.page(size) for size in page.sizes), page.pause) for page in pages]
        self.browser.open(host, int(port), visits)

    def _carry(self, tunnel: Tunnel, steering: Steering, linger: float, over: Callable[[], bool]) -> bool:
        """Until all is fetched; False when it was `over` before: what another circuit brings is not the relay's.

        A thread waits for the browser and says when to stop, as somebody does who ends `bw proxy`: the last turn ends
        with a packet or a time-out of the tunnel's, as a buyer's, and not with ours.
        """
        ended = threading.Event()

        def wait() -> None:
            self.browser.poll(SESSION_SECONDS)
            time.sleep(linger)
            ended.set()

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        held = True
        try:
            while not ended.is_set():
                tunnel.step(steering.timeout_ms)
                steering.turn()
                if held and over():
                    self.browser.halt()
                    held = False
        finally:
            if not ended.is_set():
                self.browser.halt()
            waiting.join()
        return held

    def _judge(self, d: Delivery) -> None:
        """What the browser got, once the session is over: to compare it meanwhile would hold up the tunnel."""
        assert self.web is not None
        for got in self.browser.got:
            body = self.web.content(got.path[1:])
            if body is None or hashlib.sha256(body).hexdigest() != got.digest:
                d.wrong += got.size
            elif got.seconds > OBJECT_SECONDS + got.size * 8 / LEAST_KBPS / 1000:
                d.late += got.size
            else:
                d.right += got.size
                d.kbps = max(d.kbps, int(got.size * 8 / max(got.seconds, 1e-3) / 1000))
        self.web.forget()

    def _end(self, tunnel: Tunnel) -> None:
        """Settle as a client does that is shut down, and forget who we were."""
        tunnel.endpoints_changed = lambda: None
        tunnel.hold(True)
        tunnel.detach()
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until and not all(c.settled or c.error for c in tunnel._circuits.values()):
            tunnel.step(20)
        tunnel.move()
        tunnel.hold(False)

    def close(self) -> None:
        """End the namespace and the browser."""
        self.browser.close()
        if self.tunnel is not None:
            self.tunnel.close(patience=0.5)
        self.cell.close()
