"""Signed open and redeem requests in batches: each gets its effect once, many share a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import signed, tickets
from bwgateway.batches import Batches
from bwgateway.database import Database
from bwgateway.mint import MintKey
from bwgateway.problems import Problem
from bwgateway.promises import Promises
from bwgateway.signed import Answer, Request


@dataclass(frozen=True)
class Open:
    """An authenticated open: its tickets, and what the mint thinks of each."""

    request: Request
    openings: Sequence[tickets.Opening]
    verdicts: dict[tickets.Opening, str | MintKey]


@dataclass(frozen=True)
class Redeem:
    """An authenticated redeem. `payout`: who is credited, lower case; None: not known now."""

    request: Request
    items: Sequence[tickets.Item]
    payout: str | None = None


class Meter:
    """The two queues of a process."""

    def __init__(self, db: Database, receipts: tickets.Receipts, promises: Promises) -> None:
        self._db = db
        self._receipts = receipts
        self._promises = promises
        self._opens: Batches[Open, Answer] = Batches(self._open)
        self._redeems: Batches[Redeem, Answer] = Batches(self._redeem)

    async def open(self, job: Open) -> Answer:
        """The answer to an open. Raises Problem."""
        return await self._opens.submit(job)

    async def redeem(self, job: Redeem) -> Answer:
        """The answer to a redeem. Raises Problem."""
        return await self._redeems.submit(job)

    async def _open(self, jobs: Sequence[Open]) -> list[Answer | Exception]:
        async def work(connection: AsyncConnection) -> list[Answer | Exception]:
            known, fresh = await _sort(connection, [j.request for j in jobs])
            todo = [j for j in jobs if j.request in fresh]
            owners = await tickets.bind(self._db, connection, [(j.request.signer, j.verdicts) for j in todo])
            answered = [
                (j.request, {"results": tickets.opened(j.request.signer, j.openings, j.verdicts, owners)}) for j in todo
            ]
            return await self._finish(connection, [j.request for j in jobs], known, answered)

        return await self._db.transact(work)

    async def _redeem(self, jobs: Sequence[Redeem]) -> list[Answer | Exception]:
        async def work(connection: AsyncConnection) -> list[Answer | Exception]:
            known, fresh = await _sort(connection, [j.request for j in jobs])
            todo = [j for j in jobs if j.request in fresh]
            asked = [(j.request.signer, j.items) for j in todo]
            payouts = {j.request.signer: j.payout for j in todo}
            answers = await tickets.redeem(self._db, connection, self._receipts, self._promises, asked, payouts)
            answered = [(j.request, answer) for j, answer in zip(todo, answers, strict=True)]
            return await self._finish(connection, [j.request for j in jobs], known, answered)

        return await self._db.transact(work)

    async def _finish(
        self,
        connection: AsyncConnection,
        order: Sequence[Request],
        known: dict[Request, Answer | Problem],
        answered: list[tuple[Request, Answer]],
    ) -> list[Answer | Exception]:
        unique = dict(answered)
        await signed.record(self._db, connection, list(unique.items()))
        outcomes: dict[Request, Answer | Exception] = {**known, **unique}
        return [outcomes[request] for request in order]


async def _sort(
    connection: AsyncConnection, wanted: Sequence[Request]
) -> tuple[dict[Request, Answer | Problem], set[Request]]:
    """Requests that have an answer or a Problem already, and those that are to have their effect now."""
    known = await signed.find(connection, wanted)
    fresh: dict[tuple[bytes, bytes], Request] = {}
    for request in wanted:
        if request in known:
            continue
        first = fresh.setdefault((request.nonce, request.signer), request)
        if first != request:
            known[request] = signed.nonce_used()
            continue
        try:
            signed.check_time(request)
        except Problem as e:
            known[request] = e
            del fresh[request.nonce, request.signer]
    return known, set(fresh.values())
