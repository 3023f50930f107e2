"""Migrations lead to the schema of the code, on both databases, from an empty one and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, select

from bwgateway import accounts
from bwgateway.database import Database, alembic_config
from bwgateway.schema import metadata, tickets
from tests.gateway.postgres import postgres


async def check(url: str) -> None:
    db = Database(url)
    try:
        await db.migrate()
        await db.migrate()
        async with db.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await db.close()


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


async def forward(url: str) -> None:
    """Rows of the first schema are still there, and right, at the newest."""
    db = Database(url)

    def fill(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        first = MetaData()
        first.reflect(connection)
        row = {"key_id": b"k" * 8, "region": 1, "units": 64, "relay": b"r" * 32, "index": 7, "preimage": b"p" * 32}
        connection.execute(first.tables["tickets"].insert().values(id=b"i" * 32, opened_at=1234, **row))
        connection.execute(
            first.tables["accounts"].insert().values(
                account="0x" + "5a" * 20, region=1, deposited=100, issued=64, seen_block=3, charged=0, voucher=b"v" * 65
            )
        )

    try:
        async with db.write() as connection:
            await connection.run_sync(fill)
        await db.migrate()
        async with db.read() as connection:
            (row,) = (await connection.execute(select(tickets))).all()
            assert (row.index, row.units, bytes(row.preimage)) == (7, 64, b"p" * 32)
            assert (row.moved_at, row.closed, row.refunded) == (1234, False, 0)
            assert (await accounts.read(connection, "0x" + "5a" * 20, 1)).balance == 36
    finally:
        await db.close()


async def test_forward_on_sqlite(tmp_path: Path) -> None:
    await forward(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")


@pytest.mark.slow
async def test_forward_on_postgresql() -> None:
    with postgres() as url:
        await forward(url)


async def test_sqlite(tmp_path: Path) -> None:
    await check(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")


@pytest.mark.slow
async def test_postgresql() -> None:
    with postgres() as url:
        await check(url)
