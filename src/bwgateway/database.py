"""The ledger's engine: SQLite (WAL) or PostgreSQL behind the same two calls, `read()` and `write()`.

A `write()` block is one transaction: on SQLite it takes the write lock at its start (BEGIN IMMEDIATE), so that it can't
fail half way for having read first; on PostgreSQL it is READ COMMITTED and relies on unique keys and conditional
updates. Nothing slow (network, chain) may happen inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

T = TypeVar("T")
_MIGRATIONS = Path(__file__).parent / "migrations"
_RETRIES = 8
_ADVISORY_LOCK = 0x62777264  # "bwrd": serialises migrations of processes that start together


class Again(Exception):
    """Raised inside `Database.transact`: roll back and run the work again."""


class Database:
    """One engine and its write lock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        self._writing = asyncio.Lock()
        self.engine: AsyncEngine  # `hide_parameters`: an error's text holds no preimages or vouchers
        if self.sqlite:
            self.engine = create_async_engine(
                url, poolclass=AsyncAdaptedQueuePool, pool_size=4, max_overflow=4, hide_parameters=True
            )
            _sqlite_events(self.engine)
        else:
            self.engine = create_async_engine(
                url, pool_size=8, max_overflow=8, pool_pre_ping=True, hide_parameters=True
            )

    async def migrate(self) -> None:
        """Bring the schema to the newest revision."""
        async with self.engine.connect() as connection:
            await connection.execution_options(bw_write=True)
            if not self.sqlite:
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            await connection.run_sync(_upgrade)
            await connection.commit()

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose reads see one snapshot (SQLite) or committed rows (PostgreSQL)."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: commits at the end of the block, rolls back on an exception."""
        async with AsyncExitStack() as stack:
            if self.sqlite:
                await stack.enter_async_context(self._writing)
            connection = await stack.enter_async_context(self.engine.connect())
            await connection.execution_options(bw_write=True)
            async with connection.begin():
                yield connection

    async def snapshot(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, on one snapshot of everything."""
        async with self.engine.connect() as connection:
            if not self.sqlite:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            return await connection.run_sync(work)

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one transaction, again from the start when the database asks for it (deadlock, busy)."""
        for attempt in range(_RETRIES):
            try:
                async with self.write() as connection:
                    return await work(connection)
            except (DBAPIError, Again) as e:
                if attempt == _RETRIES - 1 or not (isinstance(e, Again) or _transient(e)):
                    raise
                await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable")

    async def insert_new(self, connection: AsyncConnection, table: Table, **values: Any) -> bool:
        """Insert a row unless one of its keys is taken; whether it was inserted."""
        return bool(await self.insert_missing(connection, table, [values]))

    async def insert_missing(
        self, connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Any, ...]]:
        """Insert those rows none of whose keys is taken; the primary keys of the inserted ones."""
        if not rows:
            return []
        statement = self.insert(table).on_conflict_do_nothing().returning(*table.primary_key.columns)
        return [tuple(row) for row in await connection.execute(statement, list(rows))]

    def insert(self, table: Table) -> Any:
        """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, in this database's dialect."""
        return sqlite.insert(table) if self.sqlite else postgresql.insert(table)


def _transient(e: DBAPIError) -> bool:
    code = getattr(e.orig, "sqlstate", None)
    return code in ("40001", "40P01") or "database is locked" in str(e.orig)


def _sqlite_events(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("bw_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def alembic_config() -> Config:
    """Alembic's configuration without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
