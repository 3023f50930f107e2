"""Freezing an epoch: what redeems have credited becomes the leaves of its root, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import promises
from bwgateway.database import Database
from bwgateway.promises import Counted
from bwgateway.schema import epochs, leaves, payouts, relays

log = structlog.get_logger()
KEEP = 3  # epochs whose leaves are kept, by region


async def waiting(db: Database, region: int) -> dict[bytes, Counted]:
    """Relays with units that no epoch has."""
    async with db.read() as connection:
        return await _waiting(connection, region)


async def _waiting(connection: AsyncConnection, region: int) -> dict[bytes, Counted]:
    query = select(relays.c.relay, relays.c.units, relays.c.promised)
    rows = await connection.execute(query.where(relays.c.region == region, relays.c.units > relays.c.settled))
    return {bytes(row.relay): Counted(row.units, row.promised) for row in rows}


class Freeze:
    """`net`: wei that units bring; `worth`: wei of those that the relay earns, the rest being `operator`'s (an address,
    lower case)."""

    def __init__(self, db: Database, net: Callable[[int], int], worth: Callable[[int], int], operator: str) -> None:
        self._db, self._net, self._worth, self._operator = db, net, worth, operator

    async def run(
        self, connection: AsyncConnection, region: int, number: int, owners: Mapping[bytes, str | None], total: int
    ) -> bool:
        """Freeze epoch `number`; `owners`: payouts of relays that have uncredited units, as far as they are known;
        `total`: wei of the epoch before. Whether there was anything to freeze."""
        await promises.shut(self._db, connection)
        due = await _waiting(connection, region)
        late = {(relay, region): now for relay, now in due.items() if now.units > now.promised}
        await promises.credit(self._db, connection, self._worth, late, owners)
        for (relay, _), now in late.items():  # left the registry: its units wait until it is back
            if owners.get(relay) is None:
                log.warning("settlement.no_payout", relay=relay.hex(), units=now.units - now.promised)
        gained = await self._gained(connection, region)
        if not gained:
            return False
        copy = select(payouts.c.region, literal(number), payouts.c.payout, payouts.c.cumulative_wei)
        await connection.execute(
            self._db.insert(leaves).from_select(
                ["region", "number", "payout", "cumulative_wei"], copy.where(payouts.c.region == region)
            )
        )
        row = {"region": region, "number": number, "total_wei": str(total + gained)}
        await connection.execute(
            self._db.insert(epochs).values(**row, state="frozen", root=b"", closed_at=int(time.time()))
        )
        await _prune(connection, region)
        return True

    async def _gained(self, connection: AsyncConnection, region: int) -> int:
        """Bring the payouts' sums to what is credited, and mark the relays' credited units as settled; wei in all."""
        ahead = (payouts.c.region == region) & (payouts.c.promised_wei != payouts.c.cumulative_wei)
        rows = await connection.execute(select(payouts.c.promised_wei, payouts.c.cumulative_wei).where(ahead))
        gained = sum(int(row.promised_wei) - int(row.cumulative_wei) for row in rows)
        await connection.execute(update(payouts).where(ahead).values(cumulative_wei=payouts.c.promised_wei))
        moved = (relays.c.region == region) & (relays.c.promised > relays.c.settled)
        found = await connection.execute(select(relays.c.promised, relays.c.settled).where(moved))
        brought = sum(self._net(row.promised) - self._net(row.settled) for row in found)
        await connection.execute(update(relays).where(moved).values(settled=relays.c.promised))
        if brought > gained:  # the stated share: a leaf of the gateway's own account
            await self._keep_share(connection, region, brought - gained)
            gained = brought
        return gained

    async def _keep_share(self, connection: AsyncConnection, region: int, wei: int) -> None:
        mine = (payouts.c.region == region) & (payouts.c.payout == self._operator)
        empty = {"region": region, "payout": self._operator, "cumulative_wei": "0", "promised_wei": "0"}
        await self._db.insert_missing(connection, payouts, [empty])
        query = select(payouts.c.cumulative_wei).where(mine)
        have = str(int((await connection.execute(query)).scalar_one()) + wei)
        await connection.execute(update(payouts).where(mine).values(cumulative_wei=have, promised_wei=have))


async def _prune(connection: AsyncConnection, region: int) -> None:
    query = select(epochs.c.number).where(epochs.c.region == region).order_by(epochs.c.number.desc())
    numbers = (await connection.execute(query.limit(KEEP))).scalars().all()
    await connection.execute(delete(leaves).where(leaves.c.region == region, leaves.c.number < min(numbers)))
