"""Leases in the ledger: of all processes one at a time does a job."""

from __future__ import annotations

import os
import secrets
import time

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Database
from bwgateway.schema import leases


class Lease:
    """One process's claim to a job that it must renew within `seconds`."""

    def __init__(self, db: Database, name: str, seconds: int) -> None:
        self._db, self._name, self._seconds = db, name, seconds
        self._holder = f"{os.getpid()}-{secrets.token_hex(8)}"

    async def hold(self) -> bool:
        """Take or renew the lease; whether this process has it now."""
        now = int(time.time())
        until = now + self._seconds
        values = {"name": self._name, "holder": self._holder, "until": until}

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(self._db.insert(leases).values(**values).on_conflict_do_nothing())
            taken = await connection.execute(
                update(leases)
                .where(leases.c.name == self._name, (leases.c.holder == self._holder) | (leases.c.until < now))
                .values(holder=self._holder, until=until)
            )
            return taken.rowcount == 1

        return await self._db.transact(work)

    async def release(self) -> None:
        """Give it back."""
        async with self._db.write() as connection:
            await connection.execute(delete(leases).where(leases.c.holder == self._holder))
