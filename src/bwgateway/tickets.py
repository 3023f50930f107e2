"""Opening and redeeming tickets: the spent set and the meter (docs/protocol.md section 6).

Opening inserts the ticket's id, H(w_0), under a primary key: of any number of openers the first wins. Redeeming moves
the ticket's (index, preimage) forward by hashing from the last known preimage, and adds the difference to the
relay's units in the same transaction; the update names the old index, so no unit is counted twice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from typing import Any

from nacl.signing import SigningKey
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Again, Database
from bwgateway.mint import MintKey, MintKeys
from bwgateway.payword import ticket_id, walk
from bwgateway.promises import Counted, Promises
from bwgateway.schema import relays, tickets

RECEIPT_PREFIX = b"bwrouter/1 receipt\n"
NOBODY = bytes(32)
"""Owner of a ticket that was refunded without ever having been opened."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Opening:
    """A ticket as a relay shows it: key id 8, anchor 32, output 64 bytes, and the units it claims."""

    key: bytes
    anchor: bytes
    output: bytes
    units: int

    @cached_property
    def id(self) -> bytes:
        """H(w_0), 32 bytes."""
        return ticket_id(self.anchor)


@dataclass(frozen=True)
class Item:
    """One meter reading: ticket id, cumulative index, w_index (32 bytes). `final`: the relay is through with it."""

    id: bytes
    index: int
    preimage: bytes
    final: bool = False


@dataclass(frozen=True)
class Reading:
    """How far a ticket is: index, w_index, whether it is closed."""

    index: int
    preimage: bytes
    closed: bool


def _refuse(id: bytes, code: str) -> Result:
    return {"id": id.hex(), "ok": False, "code": code}


async def _rows(connection: AsyncConnection, ids: Iterable[bytes]) -> dict[bytes, Any]:
    wanted = list(ids)
    if not wanted:
        return {}
    rows = await connection.execute(select(tickets).where(tickets.c.id.in_(wanted)))
    return {bytes(row.id): row for row in rows}


def check(keys: MintKeys, openings: Sequence[Opening], region: int) -> dict[Opening, str | MintKey]:
    """For each opening the key that signed it, or why it is refused. This is the costly part (an exponentiation each)
    and needs no ledger."""
    now = time.time()
    return {opening: _verdict(keys, opening, region, now) for opening in openings}


def _verdict(keys: MintKeys, opening: Opening, region: int, now: float) -> str | MintKey:
    key = keys.find(opening.key, now)
    if key is None:
        return "expired"
    if key.units != opening.units:
        return "units"
    if not key.verify(opening.anchor, opening.output):
        return "forged"
    return key if key.region == region else "region"


async def bind(
    db: Database, connection: AsyncConnection, asked: Sequence[tuple[bytes, dict[Opening, str | MintKey]]]
) -> dict[bytes, bytes]:
    """Bind every good ticket of (relay, verdicts) to its relay unless another has it; the owner of each, by id."""
    now = int(time.time())
    rows: dict[bytes, dict[str, Any]] = {}
    for relay, verdicts in asked:
        for opening, key in verdicts.items():
            if isinstance(key, MintKey) and opening.id not in rows:
                rows[opening.id] = {
                    "id": opening.id,
                    "key_id": key.id,
                    "region": key.region,
                    "units": key.units,
                    "relay": relay,
                    "index": 0,
                    "preimage": opening.anchor,
                    "opened_at": now,
                    "moved_at": now,
                    "closed": False,
                    "refunded": 0,
                }
    # In one order everywhere: no deadlock between batches of several processes.
    bound = await db.insert_missing(connection, tickets, [rows[id] for id in sorted(rows)])
    owners = {id: rows[id]["relay"] for (id,) in bound}
    others = await _rows(connection, rows.keys() - owners.keys())
    return owners | {id: bytes(row.relay) for id, row in others.items()}


def opened(
    relay: bytes, openings: Sequence[Opening], verdicts: dict[Opening, str | MintKey], owners: dict[bytes, bytes]
) -> list[Result]:
    """A result for each opening, in order."""
    results = []
    for opening in openings:
        verdict = verdicts[opening]
        if isinstance(verdict, str):
            results.append(_refuse(opening.id, verdict))
        elif owners[opening.id] != relay:
            results.append(_refuse(opening.id, "spent" if owners[opening.id] == NOBODY else "elsewhere"))
        else:
            results.append({"id": opening.id.hex(), "ok": True, "units": verdict.units})
    return results


async def redeem(
    db: Database,
    connection: AsyncConnection,
    receipts: Receipts,
    promises: Promises,
    asked: Sequence[tuple[bytes, Sequence[Item]]],
    accounts: Mapping[bytes, str | None],
) -> list[Result]:
    """Count the meter readings of (relay, items); for each `results`, one for each item in order, and the relay's
    `bonded` receipts (`promises`). `accounts`: the payout of each relay, lower case, as far as it is known."""
    await promises.enter(connection)
    rows = await _rows(connection, sorted({item.id for _, items in asked for item in items}))
    state = {id: Reading(row.index, bytes(row.preimage), row.closed) for id, row in rows.items()}
    codes = [[_advance(relay, item, rows.get(item.id), state) for item in items] for relay, items in asked]
    await _store(db, connection, rows, state)
    counted = await _add(db, connection, {relay for relay, _ in asked}, rows, state)
    bonded = await promises.give(connection, counted, accounts)

    def result(relay: bytes, item: Item, code: str) -> Result:
        if code:
            return _refuse(item.id, code)
        index = state[item.id].index
        receipt = receipts.sign(relay, item.id, index, counted[relay, rows[item.id].region].units)
        return {"id": item.id.hex(), "ok": True, "index": index, "receipt": receipt.hex()}

    return [
        {
            "results": [result(relay, item, code) for item, code in zip(items, verdicts, strict=True)],
            "bonded": bonded.get(relay, []),
        }
        for (relay, items), verdicts in zip(asked, codes, strict=True)
    ]


