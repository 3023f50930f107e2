"""Receipts that the chain takes: what the gateway's bond stands for (Ledgers.challenge).

A redeem credits its wei to the relay's payout in the transaction that counts it, and the gateway signs, with the key
of its bond, EIP-712 `Receipt(gateway, region, account, epoch, cumulative)`: the root of `epoch` and every later one
holds at least `cumulative` wei for `account`. Freezing an epoch copies the credited sums, so what was signed is what is
posted, whatever payout or share for gas are by then. A redeem and a freeze exclude each other (`enter`, `shut`): a
receipt's epoch is one that is not frozen yet.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak
from sqlalchemy import bindparam, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Database
from bwgateway.schema import epochs, payouts, relays

_RECEIPT = keccak(text="Receipt(address gateway,uint16 region,address account,uint32 epoch,uint256 cumulative)")
_LOCK = 0x62777270  # "bwrp", one of PostgreSQL's advisory locks
Place = tuple[bytes, int]
"""A relay and a region."""


@dataclass(frozen=True)
class Counted:
    """A relay's units in a region: redeemed in all, and of those the ones whose wei a payout is credited with."""

    units: int
    promised: int


def digest(domain: bytes, gateway: str, region: int, account: str, epoch: int, cumulative: int) -> bytes:
    """What is signed, 32 bytes; `domain`: Settlement's separator."""
    fields = (_RECEIPT, gateway, region, account, epoch, cumulative)
    content = keccak(encode(["bytes32", "address", "uint16", "address", "uint32", "uint256"], fields))
    return keccak(b"\x19\x01" + domain + content)


async def enter(db: Database, connection: AsyncConnection) -> None:
    """Before a redeem counts: no epoch is frozen until its transaction ends. SQLite has one writer anyway."""
    if not db.sqlite:
        await connection.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _LOCK})


async def shut(db: Database, connection: AsyncConnection) -> None:
    """Before an epoch is frozen: redeems that began have ended, later ones wait."""
    if not db.sqlite:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def credit(
    db: Database,
    connection: AsyncConnection,
    worth: Callable[[int], int],
    counted: Mapping[Place, Counted],
    accounts: Mapping[bytes, str | None],
) -> dict[tuple[int, str], int]:
    """Credit what is counted and not credited to the relays' payouts (lower case; None: not known, so it waits).

    `worth`: wei that units earn a relay. The sums of the payouts, wei, by region and payout.
    """
    gains: dict[tuple[int, str], int] = defaultdict(int)
    moved = []
    for (relay, region), now in sorted(counted.items()):
        account = accounts.get(relay)
        if account is None:
            continue
        gains[region, account] += worth(now.units) - worth(now.promised)
        if now.units > now.promised:
            moved.append({"b_relay": relay, "b_region": region, "b_promised": now.units})
    if not gains:
        return {}
    order = sorted(gains)
    empty = [{"region": r, "payout": p, "cumulative_wei": "0", "promised_wei": "0"} for r, p in order]
    await db.insert_missing(connection, payouts, empty)
    # The rows are locked in one order, whoever else credits them.
    query = select(payouts.c.region, payouts.c.payout, payouts.c.promised_wei)
    query = query.where(tuple_(payouts.c.region, payouts.c.payout).in_(order))
    rows = await connection.execute(query.order_by(payouts.c.region, payouts.c.payout).with_for_update())
    sums = {(row.region, row.payout): int(row.promised_wei) + gains[row.region, row.payout] for row in rows}
    if moved:
        await connection.execute(_MARK, moved)
        grown = [
            {"b_region": region, "b_payout": payout, "b_wei": str(sums[region, payout])}
            for region, payout in order
            if gains[region, payout]
        ]
        if grown:
            await connection.execute(_GROW, grown)
    return sums


_MARK = (
    update(relays)
    .where(relays.c.relay == bindparam("b_relay"), relays.c.region == bindparam("b_region"))
    .values(promised=bindparam("b_promised"))
)
_GROW = (
    update(payouts)
    .where(payouts.c.region == bindparam("b_region"), payouts.c.payout == bindparam("b_payout"))
    .values(promised_wei=bindparam("b_wei"))
)


class Promises:
    """Credits redeems and signs their receipts. `key`: the bonded account's, 32 bytes; `domain`: Settlement's EIP-712
    separator; `worth`: wei that units earn a relay; `epoch`: number of the epoch that runs at a unix time."""

    def __init__(
        self,
        db: Database,
        key: bytes,
        domain: bytes,
        worth: Callable[[int], int],
        epoch: Callable[[float], int],
    ) -> None:
        self._db = db
        self._key = PrivateKey(key)
        self._account = self._key.public_key.to_checksum_address()
        self._domain = domain
        self._worth = worth
        self._epoch = epoch

    async def enter(self, connection: AsyncConnection) -> None:
        """Must come before a redeem's first write."""
        await enter(self._db, connection)

    async def give(
        self, connection: AsyncConnection, counted: Mapping[Place, Counted], accounts: Mapping[bytes, str | None]
    ) -> dict[bytes, list[dict[str, Any]]]:
        """Credit what was counted; the receipts of each relay, one a region, as the API shows them."""
        sums = await credit(self._db, connection, self._worth, counted, accounts)
        if not sums:
            return {}
        last = await self._last(connection, {region for region, _ in sums})
        given: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
        for relay, region in sorted(counted):
            account = accounts.get(relay)
            if account is not None and (wei := sums[region, account]):
                # The next root that is frozen has a later number than the last one, and at least that of the epoch that
                # has just ended.
                epoch = max(last.get(region, 0) + 1, self._epoch(time.time()) - 1)
                given[relay].append(self.sign(region, account, epoch, wei))
        return given

    async def _last(self, connection: AsyncConnection, regions: set[int]) -> dict[int, int]:
        query = select(epochs.c.region, func.max(epochs.c.number)).where(epochs.c.region.in_(sorted(regions)))
        rows = await connection.execute(query.group_by(epochs.c.region))
        return {row[0]: row[1] for row in rows}

    def sign(self, region: int, account: str, epoch: int, cumulative: int) -> dict[str, Any]:
        """A receipt with its signature, 65 bytes r, s, v."""
        signature = self._key.sign_msg_hash(digest(self._domain, self._account, region, account, epoch, cumulative))
        raw = signature.to_bytes()
        return {
            "region": region,
            "account": account,
            "epoch": epoch,
            "cumulative_wei": str(cumulative),
            "sig": (raw[:64] + bytes([27 + raw[64]])).hex(),
        }
