"""What must hold at every moment of a soak, and at its end. A breach is a line that names it and the moment."""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import requests
from nacl.signing import SigningKey

from bwclient.wallet import Wallet
from bwgateway.signed import message
from tests.gateway.rig import opening
from tests.lab.capture import clear_headers
from tests.lab.chain import ChainError
from tests.lab.checks import UNIT_WEI
from tests.lab.net import inside
from tests.lab.pool import REGION, Refused, Router, read_json
from tests.soak.keeper import Keeper, Sample
from tests.soak.town import Town

LEDGER = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128", "uint128"]
PHI_LEFT = (9, 10)  # of a price, what relays get: contracts/src/Parameters.sol, PHI_BPS
STEADY_S = 90.0  # a process that is younger is still growing
GROWTH, ROOM_KB = 1.25, 12_000
ROOM_FDS = 24  # connections while the chain stands still and many wait for their answers
LATENCY_P95_MS = 3000.0
LEAST_FETCHES = 100  # before that a percentile says little
GAP_MOST_S = 60.0  # without a tunnel, and without a file that came
# Units that may be redeemed without the payer's having told of them, or paid and never redeemed, by the kind of process that
# was killed. A relay loses at most the unit of each circuit that it had not told its agent; a client has paid since its last
# status: about a second of its traffic at each hop; a verifier has paid for one audit: some bursts at three hops each.
LOST = {"kill relay": 24, "kill agent": 24, "kill client": 24, "flash full": 24, "kill verifier": 250}
LOST_SHARE, LOST_ALWAYS = 0.02, 24
BROKEN = (
    ("a ticket with more units used or refunded than it has",
     "select count(*) from tickets where index + refunded > units or index < 0 or refunded < 0"),
    ("an account that had more tickets than deposit", "select count(*) from accounts where issued > deposited"),
    ("relays credited with other units than tickets show",
     "select count(*) from (select (select coalesce(sum(units),0) from relays) a,"
     " (select coalesce(sum(index),0) from tickets) b) x where a <> b"),
    ("more units opened than issued",
     "select count(*) from (select (select coalesce(sum(units-refunded),0) from tickets) a,"
     " (select coalesce(sum(issued),0) from accounts) b) x where a > b"),
    ("more settled than redeemed", "select count(*) from relays where settled > units"),
)  # fmt: skip


