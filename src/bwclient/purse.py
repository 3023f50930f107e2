"""A stock of tickets for one run: bought before the tunnel comes up, refilled by a thread while it runs."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Any

from .chain import ChainError
from .oprf import BadElement, BadProof
from .settings import Settings
from .tickets import Ticket
from .wallet import Wallet, WalletError

BIG, SMALL = 1024, 64
_REFUSALS = (WalletError, ChainError, BadProof, BadElement, OSError)


class PurseError(RuntimeError):
    """No ticket can be had: the wallet, the gateway or the spend limit says no; the text says which."""


def _key(path: str) -> bytes:
    """The buyer's secp256k1 key, 32 bytes in hex. Raises PurseError."""
    try:
        key = bytes.fromhex(Path(path).read_text().strip().removeprefix("0x"))
    except (OSError, ValueError) as e:
        raise PurseError(f"wallet key {path} cannot be read: {e}") from e
    if len(key) != 32:
        raise PurseError(f"wallet key {path} has {len(key)} bytes, it wants 32 in hex")
    return key


class Purse:
    """Hands out tickets (`take`); never holds more than `stock_units`, never buys more than `spend_limit_units`."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._stock: deque[Ticket] = deque()
        self._closing = False
        self._error = ""
        self._busy = False
        self.bought_units = 0
        self.taken_units = 0
        try:
            self.wallet = Wallet(
                _key(settings.wallet_key_file), settings.gateway.url, settings.rpc_url,
                Path(settings.state_dir) / "tickets", bytes.fromhex(settings.gateway.key),
            )  # fmt: skip
        except _REFUSALS as e:
            raise PurseError(str(e)) from e
        self._thread: threading.Thread | None = None

    def stock_up(self) -> None:
        """Fill the stock now, with what earlier runs left over first; then keep it filled. Raises PurseError."""
        try:
            self.wallet.reclaim(self.settings.region)
        except _REFUSALS as e:  # no reason not to go on: it is asked for again at the next start
            self._error = f"refund: {e}"
        self._stock.extend(self.wallet.store.unspent(self.settings.region))
        self._buy()
        self._thread = threading.Thread(target=self._refill, name="purse", daemon=True)
        self._thread.start()

    def _buy(self) -> None:
        s = self.settings
        have = sum(t.units for t in self._stock)
        want = min(s.stock_units - have, s.spend_limit_units - self.bought_units)
        for size in (BIG, SMALL):
            count = want // size if size == SMALL or want >= size else 0
            if count <= 0:
                continue
            try:
                tickets = self.wallet.buy(s.region, size, count, int(s.slippage_pct * 100))
            except _REFUSALS as e:
                raise PurseError(str(e)) from e
            with self._lock:
                self._stock.extend(tickets)
                self.bought_units += size * count
            want -= size * count

    def _refill(self) -> None:
        while True:
            with self._wake:
                self._wake.wait()
                if self._closing:
                    return
            try:
                self._buy()
            except PurseError as e:
                with self._lock:
                    self._error = str(e)

    def take(self, region: int) -> Ticket:
        """The next ticket of the region, the large ones first. Raises PurseError when none is left."""
        if region != self.settings.region:
            raise PurseError(f"no tickets for region {region}: this purse buys for region {self.settings.region}")
        with self._lock:
            if not self._stock:
                raise PurseError(self._error or "the spend limit is used up")
            ticket = self._stock.popleft()
            self.taken_units += ticket.units
            if sum(t.units for t in self._stock) * 2 < self.settings.stock_units:
                self._wake.notify()
        return self.wallet.store.take(ticket)

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {
                "stock_units": sum(t.units for t in self._stock), "bought_units": self.bought_units,
                "taken_units": self.taken_units, "error": self._error,
            }  # fmt: skip

    def close(self) -> None:
        """Stop buying. Unused tickets stay in the wallet's store for the next run."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=3)  # an issue under way is journalled: the next run finishes it
