"""The light client: nothing that an RPC endpoint says is believed by itself.

A head counts when `quorum` endpoints give the same block, and its header hashes to the block's hash; or, with beacon
nodes, when the sync committee has signed for it. A value counts when an EIP-1186 proof leads to it from that header's
state root. An endpoint that is silent, behind, on another fork, or whose header or proof does not hold is named in the
log and in `bwgateway_chain_faults`; without a head that counts there is no answer, so that nothing is credited and no
root is posted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import structlog
from eth_utils.crypto import keccak

from bwgateway import metrics
from bwgateway.batches import Batches
from bwgateway.beacon.client import BeaconClient, NoHead
from bwgateway.chain.answers import ChainError
from bwgateway.chain.proofs import FIELDS
from bwrouter.ledger import mpt, rlp

log = structlog.get_logger()
T = TypeVar("T")
QUANTITIES = frozenset(
    ("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas")
)
MOST = 32  # reads that go together: a node refuses a proof of very many slots
Slots = tuple[str, Sequence[bytes]]
Values = tuple["Head", list[int]]
KINDS = ("silent", "stale", "header", "fork", "proof", "beacon")


class Fault(Exception):
    """An endpoint misbehaves; `kind` is one of KINDS."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class Head:
    """A block that a quorum agrees on. `time` is unix seconds."""

    number: int
    hash: bytes
    state_root: bytes
    time: int


Report = Callable[[str, str, str], None]
"""Called with an endpoint's name, the kind of its fault, and what is wrong."""


def report(name: str, kind: str, detail: str) -> None:
    """Name a fault in the log and in the metrics."""
    metrics.chain_faults.labels(name, kind).inc()
    log.warning("chain.fault", endpoint=name, kind=kind, detail=detail)


class Endpoint:
    """One JSON-RPC endpoint."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.name = urlsplit(url).netloc.rpartition("@")[2]
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)
        self._ids = count(1)

    async def call(self, method: str, *params: Any) -> Any:
        """The result. Raises Fault."""
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            answer = json.loads((await self._client.post(self.url, json=body)).content)
        except (httpx.HTTPError, ValueError) as e:
            raise Fault("silent", f"{method}: {type(e).__name__}") from e
        if not isinstance(answer, dict) or answer.get("result") is None:
            raise Fault("silent", f"{method}: no result")
        return answer["result"]

    async def height(self) -> int:
        """Number of its newest block."""
        return int(await self.call("eth_blockNumber"), 16)

    async def head(self, number: int) -> Head:
        """Its block of that number, with the header checked."""
        block = await self.call("eth_getBlockByNumber", hex(number), False)
        try:
            encoded = rlp.encode([_field(name, block[name]) for name in FIELDS if block.get(name) is not None])
            state_root = bytes.fromhex(block["stateRoot"][2:])
            head = Head(int(block["number"], 16), keccak(encoded), state_root, int(block["timestamp"], 16))
            claimed = bytes.fromhex(block["hash"][2:])
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise Fault("header", f"block {number}: malformed") from e
        if head.hash != claimed or head.number != number:
            raise Fault("header", f"block {number}: its header does not hash to {block['hash']}")
        return head

    async def prove(self, head: Head, address: str, slots: Sequence[bytes]) -> list[int]:
        """Values of a contract's slots under a head."""
        got = await self.call("eth_getProof", address, ["0x" + s.hex() for s in slots], hex(head.number))
        try:
            nodes = [bytes.fromhex(node[2:]) for node in got["accountProof"]]
            account = mpt.account(head.state_root, bytes.fromhex(address[2:]), nodes, keccak)
            if account is None:
                raise Fault("proof", f"{address} is no contract in block {head.number}")
            entries = [[bytes.fromhex(node[2:]) for node in entry["proof"]] for entry in got["storageProof"]]
            return [mpt.storage(account[2], slot, proof, keccak) for slot, proof in zip(slots, entries, strict=True)]
        except (mpt.ProofError, KeyError, TypeError, ValueError, AttributeError) as e:
            raise Fault("proof", f"block {head.number}: {e}") from e

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


