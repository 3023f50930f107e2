"""Many requests in one transaction: what arrives while a transaction runs goes into the next one.

A commit costs the same for one request as for fifty, and so does a statement nearly; under load this is what keeps a
gateway's open and redeem cheap, and with one request at a time nothing waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batches(Generic[Job, Result]):
    """Collects jobs and hands them to `work`, which returns a result or an exception for each, in order."""

    def __init__(
        self, work: Callable[[Sequence[Job]], Awaitable[Sequence[Result | Exception]]], most: int = 64
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[Job, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, job: Job) -> Result:
        """The job's result, or its exception."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            for (_, future), result in zip(batch, await self._results([j for j, _ in batch]), strict=True):
                if future.done():  # its caller is gone
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _results(self, jobs: list[Job]) -> Sequence[Result | Exception]:
        """A batch that fails as a whole is tried again one by one: nobody suffers for another's request."""
        try:
            return await self._work(jobs)
        except Exception as e:
            if len(jobs) == 1:
                return [e]
        return [result for job in jobs for result in await self._results([job])]
