"""Opening and redeeming tickets: the spent set and the meter (docs/protocol.md section 6).

Opening inserts the ticket's id, H(w_0), under a primary key: of any number of openers the first wins. Redeeming moves
the ticket's (index, preimage) forward by hashing from the last known preimage, and adds the difference to the
relay's units in the same transaction; the update names the old index, so no unit is counted twice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from typing import Any

from nacl.signing import SigningKey
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Again, Database
from bwgateway.mint import MintKey, MintKeys
from bwgateway.payword import ticket_id, walk
from bwgateway.schema import relays, tickets

RECEIPT_PREFIX = b"bwrouter/1 receipt\n"


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
    """One meter reading: ticket id, cumulative index, w_index (32 bytes)."""

    id: bytes
    index: int
    preimage: bytes


def refuse(id: bytes, code: str) -> dict[str, Any]:
    """The result of a refused ticket."""
    return {"id": id.hex(), "ok": False, "code": code}


async def known(db: Database, ids: Sequence[bytes]) -> dict[bytes, Any]:
    """Rows of the tickets that are open, by id."""
    async with db.read() as connection:
        return await _rows(connection, ids)


async def _rows(connection: AsyncConnection, ids: Sequence[bytes]) -> dict[bytes, Any]:
    rows = await connection.execute(select(tickets).where(tickets.c.id.in_(list(ids))))
    return {bytes(row.id): row for row in rows}


def check(
    keys: MintKeys, openings: Sequence[Opening], seen: dict[bytes, Any], region: int
) -> dict[Opening, str | MintKey]:
    """For each opening not `seen` yet: the key that signed it, or why it is refused. This is the costly part (an
    exponentiation each) and runs before the transaction."""
    verdicts: dict[Opening, str | MintKey] = {}
    now = time.time()
    for opening in openings:
        if opening.id in seen or opening in verdicts:
            continue
        key = keys.find(opening.key, now)
        if key is None:
            verdicts[opening] = "expired"
        elif key.units != opening.units:
            verdicts[opening] = "units"
        elif not key.verify(opening.anchor, opening.output):
            verdicts[opening] = "forged"
        elif key.region != region:
            verdicts[opening] = "region"
        else:
            verdicts[opening] = key
    return verdicts


async def bind(
    db: Database,
    connection: AsyncConnection,
    relay: bytes,
    openings: Sequence[Opening],
    verdicts: dict[Opening, str | MintKey],
) -> list[dict[str, Any]]:
    """Bind every good ticket to `relay`, unless another has it; a result for each opening, in order."""
    fresh = {o.id: (o, v) for o in openings if isinstance(v := verdicts.get(o), MintKey)}
    now = int(time.time())
    values = [
        {
            "id": id,
            "key_id": key.id,
            "region": key.region,
            "units": key.units,
            "relay": relay,
            "index": 0,
            "preimage": o.anchor,
            "opened_at": now,
        }
        for id, (o, key) in sorted(fresh.items())  # in one order everywhere: no deadlock between batches
    ]
    if values:
        await connection.execute(db.insert(tickets).values(values).on_conflict_do_nothing())
    owners = await _rows(connection, [o.id for o in openings])
    return [_opened(relay, o, owners.get(o.id), verdicts.get(o)) for o in openings]


def _opened(relay: bytes, opening: Opening, row: Any, verdict: str | MintKey | None) -> dict[str, Any]:
    if isinstance(verdict, str):
        return refuse(opening.id, verdict)
    if row is None:
        return refuse(opening.id, "unknown")
    if bytes(row.relay) != relay:
        return refuse(opening.id, "elsewhere")
    return {"id": opening.id.hex(), "ok": True, "units": row.units}


async def redeem(
    db: Database, connection: AsyncConnection, receipts: Receipts, relay: bytes, items: Sequence[Item]
) -> list[dict[str, Any]]:
    """Count the meter readings of `relay`; a result for each item, in order."""
    rows = await _rows(connection, sorted({i.id for i in items}))
    state = {id: (row.index, bytes(row.preimage)) for id, row in rows.items()}
    codes: list[str] = []
    for item in items:
        row = rows.get(item.id)
        code = _advance(relay, item, row, state)
        codes.append(code)
    gained = await _store(connection, relay, rows, state)
    units = await _add(db, connection, relay, gained)
    return [
        refuse(item.id, code)
        if code
        else {
            "id": item.id.hex(),
            "ok": True,
            "index": state[item.id][0],
            "receipt": receipts.sign(relay, item.id, state[item.id][0], units[rows[item.id].region]).hex(),
        }
        for item, code in zip(items, codes, strict=True)
    ]


def _advance(relay: bytes, item: Item, row: Any, state: dict[bytes, tuple[int, bytes]]) -> str:
    """Move `state` by one item; empty when it holds (or is behind what is known), else why not."""
    if row is None:
        return "unknown"
    if bytes(row.relay) != relay:
        return "elsewhere"
    if not 0 <= item.index <= row.units:
        return "index"
    index, preimage = state[item.id]
    if item.index <= index:  # late or repeated: nothing to count, and the answer names what is
        return "" if compare_digest(walk(preimage, index - item.index), item.preimage) else "preimage"
    if not compare_digest(walk(item.preimage, item.index - index), preimage):
        return "preimage"
    state[item.id] = (item.index, item.preimage)
    return ""


async def _store(
    connection: AsyncConnection, relay: bytes, rows: dict[bytes, Any], state: dict[bytes, tuple[int, bytes]]
) -> dict[int, int]:
    """Write the moved tickets; units gained by region. Raises Moved when another request was faster."""
    moved = [
        {"b_id": id, "b_old": rows[id].index, "b_index": index, "b_preimage": preimage}
        for id, (index, preimage) in sorted(state.items())
        if index > rows[id].index
    ]
    if moved:
        statement = (
            update(tickets)
            .where(tickets.c.id == bindparam("b_id"), tickets.c.index == bindparam("b_old"))
            .values(index=bindparam("b_index"), preimage=bindparam("b_preimage"))
        )
        result = await connection.execute(statement, moved)
        if result.rowcount != len(moved):
            raise Moved
    gained: dict[int, int] = defaultdict(int)
    for id, row in rows.items():
        if bytes(row.relay) == relay:
            gained[row.region] += state[id][0] - row.index
    return gained


async def _add(db: Database, connection: AsyncConnection, relay: bytes, gained: dict[int, int]) -> dict[int, int]:
    """Add units to the relay; its units in all, by region."""
    totals = {}
    for region, units in sorted(gained.items()):
        statement = db.insert(relays).values(relay=relay, region=region, units=units, settled=0)
        statement = statement.on_conflict_do_update(
            index_elements=[relays.c.relay, relays.c.region], set_={"units": relays.c.units + units}
        ).returning(relays.c.units)
        totals[region] = (await connection.execute(statement)).scalar_one()
    return totals


class Moved(Again):
    """A ticket of this batch was moved by another request meanwhile: read again and repeat."""


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