class Watchman:
    """Looks every few seconds; `breaches` has what did not hold."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.breaches: list[str] = []
        self._known: set[str] = set()
        self.looks = self.blind = 0
        self.shut = True  # buyers' kill switches are closed
        self.units: dict[bytes, int] = {}
        self.paid_now: dict[tuple[str, int], int] = {}
        self.without: dict[str, float] = {}  # buyers that have no tunnel, and since when
        self.began = time.monotonic()
        self.record: Callable[[int], None] = lambda number: None  # told of each breach, to keep what things look like

    def breach(self, text: str, about: str = "") -> None:
        """Note it once; `about`: what it is of, where the text has numbers that change."""
        if (about or text) in self._known:
            return
        self._known.add(about or text)
        line = f"{time.monotonic() - self.began:.0f} s: {text}"
        self.breaches.append(line)
        print(f"soak: BREACH {line}", flush=True)
        self.record(len(self.breaches))

    def look(self) -> None:
        """One round over everything that can be asked now."""
        self.looks += 1
        try:
            self.ledger()
            self.chain()
        except (psycopg.Error, requests.RequestException, ChainError, Refused, OSError):
            self.blind += 1  # the database or the chain is under a fault
        if self.shut:
            self.links()
        self.paid()
        for keeper in self.town.keepers.values():
            keeper.sample()
        self.flat()
        self.felt()
        for name in self.town.buyers:
            if wrong := self.town.traffic(name).get("wrong", 0):
                self.breach(f"{name} got {wrong} files that are not what was sent", f"{name} wrong")

    # -- money -------------------------------------------------------------------------------------------------

    def ledger(self) -> None:
        for what, sql in BROKEN:
            if count := int(self.town.query(sql)[0][0]):
                self.breach(f"ledger: {what} ({count})", what)
        rows = self.town.query("select relay, sum(units) from relays group by relay")
        for relay, units in rows:
            if int(units) < self.units.get(relay, 0):
                self.breach(f"ledger: {bytes(relay).hex()[:8]} has {units} units and had {self.units[relay]}")
            self.units[relay] = int(units)

    def chain(self) -> None:
        info = self.town.info
        with inside(self.town.gateway.ns):
            args = [info["account"], REGION]
            settlement = info["contracts"]["settlement"]
            ledger = self.town.chain.call(settlement, "ledger(address,uint16)", args, LEDGER)
        deposited = int(self.town.query("select coalesce(sum(deposited),0) from accounts")[0][0]) * UNIT_WEI
        self.promises(max(int(ledger[5]), int(ledger[6])), int(ledger[7]), deposited)

    def promises(self, root: int, spent: int, deposited: int) -> None:
        """Of wei: what a root says that relays earned, what vouchers released for it, what buyers deposited."""
        if root * PHI_LEFT[1] > spent * PHI_LEFT[0]:
            self.breach(f"chain: a root of {root} wei above what vouchers released, {spent}", "root")
        if spent > deposited:
            self.breach(f"chain: vouchers released {spent} wei of {deposited} deposited", "vouchers")

    def paid(self) -> None:
        """Units that clients and verifiers say they paid, over all their lives."""
        for name in self.town.buyers:
            status = self.town.tunnel(name)
            if "paid" in status:
                self.paid_now[name, int(status["pid"])] = sum(int(v) for v in status["paid"].values())
        for name, verifier in self.town.verifiers.items():
            status = verifier.status()
            if "paid_units" in status:
                self.paid_now[name, int(status["pid"])] = int(status["paid_units"])

    def paid_units(self) -> int:
        return sum(self.paid_now.values())

    def redeemed(self, paid: int, redeemed: int, done: Mapping[str, int]) -> None:
        """At the end: what was paid is what was redeemed, but for what kills may lose. `done`: faults by kind."""
        allowed = LOST_SHARE * paid + LOST_ALWAYS + sum(LOST.get(kind, 0) * n for kind, n in done.items())
        if abs(paid - redeemed) > allowed:
            self.breach(f"money: {paid} units paid, {redeemed} redeemed, {allowed:.0f} allowed")

    # -- buyers ------------------------------------------------------------------------------------------------

    def tunnels(self, now: float) -> None:
        """No buyer is without a tunnel for long; asked twice a second. `now`: monotonic seconds."""
        for name in self.town.buyers:
            if self.town.tunnel_up(name):
                self.without.pop(name, None)
            elif (gone := now - self.without.setdefault(name, now)) > GAP_MOST_S:
                self.breach(f"{name} is without a tunnel for {gone:.0f} s", f"{name} tunnel")

    def felt(self) -> None:
        """First bytes come in time, and files come at all."""
        felt = latency(self.town)
        if felt["count"] >= LEAST_FETCHES and felt["p95_ms"] > LATENCY_P95_MS:
            self.breach(f"latency: p95 of the first byte {felt['p95_ms']:.0f} ms", "p95")
        if felt["longest_gap_s"] > GAP_MOST_S:
            self.breach(f"latency: a buyer had nothing for {felt['longest_gap_s']:.0f} s", "gap")

    # -- leaks, memory -----------------------------------------------------------------------------------------

    def links(self) -> None:
        server = self.town.lab.nodes["web"].v4
        for name in self.town.buyers:
            report = read_json(self.town.report(name))
            if report and clear_headers(report, server, []):
                self.breach(f"leak: the web server shows on the link of {name}")

    def controls(self) -> int:
        """How often the web server's own link showed it: what a leak would look like."""
        report = read_json(self.town.report("web"))
        return clear_headers(report, self.town.lab.nodes["web"].v4, []) if report else 0

    def flat(self) -> None:
        """Memory and descriptors of every process do not grow."""
        for line in self.growth()[1]:
            self.breach(f"not flat: {line}", line.split(":", 1)[0])

    def growth(self) -> tuple[dict[str, float], list[str]]:
        """Worst growth of memory by kind of process (ratio of the last third over the middle one), and what is not flat."""
        worst: dict[str, float] = {}
        steep: list[str] = []
        for keeper in self.town.keepers.values():
            for life in [*keeper.history, keeper.samples]:
                for ratio, line in grown(keeper, life):
                    worst[keeper.kind] = max(worst.get(keeper.kind, 0.0), round(ratio, 3))
                    steep += [line] if line else []
        return worst, steep


