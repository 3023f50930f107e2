"""The directory: the newest countersigned descriptor of each relay, and a version that grows with every change.

A client that comes back names the version it has and gets what changed since: new and changed entries, and the ids of
those that left. Expiry is no change: every entry carries it. The document (docs/architecture.md) is signed and names
the hash of the whole set at its version, so that a client sees whether what it has put together is what everybody sees.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nacl.signing import SigningKey
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.chain.answers import Stake, Standing
from bwgateway.database import Database
from bwgateway.problems import Problem
from bwgateway.schema import counters, descriptors
from bwrouter.wire.descriptor import ANCHORED

PREFIX = b"bwrouter/1 directory\n"
HEADER = struct.Struct("<4s8sB3xQQQII32s")
EXTRA = struct.Struct("<BHII")
MAGIC = b"bwd1"
FULL = 1
UNAUDITED, BULK, INTERACTIVE = 0, 1, 2
INTERACTIVE_MS, INTERACTIVE_LOSS = 50, 100
"""A relay is of class interactive up to this latency (ms) and loss (basis points) in its last verdict."""
_VERSION = "directory"
PLACE = struct.Struct("<HHI")  # region, flags, rate at byte 121 of a descriptor


@dataclass(frozen=True)
class Facts:
    """What the chain says of a relay, beside its descriptor. `audited` is kbit/s, `score` basis points."""

    stake_wei: int
    class_: int = UNAUDITED
    score: int = 0
    audited: int = 0

    @classmethod
    def of(cls, stake: Stake, standing: Standing, latency_ms: int | None, loss_bps: int | None) -> Facts:
        """Facts out of stake, standing and the last verdict's latency and loss."""
        class_ = UNAUDITED
        if standing.kbps:
            quick = latency_ms is not None and latency_ms <= INTERACTIVE_MS and (loss_bps or 0) <= INTERACTIVE_LOSS
            class_ = INTERACTIVE if quick else BULK
        return cls(stake.stake, class_, standing.score, standing.kbps)

    @property
    def columns(self) -> dict[str, Any]:
        """As the ledger keeps them."""
        return {
            "stake_wei": str(self.stake_wei),
            "class_": self.class_,
            "score": self.score,
            "audited_kbps": self.audited,
        }


async def _next(db: Database, connection: AsyncConnection) -> int:
    """The next version. The counter's row is locked to the transaction's end: versions are seen in their order."""
    statement = db.insert(counters).values(name=_VERSION, value=1)
    statement = statement.on_conflict_do_update(
        index_elements=[counters.c.name], set_={"value": counters.c.value + 1}
    ).returning(counters.c.value)
    return int((await connection.execute(statement)).scalar_one())


