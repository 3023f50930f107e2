"""Migrations lead to the schema of the code, on both databases, from an empty one and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from bwgateway.database import Database
from bwgateway.schema import metadata
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


async def test_sqlite(tmp_path: Path) -> None:
    await check(f"sqlite+aiosqlite:///{tmp_path}/ledger.db")


@pytest.mark.slow
async def test_postgresql() -> None:
    with postgres() as url:
        await check(url)