def grown(keeper: Keeper, life: list[Sample]) -> list[tuple[float, str]]:
    """Of one process: the ratio, and a line when memory or descriptors are not flat."""
    seconds = life[-1].at - life[0].at if life else 0.0
    if not keeper.flat or len(life) < 9 or seconds < STEADY_S:
        return []
    third = len(life) // 3
    middle, last = life[third : 2 * third], life[2 * third :]
    (before, fds, open_), (after, fds_after, open_after) = (
        [statistics.median(s[i] for s in part) for i in (1, 2, 3)] for part in (middle, last)
    )
    line = ""
    if after > before * GROWTH and after - before > ROOM_KB:
        line = f"memory of {keeper.name}: {before:.0f} to {after:.0f} kB in {seconds:.0f} s"
    if open_after > open_ + ROOM_FDS + keeper.peers:
        line = f"connections of {keeper.name}: {open_:.0f} to {open_after:.0f}"
    if fds_after > fds + ROOM_FDS:
        line = f"descriptors of {keeper.name}: {fds:.0f} to {fds_after:.0f}"
    return [(after / before, line)]


class Thief:
    """Buys tickets honestly and has two routers open each at two gateways in the same moment."""

    def __init__(self, town: Town, watchman: Watchman, folder: Path) -> None:
        self.town, self.watchman = town, watchman
        self.tries = self.won = 0
        self.owner: dict[bytes, str] = {}
        with inside(town.gateway.ns):
            wallet = Wallet(bytes.fromhex(town.thief_key[2:]), town.urls[0], town.chain.url, folder)
            self.tickets = wallet.buy(REGION, 64, 60)

    def steal(self, chance: Any) -> None:
        """One ticket, two relays, any two gateways; an old ticket every second time."""
        old = [t for t in self.tickets if t.id in self.owner]
        fresh = [t for t in self.tickets if t.id not in self.owner]
        pool = old if old and (self.tries % 2 or not fresh) else fresh
        if not pool:
            return
        ticket = chance.choice(pool)
        routers: list[Router] = chance.sample(sorted(self.town.routers.values(), key=lambda r: r.id), 2)
        answers: list[tuple[str, bool, str]] = []
        threads = [
            threading.Thread(target=self._open, args=(r, url, ticket, answers), daemon=True)
            for r, url in zip(routers, chance.choices(self.town.urls, k=2))
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join(12)
        self.tries += 1
        winners = {relay for relay, ok, _ in answers if ok}
        if len(winners) > 1:
            self.watchman.breach(f"double spend: ticket {ticket.id.hex()[:8]} opened by {len(winners)} relays")
        for relay in winners:
            if self.owner.setdefault(ticket.id, relay) != relay:
                self.watchman.breach(f"double spend: ticket {ticket.id.hex()[:8]} has changed its owner")
            self.won += 1

    def _open(self, router: Router, url: str, ticket: Any, answers: list[tuple[str, bool, str]]) -> None:
        key = SigningKey(bytes.fromhex((router.state_dir / "identity.key").read_text().strip()))
        body: dict[str, Any] = {"relay": router.id, "time": int(time.time()), "nonce": secrets.token_hex(16)}
        body["tickets"] = [opening(ticket)]
        body["sig"] = key.sign(message("/v1/open", body)).signature.hex()
        with suppress(requests.RequestException, ValueError, KeyError), inside(self.town.gateway.ns):
            with requests.Session() as session:
                session.trust_env = False
                result = session.post(url + "/v1/open", json=body, timeout=10).json()["results"][0]
                answers.append((router.id, bool(result["ok"]), str(result.get("code", ""))))


def latency(town: Town) -> dict[str, float]:
    """Milliseconds to the first byte over all buyers' fetches, and the longest time that one had nothing."""
    told = [town.traffic(name) for name in town.buyers]
    every = sorted(ms for t in told for ms in t.get("first_ms", []))
    gap = max((float(t.get("longest_gap_s", 0.0)) for t in told), default=0.0)
    at = {f"p{p}_ms": every[min(len(every) - 1, len(every) * p // 100)] if every else 0.0 for p in (50, 95, 99)}
    return at | {"longest_gap_s": round(gap, 1), "count": len(every)}