async def publish(
    db: Database, connection: AsyncConnection, relay: bytes, body: bytes, valid_until: int, region: int, facts: Facts,
    listed: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Store a countersigned descriptor; one that expires before the stored one is refused (an old one replayed)."""
    version = await _next(db, connection)
    query = select(descriptors.c.valid_until).where(descriptors.c.relay == relay)
    old = (await connection.execute(query)).scalar_one_or_none()
    if old is not None and valid_until < old:
        raise Problem(409, "stale", f"descriptor: expires at {valid_until}, the published one at {old}", "descriptor")
    row = {"body": body, "valid_until": valid_until, "version": version, "listed": listed, "seen_at": int(time.time())}
    row |= {"region": region, **facts.columns}
    insert = db.insert(descriptors).values(relay=relay, **row)
    await connection.execute(insert.on_conflict_do_update(index_elements=[descriptors.c.relay], set_=row))
    return {"descriptor": body.hex(), "version": version}


async def note(db: Database, relay: bytes, listed: bool, facts: Facts | None) -> bool:
    """Note what was found of a relay; whether that changed the directory."""

    async def work(connection: AsyncConnection) -> bool:
        row = (await connection.execute(select(descriptors).where(descriptors.c.relay == relay))).first()
        if row is None:
            return False
        values = {"listed": listed} | (facts.columns if facts else {})
        if all(getattr(row, name) == value for name, value in values.items()):
            return False
        values["version"] = await _next(db, connection)
        await connection.execute(update(descriptors).where(descriptors.c.relay == relay).values(**values))
        return True

    return await db.transact(work)


async def seen(db: Database, relays: Sequence[bytes]) -> None:
    """Note that relays are alive."""
    async with db.write() as connection:
        for relay in sorted(relays):
            await connection.execute(
                update(descriptors).where(descriptors.c.relay == relay).values(seen_at=int(time.time()))
            )


async def prune(db: Database, before: int) -> int:
    """Drop entries that expired before unix time `before`; their number. Clients have dropped them by themselves."""
    async with db.write() as connection:
        return int((await connection.execute(delete(descriptors).where(descriptors.c.valid_until < before))).rowcount)


def _entry(row: Any) -> bytes:
    stake = min(int(row.stake_wei) // 10**18, 2**32 - 1)
    return bytes(row.body) + EXTRA.pack(row.class_, row.score, min(row.audited_kbps, 2**32 - 1), stake)


class Listing:
    """All entries, read from the ledger once a version."""

    def __init__(self, db: Database, key: SigningKey, gateway_id: bytes) -> None:
        self._db, self._key, self._id = db, key, gateway_id
        self._version = -1
        self._rows: list[Any] = []
        self._digest: tuple[int, int, bytes] = (-1, 0, b"")

    async def rows(self) -> tuple[int, list[Any]]:
        """The version, and all rows that are not long expired, in order of relay."""
        query = select(counters.c.value).where(counters.c.name == _VERSION)
        async with self._db.read() as connection:
            version = (await connection.execute(query)).scalar_one_or_none() or 0
            if version != self._version:
                found = await connection.execute(select(descriptors).order_by(descriptors.c.relay))
                self._rows, self._version = list(found), version
        return self._version, self._rows

    async def live(self, now: int) -> tuple[int, list[Any]]:
        """The version, and the rows that are listed and have not expired."""
        version, rows = await self.rows()
        return version, [row for row in rows if row.listed and row.valid_until > now]

    async def unlisted(self, now: int) -> list[Any]:
        """Rows that have not expired and are not listed: suspended, silent, or claiming too much."""
        _, rows = await self.rows()
        return [row for row in rows if not row.listed and row.valid_until > now]

    def _digest_of(self, version: int, live: list[Any]) -> bytes:
        """SHA-256 over the entries of the set, computed once for each set."""
        if self._digest[:2] != (version, len(live)):
            self._digest = (version, len(live), sha256(b"".join(_entry(row) for row in live)).digest())
        return self._digest[2]

    async def document(self, since: int) -> bytes:
        """The signed document of what changed after version `since`; all of it for 0 or a version that never was."""
        now = int(time.time())
        version, rows = await self.rows()
        live = [row for row in rows if row.listed and row.valid_until > now]
        full = not 0 < since <= version
        entries = [row for row in live if full or row.version > since]
        gone = [] if full else [r.relay for r in rows if not r.listed and r.valid_until > now and r.version > since]
        digest = self._digest_of(version, live)
        counts = (0 if full else since, version, now, len(entries), len(gone))
        body = HEADER.pack(MAGIC, self._id, FULL if full else 0, *counts, digest)
        body += b"".join(_entry(row) for row in entries) + b"".join(bytes(relay) for relay in gone)
        return body + self._key.sign(PREFIX + body).signature


def place(row: Any) -> tuple[int, int]:
    """(flags, rate in kbit/s) of a row's descriptor."""
    _, flags, rate = PLACE.unpack_from(bytes(row.body), 121)
    return int(flags), int(rate)


def public_v4(row: Any) -> bool:
    """Whether a row's relay has an IPv4 address of its own."""
    return bool(any(bytes(row.body)[101:103]) and not place(row)[0] & ANCHORED)
