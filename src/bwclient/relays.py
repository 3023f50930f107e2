"""The relays that this client knows: the verified directory, what the gateway and the chain say of them, and what the
client's own circuits have measured. A thread keeps it fresh, so that a path can be chosen without waiting."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import requests

from bwrouter.wire.descriptor import Descriptor

from . import directory
from .circuit import Circuit
from .files import read_json, write_json
from .guards import Guards
from .path import Known, PathError, Wish, choose, weight
from .reach import OWN
from .settings import Settings

REFRESH_SECONDS = 120.0
RETRY_SECONDS = 10.0  # after a refresh that failed
AVOID_SECONDS = 60.0  # a relay that let a circuit down is left out for so long
RECENT_SECONDS = 5.0  # and is not even tried for a spare path that shares no hop, before so long has passed
_FADE_SECONDS = 600.0  # a failure weighs half after so long
_OWNERS_MOST = 400  # relays whose owners are asked for in one refresh


class Relays:
    """Descriptors, facts, guards. `choose` gives a path."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        state = Path(settings.state_dir)
        self.guards = Guards(state / "guards.json", settings.guards)
        self._file, self._owner_file = state / "measured.json", state / "owners.json"
        self._known = state / "directory.bin"
        self.measured: dict[str, dict[str, float]] = read_json(self._file)
        self.owners: dict[str, str] = read_json(self._owner_file)
        self.listed: list[Descriptor] = []
        self.refused: dict[str, int] = {}
        self._told: Mapping[bytes, directory.Facts] = {}
        self._avoid: dict[bytes, tuple[float, float]] = {}  # since when, until when
        self._session = OWN.session()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.error = ""

    # -- keeping it fresh ------------------------------------------------------------

    def refresh(self) -> None:
        """Fetch the directory now, and owners not known yet. Raises DirectoryError."""
        s = self.settings
        self._learn_of(directory.fetch(s.gateway.url, bytes.fromhex(s.gateway.key), state=self._known))
        if s.diversity == "strict":
            self._ask_owners()

    def begin(self) -> None:
        """The directory for the first time; as an earlier run left it when it can't be fetched now: that is tried again
        soon. Raises DirectoryError when nothing is known."""
        try:
            self.refresh()
        except directory.DirectoryError as e:
            found = directory.recall(bytes.fromhex(self.settings.gateway.key), self._known)
            if not found.relays:
                raise
            self._learn_of(found)
            self.error = str(e)

    def _learn_of(self, found: directory.Directory) -> None:
        self._told = found.facts
        self.listed, self.refused = found.relays, found.refused

    def _ask_owners(self) -> None:
        """Of every relay, in random order, so that the question tells nobody which of them will be used."""
        unknown = [d.relay.hex() for d in self.listed if d.relay.hex() not in self.owners]
        secrets.SystemRandom().shuffle(unknown)
        for relay in unknown[:_OWNERS_MOST]:
            try:
                answer = self._session.get(f"{self.settings.gateway.url}/v1/stake/{relay}", timeout=5)
                self.owners[relay] = str(answer.json().get("owner") or "") if answer.status_code == 200 else ""
            except (requests.RequestException, ValueError):
                return  # another time
        if unknown:
            write_json(self._owner_file, self.owners)

    def start(self) -> None:
        """Keep it fresh in the background."""
        self._thread = threading.Thread(target=self._keep, name="relays", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._closing:
            every = RETRY_SECONDS if self.error else REFRESH_SECONDS
            self._wake.wait(every * (0.75 + secrets.randbelow(500) / 1000))
            self._wake.clear()
            if self._closing:
                return
            try:
                self.refresh()
                self.error = ""
            except directory.DirectoryError as e:
                self.error = str(e)

    def hurry(self) -> None:
        """Refresh soon: no path could be had with what is known."""
        self._wake.set()

    def close(self) -> None:
        """Stop, and keep what was measured."""
        self._closing = True
        self._wake.set()
        if self.measured:
            write_json(self._file, self.measured)

    # -- what is known -----------------------------------------------------------------

    def facts(self) -> dict[bytes, Known]:
        """Everything known of the relays listed."""
        now = time.time()
        found = {}
        for d in self.listed:
            own = self.measured.get(d.relay.hex(), {})
            told = self._told.get(d.relay)
            fade = 0.5 ** ((now - own.get("failed_at", 0.0)) / _FADE_SECONDS)
            found[d.relay] = Known(
                told.score if told and told.audited_kbps else 10_000, told.audited_kbps if told else 0,
                told.stake_bwt if told else 0, self.owners.get(d.relay.hex(), ""), own.get("rtt_ms", 0.0),
                own.get("failures", 0.0) * fade,
            )  # fmt: skip
        return found

    def blame(self, relay: bytes) -> None:
        """A relay let a circuit down: it is left out for a while, and weighs less for longer."""
        now = time.time()
        own = self.measured.setdefault(relay.hex(), {})
        fade = 0.5 ** ((now - own.get("failed_at", 0.0)) / _FADE_SECONDS)
        own["failures"], own["failed_at"] = own.get("failures", 0.0) * fade + 1, now
        self._shun(relay, AVOID_SECONDS)

    def absolve(self, relay: bytes) -> None:
        """A relay that was blamed speaks after all: its last failure was none."""
        own = self.measured.get(relay.hex(), {})
        if own.get("failures"):
            own["failures"] = max(0.0, own["failures"] - 1)
        self._avoid.pop(relay, None)

    def suspect(self, relay: bytes) -> None:
        """A relay stood behind one that fell silent, so that nobody knows how it is: left out for a short while."""
        self._shun(relay, RECENT_SECONDS)

    def _shun(self, relay: bytes, seconds: float) -> None:
        now = time.monotonic()
        self._avoid[relay] = now, max(self._avoid.get(relay, (0.0, 0.0))[1], now + seconds)

    def learn(self, c: Circuit) -> None:
        """Take over a circuit's round trips: each hop's from the hop before it."""
        before = 0.0
        for hop, rtt in zip(c.hops, c.health.rtt, strict=True):
            if not rtt.least:
                return
            sample = max(0.1, (rtt.least - before) * 1000)
            before = rtt.least
            own = self.measured.setdefault(hop.descriptor.relay.hex(), {})
            own["rtt_ms"] = sample if "rtt_ms" not in own else own["rtt_ms"] * 0.8 + sample * 0.2

    # -- paths -------------------------------------------------------------------------

    def wish(self) -> Wish:
        """What the settings ask of a path."""
        s = self.settings
        return Wish(s.hops, s.all_regions, s.exit_region, s.profile, s.diversity)

    def choose(self, last: bytes | None = None, apart: frozenset[bytes] = frozenset()) -> list[Descriptor]:
        """A path; see path.choose. What let us down lately is left out while there is anything else: first what did not
        do so in the last RECENT_SECONDS is used again, then relays of `apart`, at last all. Raises PathError."""
        facts, wish = self.facts(), self.wish()
        now = time.monotonic()
        self._avoid = {relay: times for relay, times in self._avoid.items() if times[1] > now}
        avoid = sorted((r for r in self._avoid if r != last), key=self._avoid.__getitem__)
        old = sum(now - self._avoid[r][0] >= RECENT_SECONDS for r in avoid)
        here = [d for d in self.listed if d.region in wish.regions and not d.anchored]
        guards = self.guards.ids(here, lambda d: weight(d, facts[d.relay], wish.profile), wish.diversity)
        # What failed longest ago is tried again before there is no path at all.
        plans = [(avoid[i:], True) for i in range(old + 1)] if apart else []
        plans += [(avoid[i:], False) for i in range(len(avoid) + 1)]
        for i, (left_out, only_apart) in enumerate(plans):
            first = [g for g in guards if g not in left_out and g not in apart]
            try:
                return choose(
                    self.listed, wish.hops, avoid=frozenset(left_out), last=last, wish=wish, facts=facts,
                    guards=first[:1] or guards, apart=apart, only_apart=only_apart,
                )  # fmt: skip
            except PathError:
                if i == len(plans) - 1:
                    raise
        raise AssertionError("the last plan returns or raises")
