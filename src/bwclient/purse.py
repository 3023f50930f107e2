"""A stock of tickets for one run: bought before the tunnel comes up, refilled by a thread while it runs.

Refills come at random times, some while before they are needed: a gateway that sees when tickets are bought must not
be able to tell from it when, or how much, their buyer uses. What circuits that ended did not use up is fetched back
likewise: a large ticket that was hardly begun is most of its price.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .budget import Budget
from .chain import ChainError
from .meter import NoTicket, TicketLike
from .oprf import BadElement, BadProof
from .settings import Settings
from .tickets import Ticket
from .vault import VaultError, load_key
from .wallet import Wallet, WalletError

BIG, SMALL = 1024, 64
REFILL_SECONDS = 20.0  # a refill waits a random time up to this while stock is left
RETRY_SECONDS = 2.0  # after a purchase that failed
URGENT_SHARE = 6  # with less than 1/URGENT_SHARE of the stock left a refill does not wait
SOON_SHARE = 3  # of the stock is bought then, while there are refunds to ask for
RECLAIM_SECONDS = 60.0  # and tickets of circuits that ended up to this before they are asked about
_REFUSALS = (WalletError, ChainError, BadProof, BadElement, OSError)


class PurseError(NoTicket):
    """No ticket can be had: the wallet, the gateway or the spend limit says no; the text says which."""


def open_wallet(settings: Settings) -> Wallet:
    """The wallet that the settings name. Raises PurseError."""
    try:
        return Wallet(
            load_key(settings.wallet_key_file, settings.passphrase_file), settings.gateway.url, settings.rpc_url,
            Path(settings.state_dir) / "tickets", bytes.fromhex(settings.gateway.key),
        )  # fmt: skip
    except (*_REFUSALS, VaultError) as e:
        raise PurseError(str(e)) from e


class Purse:
    """Hands out tickets (`take`, `take_small`); holds `stock_units` in each region, and buys within the spend limits:
    of the run, the hour and the day."""

    def __init__(self, settings: Settings, small_wanted: int = 12, small_least: int = 0):
        """`small_wanted`: small tickets that a stock begins with; with fewer than `small_least` left they are filled
        up, however many units the large ones have."""
        self.settings, self.small_wanted, self.small_least = settings, small_wanted, small_least
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._stock: dict[int, deque[Ticket]] = {region: deque() for region in settings.all_regions}
        self._ended: deque[Ticket] = deque()  # of circuits that are no more
        self._closing = False
        self._error = ""
        self._money = threading.Lock()  # one purchase or refund at a time
        self._low = self._urgent = False
        self.bought_units = 0
        self.reclaimed_units = 0
        self.taken_units = 0
        self.budget = Budget(
            Path(settings.state_dir) / "spent.json", settings.spend_limit_hour_units, settings.spend_limit_day_units
        )
        self.wallet = open_wallet(settings)
        self._thread: threading.Thread | None = None

    def stock_up(self, wait: bool = True) -> None:
        """Have tickets at hand and keep the stock filled. What earlier runs left over comes first: where that will do
        for a path and its spare, nothing is waited for, and a gateway or chain that can't be reached just now is no
        reason not to start. Otherwise some are bought. What earlier runs' circuits did not use up is asked for later, a
        request each, or now where nothing could be bought. Raises PurseError when there are no tickets at all. Without
        `wait` it never raises, and all of that is the thread's: until it is through, `take` may."""
        store = self.wallet.store
        store.tidy()
        for region, stock in self._stock.items():
            stock.extend(sorted(store.unspent(region), key=lambda t: -t.units))
            self._ended.extend(store.handed_out(region))
        least = self._part(URGENT_SHARE)
        self._low, self._urgent = True, any(sum(t.units for t in stock) < least for stock in self._stock.values())
        if wait and any(len(stock) < 2 * self.settings.hops for stock in self._stock.values()):
            try:
                self._buy_soon()
                self._low, self._urgent = bool(self._ended), False
            except PurseError as e:
                if not all(self._stock.values()):
                    self.reclaim()
                    self._ended = deque(t for region in self._stock for t in store.handed_out(region))
                if not all(self._stock.values()):
                    raise
                self._error = str(e)
        self._thread = threading.Thread(target=self._refill, name="purse", daemon=True)
        self._thread.start()

    def _part(self, share: int) -> int:
        """Units: one `share`th of the stock, in whole small tickets."""
        return -(-self.settings.stock_units // (share * SMALL)) * SMALL

    @property
    def spent_up(self) -> bool:
        """Whether it is a spend limit that keeps it from buying: no waiting helps then."""
        return min(self.settings.spend_limit_units - self.bought_units, self.budget.left()) < SMALL

    # -- buying ----------------------------------------------------------------------

    def reclaim(self) -> int:
        """Units had back for the rests of tickets that are through. Only while no circuit stands."""
        units = 0
        with self._money:
            for region, stock in self._stock.items():
                try:
                    gained = self.wallet.reclaim(region)
                except _REFUSALS as e:
                    self._error = f"refund: {e}"
                    continue
                units += sum(t.units for t in gained)
                with self._lock:
                    stock.extend(gained)
        return units

    def _buy(self) -> None:
        """Fill each region's stock. Raises PurseError."""
        with self._money:
            self._buy_all(self.settings.stock_units, 3)

    def _buy_soon(self) -> None:
        """Tickets are needed now: all that are to be held, or a part while refunds may yet bring some of the rest."""
        if not self._ended:
            return self._buy()
        with self._money:
            self._buy_all(self._part(SOON_SHARE), 0)

    def _buy_all(self, up_to: int, large: int) -> None:
        """Fill each region's stock up to so many units, `large` large tickets before small ones. Raises PurseError."""
        for region, stock in self._stock.items():
            with self._lock:
                have, held, small = sum(t.units for t in stock), len(stock), _small(stock)
            lacking = (self.small_wanted - small) * SMALL if small < self.small_least else 0
            want = max(up_to - have, (self.settings.hops - held) * SMALL, lacking)
            if want < SMALL:
                continue
            allowed = min(want, self.settings.spend_limit_units - self.bought_units, self.budget.left())
            if allowed < SMALL:
                if not have:
                    raise PurseError(self.why_not())
                continue
            big, few = split(allowed, small, self.small_wanted, 0 if lacking else large)
            for size, count in ((BIG, big), (SMALL, few)):
                if count:
                    self._buy_some(region, size, count)

    def why_not(self) -> str:
        """Which spend limit holds."""
        if self.settings.spend_limit_units - self.bought_units < SMALL:
            return f"spend limit of {self.settings.spend_limit_units} units per run is used up; raise spend_limit_units"
        return self.budget.why()

    def _buy_some(self, region: int, size: int, count: int) -> None:
        s = self.settings
        self.budget.note(size * count)
        try:
            tickets = self.wallet.buy(region, size, count, int(s.slippage_pct * 100), int(s.max_impact_pct * 100))
        except _REFUSALS as e:
            if not self.wallet.store.pending():
                self.budget.note(-size * count)
            raise PurseError(str(e)) from e
        with self._lock:
            self._stock[region].extend(tickets)
            self.bought_units += size * count
            self._error = ""

    def _refill(self) -> None:
        asked_at = -RECLAIM_SECONDS
        while True:
            with self._wake:
                if not self._low and not self._closing:
                    self._wake.wait(secrets.randbelow(int(RECLAIM_SECONDS * 1000)) / 1000)
                if self._low and not self._urgent and not self._closing:
                    self._wake.wait(secrets.randbelow(int(REFILL_SECONDS * 1000)) / 1000)
                if self._closing:
                    return
                urgent, self._low, self._urgent = self._urgent, False, False
            try:
                try:
                    if urgent:
                        self._buy_soon()
                except PurseError:  # refunds are all that may come then; the purchase is tried far more often
                    if time.monotonic() - asked_at > RECLAIM_SECONDS:
                        asked_at = time.monotonic()
                        self._reclaim(to_the_end=True)
                    raise
                self._reclaim()
                if self._is_low():
                    self._buy()
            except PurseError as e:
                with self._wake:
                    self._error = str(e)
                    if not self._closing:
                        self._wake.wait(RETRY_SECONDS)
                    self._low = self._urgent = True

    def _is_low(self) -> bool:
        with self._lock:
            return any(map(self._is_short, self._stock.values()))

    def _is_short(self, stock: Iterable[Ticket]) -> bool:
        units = [t.units for t in stock]
        return sum(units) * 2 < self.settings.stock_units or units.count(SMALL) < self.small_least

    def _reclaim(self, to_the_end: bool = False) -> None:
        """Fetch back what is left of ended circuits' tickets: all, or until some must be bought. Raises PurseError."""
        for _ in range(len(self._ended)):
            if self._closing or (self._urgent and not to_the_end):
                return
            ticket = self._ended.popleft()
            try:
                with self._money:
                    gained = self.wallet.reclaim_one(ticket)
            except _REFUSALS as e:
                self._ended.append(ticket)
                raise PurseError(f"refund: {e}") from e
            if gained is None:
                self._ended.append(ticket)  # the relay is not through with it
                continue
            with self._lock:
                self._stock[ticket.region].extend(gained)
                self.reclaimed_units += sum(t.units for t in gained)

    def give_back(self, ticket: TicketLike) -> None:
        """A circuit ended that had this ticket of ours."""
        assert isinstance(ticket, Ticket)
        self._ended.append(ticket)

    # -- handing out -----------------------------------------------------------------

    def take(self, region: int) -> Ticket:
        """A large ticket of the region while there are any. Raises PurseError when none is left."""
        return self._take(region, BIG)

    def take_small(self, region: int) -> Ticket:
        """A small ticket of the region while there are any. Raises PurseError when none is left."""
        return self._take(region, SMALL)

    def _take(self, region: int, units: int) -> Ticket:
        if region not in self._stock:
            raise PurseError(f"no tickets for region {region}: this purse buys for regions {list(self._stock)}")
        with self._lock:
            stock = self._stock[region]
            if not stock:
                waiting = "no ticket is left until more are bought"
                raise PurseError(self._error or (self.why_not() if self.spent_up else waiting))
            ticket = next((t for t in stock if t.units == units), stock[0])
            stock.remove(ticket)
            self.taken_units += ticket.units
            left, small = sum(t.units for t in stock), _small(stock)
            if self._is_short(stock):
                few = small * URGENT_SHARE < self.small_wanted and small < self.small_least
                self._low, self._urgent = True, few or left * URGENT_SHARE < self.settings.stock_units
                self._wake.notify()
        return self.wallet.store.take(ticket)

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {
                "stock_units": sum(t.units for stock in self._stock.values() for t in stock),
                "bought_units": self.bought_units, "taken_units": self.taken_units,
                "reclaimed_units": self.reclaimed_units,
                "hour_units": self.budget.within(3600), "day_units": self.budget.within(86_400), "error": self._error,
            }  # fmt: skip

    def close(self) -> None:
        """Stop buying. Unused tickets stay in the wallet's store for the next run."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=3)  # an issue under way is journalled: the next run finishes it


def _small(stock: Iterable[Ticket]) -> int:
    return sum(t.units == SMALL for t in stock)


def split(units: int, small_held: int, small_wanted: int = 12, keep: int = 3) -> tuple[int, int]:
    """(large, small) tickets for `units`: enough small ones for the starts of circuits, though no fewer than `keep`
    large ones are left whole for it; the rest large."""
    big, rest = divmod(units, BIG)
    few = rest // SMALL
    broken = min(max(0, big - keep), max(0, -(-(small_wanted - small_held - few) * SMALL // BIG)))
    return big - broken, few + broken * (BIG // SMALL)