def _advance(relay: bytes, item: Item, row: Any, state: dict[bytes, Reading]) -> str:
    """Move `state` by one item; empty when it holds (or is behind what is known), else why not."""
    if row is None:
        return "unknown"
    if bytes(row.relay) != relay:
        return "elsewhere"
    if not 0 <= item.index <= row.units:
        return "index"
    now = state[item.id]
    closed = now.closed or item.final
    if item.index <= now.index:  # late or repeated: nothing to count, and the answer names what is
        if not compare_digest(walk(now.preimage, now.index - item.index), item.preimage):
            return "preimage"
        state[item.id] = Reading(now.index, now.preimage, closed)
        return ""
    if not compare_digest(walk(item.preimage, item.index - now.index), now.preimage):
        return "preimage"
    if item.index > row.units - row.refunded:
        return "refunded"
    state[item.id] = Reading(item.index, item.preimage, closed)
    return ""


async def _store(
    db: Database, connection: AsyncConnection, rows: dict[bytes, Any], state: dict[bytes, Reading]
) -> None:
    """Write the moved tickets. Raises Again when another process moved or refunded one of them meanwhile."""
    moved = [
        (id, rows[id].index, rows[id].refunded, reading.index, reading.preimage, reading.closed)
        for id, reading in sorted(state.items())
        if reading.index > rows[id].index or reading.closed != rows[id].closed
    ]
    if not moved:
        return
    names, now = ("b_id", "b_old", "b_refunded", "b_index", "b_preimage", "b_closed"), int(time.time())
    if db.sqlite:
        done = await connection.execute(_MOVE, [{**dict(zip(names, row, strict=True)), "b_now": now} for row in moved])
    else:
        columns = zip(*moved, strict=True)
        done = await connection.execute(_MOVE_MANY, {**dict(zip(names, map(list, columns), strict=True)), "b_now": now})
    if done.rowcount != len(moved):
        raise Again


_MOVE = (
    update(tickets)
    .where(
        tickets.c.id == bindparam("b_id"),
        tickets.c.index == bindparam("b_old"),
        tickets.c.refunded == bindparam("b_refunded"),
    )
    .values(
        index=bindparam("b_index"),
        preimage=bindparam("b_preimage"),
        closed=bindparam("b_closed"),
        moved_at=bindparam("b_now"),
    )
)
# PostgreSQL: one statement for all, instead of one for each that crosses the socket.
_MOVE_MANY = text(
    """UPDATE tickets SET index = m.index, preimage = m.preimage, closed = m.closed, moved_at = :b_now
    FROM unnest(CAST(:b_id AS bytea[]), CAST(:b_old AS int[]), CAST(:b_refunded AS int[]), CAST(:b_index AS int[]),
    CAST(:b_preimage AS bytea[]), CAST(:b_closed AS bool[])) AS m (id, old, refunded, index, preimage, closed)
    WHERE tickets.id = m.id AND tickets.index = m.old AND tickets.refunded = m.refunded"""
)


async def _add(
    db: Database,
    connection: AsyncConnection,
    askers: set[bytes],
    rows: dict[bytes, Any],
    state: dict[bytes, Reading],
) -> dict[tuple[bytes, int], Counted]:
    """Add the gained units to the relays that asked; what they have then, by relay and region."""
    gained: dict[tuple[bytes, int], int] = defaultdict(int)
    for id, row in rows.items():
        if bytes(row.relay) in askers:
            gained[bytes(row.relay), row.region] += state[id].index - row.index
    totals = {}
    for (relay, region), units in sorted(gained.items()):
        statement = db.insert(relays).values(relay=relay, region=region, units=units, settled=0, promised=0)
        statement = statement.on_conflict_do_update(
            index_elements=[relays.c.relay, relays.c.region],
            set_={"units": relays.c.units + statement.excluded.units},
        ).returning(relays.c.units, relays.c.promised)
        totals[relay, region] = Counted(*(await connection.execute(statement)).one())
    return totals


class Receipts:
    """The gateway's signed promise that a redeem will be in a root.

    `relay 32 | ticket id 32 | index 2 | relay's units in all 8 | unix time 8 | Ed25519 signature 64`, little-endian;
    signed is `bwrouter/1 receipt\\n` and all before the signature.
    """

    SIZE = 146

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def sign(self, relay: bytes, id: bytes, index: int, units: int) -> bytes:
        """A receipt, SIZE bytes."""
        body = relay + id + index.to_bytes(2, "little") + units.to_bytes(8, "little")
        body += int(time.time()).to_bytes(8, "little")
        return body + self._key.sign(RECEIPT_PREFIX + body).signature
