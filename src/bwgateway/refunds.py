"""Refunds: what relays have not redeemed of closed tickets is signed anew, blind (docs/protocol.md section 6).

A ticket is closed when its relay has said so, or when it has not moved for `close_seconds`: until then the relay may
hold preimages that it has not shown. One that nobody opened is closed by its refund, and can't be opened any more. Of a
ticket, index + refunded never exceeds its units, by updates that name both old values; so no unit is both paid and
refunded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Again, Database
from bwgateway.mint import MintKeys
from bwgateway.payword import ticket_id, walk
from bwgateway.problems import Problem
from bwgateway.schema import tickets
from bwgateway.tickets import NOBODY


@dataclass(frozen=True)
class Closing:
    """A ticket as its buyer shows it: key id 8, output 64, its units, and the last preimage w_N (32 bytes)."""

    key: bytes
    output: bytes
    units: int
    top: bytes

    @cached_property
    def anchor(self) -> bytes:
        """w_0, 32 bytes."""
        return walk(self.top, self.units)

    @cached_property
    def id(self) -> bytes:
        """H(w_0), 32 bytes: who can name it from w_N has made the chain, or was paid all of it."""
        return ticket_id(self.anchor)


async def state(db: Database, id: bytes, close_seconds: int) -> dict[str, Any] | None:
    """How far a ticket is, as the API tells it; None when nobody has opened it."""
    async with db.read() as connection:
        row = (await connection.execute(select(tickets).where(tickets.c.id == id))).first()
    if row is None:
        return None
    return {
        "id": id.hex(),
        "units": row.units,
        "index": row.index,
        "refunded": row.refunded,
        "left": row.units - row.index - row.refunded,
        "closed": row.closed,
        "refundable_at": row.moved_at if row.closed else row.moved_at + close_seconds,
    }


async def take(
    db: Database,
    connection: AsyncConnection,
    mint: MintKeys,
    region: int,
    closings: Sequence[Closing],
    need: int,
    close_seconds: int,
) -> int:
    """Take `need` units out of what is left of these tickets, the first ones first; the units that remain.

    Raises Problem when a ticket is none, is still open, or too little is left, and Again when one moved meanwhile.
    """
    now = int(time.time())
    rows = await _rows(db, connection, mint, region, closings, now)
    left = 0
    for closing in closings:
        row = rows[closing.id]
        if (row.units, row.region) != (closing.units, region):
            raise Problem(422, "ticket", f"ticket {closing.id.hex()} has {row.units} units in region {row.region}")
        if not row.closed and row.moved_at + close_seconds > now:
            due = row.moved_at + close_seconds
            raise Problem(409, "open", f"ticket {closing.id.hex()} is open; it can be refunded from unix time {due}")
        left += row.units - row.index - row.refunded
    if left < need:
        raise Problem(409, "rest", f"{left} units are left of these tickets, {need} are asked", "blinded")
    await _consume(connection, [rows[c.id] for c in closings], need, now - close_seconds)
    return left - need


async def _rows(
    db: Database,
    connection: AsyncConnection,
    mint: MintKeys,
    region: int,
    closings: Sequence[Closing],
    now: int,
) -> dict[bytes, Any]:
    """The ledger's rows by id; those that nobody opened are made, closed and bound to nobody."""
    query = select(tickets).where(tickets.c.id.in_([c.id for c in closings]))
    rows = {bytes(row.id): row for row in await connection.execute(query)}
    fresh: list[dict[str, Any]] = []
    for closing in closings:
        if closing.id in rows:
            continue
        key = mint.refundable(closing.key, region, closing.units, now)
        if key is None or not key.verify(closing.anchor, closing.output):
            raise Problem(422, "ticket", f"ticket {closing.id.hex()}: not signed by this mint, or expired", "tickets")
        row = {"id": closing.id, "key_id": key.id, "region": region, "units": key.units, "relay": NOBODY, "index": 0}
        moved = {"preimage": closing.anchor, "opened_at": now, "moved_at": now, "closed": True, "refunded": 0}
        fresh.append(row | moved)
    if fresh:
        fresh.sort(key=lambda row: row["id"])
        if len(await db.insert_missing(connection, tickets, fresh)) != len(fresh):
            raise Again  # a relay opened one meanwhile
        rows = {bytes(row.id): row for row in await connection.execute(query)}
    return rows


async def _consume(connection: AsyncConnection, rows: Sequence[Any], need: int, still: int) -> None:
    """Mark `need` units of the rows as refunded, if none has moved since they were read."""
    taken = []
    for row in rows:
        share = min(need, row.units - row.index - row.refunded)
        need -= share
        if share:
            taken.append((row, share))
    for row, share in sorted(taken, key=lambda entry: bytes(entry[0].id)):  # one order everywhere: no deadlock
        result = await connection.execute(
            update(tickets)
            .where(
                tickets.c.id == row.id,
                tickets.c.index == row.index,
                tickets.c.refunded == row.refunded,
                or_(tickets.c.closed, tickets.c.moved_at <= still),
            )
            .values(refunded=row.refunded + share)
        )
        if result.rowcount != 1:
            raise Again