class LightClient:
    """Heads by quorum, values by proof. `reorg` is how many blocks may be taken back, `stale` how far one may lag."""

    def __init__(
        self,
        urls: Sequence[str],
        quorum: int,
        confirmations: int = 0,
        reorg: int = 64,
        stale: int = 8,
        timeout: float = 5.0,
        beacon: Callable[[Report], BeaconClient] | None = None,
    ) -> None:
        self._endpoints = [Endpoint(url, timeout) for url in urls]
        self._quorum, self._confirmations = quorum, confirmations
        self._reorg, self._stale = reorg, stale
        self._seen: dict[int, bytes] = {}
        self._reads: Batches[Slots, Values] = Batches(self._read_all, MOST)
        self._beacon = beacon(report) if beacon is not None else None

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(e.close() for e in self._endpoints))
        if self._beacon is not None:
            await self._beacon.close()

    def _name(self, endpoint: Endpoint, fault: Fault) -> None:
        report(endpoint.name, fault.kind, str(fault))

    async def _ask(self, endpoint: Endpoint, question: Awaitable[T]) -> T | None:
        try:
            return await question
        except Fault as fault:
            self._name(endpoint, fault)
            return None

    async def head(self) -> tuple[Head, list[Endpoint]]:
        """The newest block that a quorum has, `confirmations` deep, and who has it; with beacon nodes the newest that
        its committee vouches for. Raises ChainError."""
        if self._beacon is not None:
            return await self._signed_head(self._beacon), self._endpoints
        heights = await asyncio.gather(*(self._ask(e, e.height()) for e in self._endpoints))
        known = {e: h for e, h in zip(self._endpoints, heights, strict=True) if h is not None}
        if len(known) < self._quorum:
            raise ChainError(f"{len(known)} of {len(self._endpoints)} endpoints answer, {self._quorum} are needed")
        top = sorted(known.values(), reverse=True)[self._quorum - 1]
        number = max(0, top - self._confirmations)
        for endpoint, height in known.items():
            if height < top - self._stale:
                self._name(endpoint, Fault("stale", f"its newest block is {height}, a quorum has {top}"))
        able = [e for e, height in known.items() if height >= number]
        heads = await asyncio.gather(*(self._ask(e, e.head(number)) for e in able))
        groups: dict[bytes, list[tuple[Endpoint, Head]]] = {}
        for endpoint, head in zip(able, heads, strict=True):
            if head is not None:
                groups.setdefault(head.hash, []).append((endpoint, head))
        return self._choose(number, groups)

    async def _signed_head(self, beacon: BeaconClient) -> Head:
        try:
            found = await beacon.head()
        except NoHead as e:
            raise ChainError(f"beacon: {e}") from e
        head = Head(found.number, found.hash, found.state_root, found.time)
        self._follow(head)
        return head

    def _choose(self, number: int, groups: dict[bytes, list[tuple[Endpoint, Head]]]) -> tuple[Head, list[Endpoint]]:
        enough = [members for members in groups.values() if len(members) >= self._quorum]
        if len(enough) != 1:
            for members in groups.values():
                for endpoint, head in members:
                    self._name(endpoint, Fault("fork", f"block {number} is {head.hash.hex()}: no quorum"))
            raise ChainError(f"block {number}: {len(enough)} forks have {self._quorum} endpoints behind them")
        head = enough[0][0][1]
        for members in groups.values():
            if members is not enough[0]:
                for endpoint, other in members:
                    self._name(endpoint, Fault("fork", f"block {number} is {other.hash.hex()} there"))
        self._follow(head)
        return head, [endpoint for endpoint, _ in enough[0]]

    def _follow(self, head: Head) -> None:
        """Remember the head; refuse one that takes back more than `reorg` blocks. Raises ChainError."""
        newest = max(self._seen, default=head.number)
        if head.number < newest - self._reorg:
            raise ChainError(f"the head went back from block {newest} to {head.number}, {self._reorg} are allowed")
        changed = self._seen.get(head.number, head.hash) != head.hash
        if changed:
            log.warning("chain.reorganised", block=head.number, newest=newest)
        kept = {n: h for n, h in self._seen.items() if newest - self._reorg <= n and not (changed and n > head.number)}
        self._seen = kept | {head.number: head.hash}

    async def read(self, address: str, slots: Sequence[bytes]) -> tuple[Head, list[int]]:
        """A contract's storage slots under the newest head, proved. What is asked while a read is under way goes
        together in the next one, under a head that is newer than all of its questions. Raises ChainError."""
        return await self._reads.submit((address, slots))

    async def _read_all(self, jobs: Sequence[Slots]) -> list[Values | Exception]:
        wanted: dict[str, list[bytes]] = {}
        for address, slots in jobs:
            wanted.setdefault(address, []).extend(slots)
        found: dict[str, tuple[Head, dict[bytes, int]]] = {}
        why = ""
        for attempt in range(3):  # a node may be in the middle of a block, or have dropped an older one's state
            await asyncio.sleep(0.6 * attempt)
            try:
                head, behind = await self.head()
            except ChainError as e:
                why = str(e)
                break
            left = [address for address in wanted if address not in found]
            proved = await asyncio.gather(*(self._prove(head, behind, a, wanted[a]) for a in left))
            found |= {a: (head, got) for a, got in zip(left, proved, strict=True) if got is not None}
            if len(found) == len(wanted):
                break
            why = f"no endpoint proves it in block {head.number}"
        results: list[Values | Exception] = []
        for address, slots in jobs:
            if address in found:
                head, values = found[address]
                results.append((head, [values[slot] for slot in slots]))
            else:
                results.append(ChainError(f"storage of {address}: {why}"))
        return results

    async def _prove(
        self, head: Head, behind: Sequence[Endpoint], address: str, slots: Sequence[bytes]
    ) -> dict[bytes, int] | None:
        """Values by slot from the first endpoint that proves them."""
        once = list(dict.fromkeys(slots))
        for endpoint in behind:
            values = await self._ask(endpoint, endpoint.prove(head, address, once))
            if values is not None:
                return dict(zip(once, values, strict=True))
        return None


def _field(name: str, text: str) -> bytes:
    """A header's field out of JSON-RPC's hex: a number without leading zeros, or data as it is."""
    if name not in QUANTITIES:
        return bytes.fromhex(text[2:])
    number = int(text, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
