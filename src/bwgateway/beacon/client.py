"""Follows a beacon chain over the REST API of nodes that are not trusted (ethereum/beacon-APIs, light client).

The store begins at a block root that the operator trusts; the newest final root is kept in a file, where a restart
begins. Every answer is checked; what does not hold is the node's fault, and another node is asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from bwgateway.beacon import sync
from bwgateway.beacon.network import PERIOD_SLOTS, Network
from bwgateway.beacon.types import BadUpdate, Bootstrap, Execution, Update, field

log = structlog.get_logger()
_PATH = "/eth/v1/beacon/light_client"
_UPDATES = 16
_ANSWER_MAX = 8 * 1024 * 1024


class NoHead(Exception):
    """No beacon node leads to a head that can be believed; the text says why."""


class BeaconClient:
    """`head()` is the newest execution header that the sync committee has signed, or that is final.

    `fault(node, kind, detail)` is called for what a node gets wrong. `stale_slots`: how far the head may lie behind the
    clock; `trust_seconds`: how old the root to begin at may be, since an old committee's keys may be for sale.
    """

    def __init__(
        self,
        urls: Sequence[str],
        network: Network,
        checkpoint: bytes,
        file: Path,
        fault: Callable[[str, str, str], None],
        final: bool = True,
        stale_slots: int = 128,
        trust_seconds: int = 14 * 86_400,
        timeout: float = 5.0,
    ) -> None:
        self._urls, self._network, self._checkpoint, self._file = list(urls), network, checkpoint, file
        self._fault, self._final, self._stale, self._trust = fault, final, stale_slots, trust_seconds
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)
        self._store: sync.Store | None = None
        self._asked_slot = -1
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def head(self) -> Execution:
        """The execution header, asked for once a slot. Raises NoHead."""
        async with self._lock:
            slot = self._network.slot(time.time())
            if self._store is None or slot != self._asked_slot:
                await self._advance()
                self._asked_slot = slot
            assert self._store is not None
            header = self._store.finalized if self._final else self._store.optimistic
            behind = slot - header.beacon.slot
            if behind > self._stale:
                self._asked_slot = -1
                raise NoHead(f"the newest head lies {behind} slots behind the clock, {self._stale} are allowed")
            if header.execution is None:
                raise NoHead(f"slot {header.beacon.slot} has no execution header: it lies before Capella")
            return header.execution

    async def _advance(self) -> None:
        if self._store is None:
            self._store = await self._each(self._begin)
        before, store = self._store, self._store
        try:
            store = await self._each(lambda url: self._follow(url, store))
        except NoHead as e:
            log.warning("beacon.no_answer", error=str(e))  # what is known stays good until it is stale
        self._store = store
        if store.finalized != before.finalized:
            await asyncio.to_thread(self._save, store.finalized.beacon.root)

    async def _each(self, work: Callable[[str], Awaitable[sync.Store]]) -> sync.Store:
        """`work` with the first node that does it right. Raises NoHead."""
        errors = []
        for url in self._urls:
            name = urlsplit(url).netloc.rpartition("@")[2]
            try:
                return await work(url)
            except BadUpdate as e:
                self._fault(name, "beacon", str(e))
                errors.append(f"{name}: {e}")
            except (httpx.HTTPError, ValueError) as e:
                self._fault(name, "silent", f"{type(e).__name__}: {e}")
                errors.append(f"{name}: {type(e).__name__}")
        raise NoHead("; ".join(errors))

    async def _begin(self, url: str) -> sync.Store:
        errors = []
        for root in self._roots():
            try:
                answer = await self._get(url, f"/bootstrap/0x{root.hex()}")
                store = sync.begin(self._network, root, Bootstrap.of(field(answer, "data")))
            except (BadUpdate, httpx.HTTPStatusError) as e:  # a node keeps bootstraps for a while only
                errors.append(str(e))
                continue
            age = (
                time.time() - self._network.genesis_time - store.finalized.beacon.slot * self._network.seconds_per_slot
            )
            if age > self._trust:
                errors.append(f"block {root.hex()} is {age / 86_400:.1f} days old: set a newer chain.beacon.checkpoint")
                continue
            log.info("beacon.begun", slot=store.finalized.beacon.slot, root=root.hex())
            return store
        raise BadUpdate("; ".join(errors))

    async def _follow(self, url: str, store: sync.Store) -> sync.Store:
        """Committees up to now, then the newest head."""
        period = self._network.slot(time.time()) // PERIOD_SLOTS
        while store.period < period or store.following is None:
            count = min(_UPDATES, max(1, period - store.period + 1))
            answer = await self._get(url, f"/updates?start_period={store.period}&count={count}")
            if not isinstance(answer, list):
                raise BadUpdate("updates: no list")
            moved = await self._apply_all(store, [Update.of(field(entry, "data")) for entry in answer])
            if moved == store:
                break
            store = moved
        kind = "finality_update" if self._final else "optimistic_update"
        update = Update.of(field(await self._get(url, f"/{kind}"), "data"))
        if not self._final:
            final = Update.of(field(await self._get(url, "/finality_update"), "data"))
            store = await self._apply_all(store, [final])
        return await self._apply_all(store, [update])

    async def _apply_all(self, store: sync.Store, updates: Sequence[Update]) -> sync.Store:
        for update in updates:
            # A pairing takes a tenth of a second: the loop must not wait for it.
            store = await asyncio.to_thread(sync.apply, store, update, time.time())
        return store

    async def _get(self, url: str, path: str) -> Any:
        answer = await self._client.get(url.rstrip("/") + _PATH + path, headers={"accept": "application/json"})
        answer.raise_for_status()
        if len(answer.content) > _ANSWER_MAX:
            raise BadUpdate("an answer of more than 8 MiB")
        return json.loads(answer.content)

    # --- the file ---

    def _roots(self) -> list[bytes]:
        """Block roots to begin at: the newest final one of an earlier run, then the operator's."""
        try:
            kept = bytes.fromhex(self._file.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            kept = b""
        except (OSError, ValueError) as e:
            log.warning("beacon.state_unusable", file=str(self._file), error=str(e))
            kept = b""
        return [root for root in (kept, self._checkpoint) if len(root) == 32]

    def _save(self, root: bytes) -> None:
        """Keep a final block's root for the next start: tmp + fsync + rename."""
        tmp = self._file.with_name(f"{self._file.name}.{os.getpid()}.tmp")
        with open(tmp, "w", encoding="ascii") as f:
            f.write(root.hex() + "\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, self._file)
