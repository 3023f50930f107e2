"""What the directory says is kept true: stakes, audits, and which relays are alive.

One process at a time does it (a lease). Stakes and standings are read by proof, a few relays at a time, the longest
unread first; a relay that is not staked any more, or whose stake is for less than its descriptor says, is unlisted, and
listed again when that is mended. Verdicts are read out of the chain's events.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import directory
from bwgateway.chain.answers import ChainError, Reverted
from bwgateway.chain.contracts import Contracts
from bwgateway.database import Database
from bwgateway.leases import Lease
from bwgateway.probe import Prober
from bwgateway.schema import audits, counters, descriptors
from bwgateway.settings import DirectorySettings

log = structlog.get_logger()
AT_A_TIME = 50
BLOCKS = 2000
"""Most blocks in one question for events."""
AGAIN = 64
"""Blocks that are read again: a reorganisation may have changed them."""
_LEASE_SECONDS = 15


class Watch:
    """The loop of one process."""

    def __init__(self, db: Database, chain: Contracts, settings: DirectorySettings, prober: Prober | None) -> None:
        self._db, self._chain, self._settings, self._prober = db, chain, settings, prober
        self._lease = Lease(db, "directory", _LEASE_SECONDS)
        self._checked: dict[bytes, float] = {}

    async def run(self) -> None:
        """Tick until cancelled; an error of the chain only delays."""
        pause = min(5.0, self._settings.check_seconds / 4)
        while True:
            try:
                if await self._lease.hold():
                    await self.tick()
            except (ChainError, Reverted) as e:
                log.warning("directory.delayed", error=str(e))
            except Exception:
                log.exception("directory.failed")
            await asyncio.sleep(pause)

    async def release(self) -> None:
        """Give the lease back at shutdown."""
        await self._lease.release()

    async def tick(self) -> None:
        """One round."""
        await self.read_verdicts()
        now, due = time.time(), []
        async with self._db.read() as connection:
            rows = (await connection.execute(select(descriptors).where(descriptors.c.valid_until > int(now)))).all()
        for row in rows:
            if now - self._checked.get(bytes(row.relay), 0.0) >= self._settings.check_seconds:
                due.append(row)
        due.sort(key=lambda row: self._checked.get(bytes(row.relay), 0.0))
        if self._prober is not None:
            answered = await self._prober.round([bytes(row.body) for row in due[:AT_A_TIME]])
            await directory.seen(self._db, answered)
        await self._check([(bytes(row.relay), bytes(row.body)) for row in due[:AT_A_TIME]], now)
        self._checked = {relay: at for relay, at in self._checked.items() if now - at < 86_400}

    async def _check(self, due: list[tuple[bytes, bytes]], now: float) -> None:
        """Look at relays (id, descriptor): all are asked of the chain together. Raises what kept one from being read,
        when the others are noted."""
        asked = (read_facts(self._db, self._chain, relay, body) for relay, body in due)
        failed: BaseException | None = None
        for (relay, _), found in zip(due, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                failed = found
                continue
            facts, reason = found
            if self._prober is not None and not self._prober.alive(relay):
                reason = reason or "silent"
            if await directory.note(self._db, relay, not reason, facts):
                log.info("directory.changed", relay=relay.hex(), listed=not reason, reason=reason)
            self._checked[relay] = now
        if failed is not None:
            raise failed

    async def read_verdicts(self) -> None:
        """Bring the ledger's audits up to the head."""
        head = await self._chain.block()
        async with self._db.read() as connection:
            query = select(counters.c.value).where(counters.c.name == "audits")
            seen = (await connection.execute(query)).scalar_one_or_none()
        first = self._chain.addresses.block
        since = first if seen is None or seen > head + AGAIN else max(first, seen + 1 - AGAIN)
        while since <= head:
            until = min(head, since + BLOCKS - 1)
            found = await self._chain.verdicts(since, until)
            rows = [asdict(verdict) for verdict in found]

            async def work(
                connection: AsyncConnection, rows: list[dict[str, object]] = rows, until: int = until
            ) -> None:
                insert = self._db.insert(audits)
                changed = {c.name: insert.excluded[c.name] for c in audits.columns if not c.primary_key}
                for row in rows:
                    await connection.execute(
                        insert.values(**row).on_conflict_do_update(
                            index_elements=[audits.c.relay, audits.c.epoch], set_=changed
                        )
                    )
                mark = self._db.insert(counters).values(name="audits", value=until)
                await connection.execute(
                    mark.on_conflict_do_update(index_elements=[counters.c.name], set_={"value": until})
                )

            await self._db.transact(work)
            since = until + 1


async def read_facts(db: Database, chain: Contracts, relay: bytes, body: bytes) -> tuple[directory.Facts | None, str]:
    """What the chain says of a relay with that descriptor, and why it must not be listed (empty: it may)."""
    stake = await chain.stake(relay, fresh=True)
    if stake is None:
        return None, "not registered"
    async with db.read() as connection:
        query = select(audits.c.latency_ms, audits.c.loss_bps).where(audits.c.relay == relay, audits.c.kbps > 0)
        last = (await connection.execute(query.order_by(audits.c.epoch.desc()).limit(1))).first()
    latency, loss = (last.latency_ms, last.loss_bps) if last else (None, None)
    facts = directory.Facts.of(stake, await chain.standing(relay), latency, loss)
    region, _, rate = directory.PLACE.unpack_from(body, 121)
    if not stake.active:
        return facts, stake.state
    if stake.region != region:
        return facts, "another region"
    return facts, "" if rate <= stake.rate else "rate above the stake's"
