"""The directory: the newest countersigned descriptor of each relay, and a version that grows with every change."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Database
from bwgateway.problems import Problem
from bwgateway.schema import counters, descriptors

_VERSION = "directory"


async def publish(
    db: Database, connection: AsyncConnection, relay: bytes, body: bytes, valid_until: int
) -> dict[str, Any]:
    """Store a countersigned descriptor; one that expires before the stored one is refused (an old one replayed)."""
    old = (
        await connection.execute(select(descriptors.c.valid_until).where(descriptors.c.relay == relay))
    ).scalar_one_or_none()
    if old is not None and valid_until < old:
        raise Problem(409, "stale", f"descriptor: expires at {valid_until}, the published one at {old}", "descriptor")
    statement = db.insert(counters).values(name=_VERSION, value=1)
    statement = statement.on_conflict_do_update(
        index_elements=[counters.c.name], set_={"value": counters.c.value + 1}
    ).returning(counters.c.value)
    version = (await connection.execute(statement)).scalar_one()
    row = {"body": body, "valid_until": valid_until, "version": version}
    insert = db.insert(descriptors).values(relay=relay, **row)
    await connection.execute(insert.on_conflict_do_update(index_elements=[descriptors.c.relay], set_=row))
    return {"descriptor": body.hex(), "version": version}


async def listing(db: Database) -> dict[str, Any]:
    """All descriptors that have not expired, and the directory's version."""
    async with db.read() as connection:
        version = (
            await connection.execute(select(counters.c.value).where(counters.c.name == _VERSION))
        ).scalar_one_or_none()
        rows = await connection.execute(
            select(descriptors.c.body).where(descriptors.c.valid_until > int(time.time())).order_by(descriptors.c.relay)
        )
        return {"version": version or 0, "descriptors": [bytes(row.body).hex() for row in rows]}
