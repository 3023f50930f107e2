"""Evidence of audits: what verifiers post of their measurements, checked before it is kept.

A record counts when its path leads to the root that the verifier signed, the verifier has revealed a report on that
relay in that epoch on the chain, and the relay itself has signed the statement that closes the proof under the record's
seed. So nobody can post a measurement that was never made, another's, or an old one again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from sqlalchemy import select

from bwgateway.chain.contracts import Contracts
from bwgateway.database import Database
from bwgateway.problems import Problem
from bwgateway.schema import evidence

_STATEMENT = 44
_PROVE = b"bwrouter/1 prove"
_NAME = slice(4, 20)


def _refuse(code: str, detail: str, field: str = "records") -> Problem:
    return Problem(422, code, f"{field}: {detail}", field)


def check_signer(verifier: str, epoch: int, root: bytes, signature: bytes) -> None:
    """Raises Problem unless `verifier` signed the epoch's root."""
    text = f"bwrouter/1 evidence {epoch} {root.hex()}"
    try:
        found = str(Account.recover_message(encode_defunct(text=text), signature=signature))
    except Exception as e:  # eth_keys raises several unrelated types for a malformed signature
        raise Problem(401, "signature", "sig: is not a recoverable secp256k1 signature", "sig") from e
    if found.lower() != verifier.lower():
        raise Problem(401, "signature", "sig: does not match verifier, epoch and root", "sig")


def leads_to(record: str, path: Sequence[dict[str, Any]]) -> bytes:
    """The root to which an audit path (RFC 6962 section 2.1.1) leads."""
    here = sha256(b"\0" + record.encode()).digest()
    for step in path:
        sibling = bytes.fromhex(step["hash"])
        here = sha256(b"\1" + (sibling + here if step["left"] else here + sibling)).digest()
    return here


def check_record(record: str, epoch: int) -> tuple[bytes, bytes, int]:
    """(relay, seed, kbit/s) of a measurement of that epoch. Raises Problem where it is not one."""
    try:
        told = json.loads(record)
        relay, seed, close = (bytes.fromhex(told[name]) for name in ("relay", "seed", "close"))
        of, kbps = int(told["epoch"]), int(told["kbps"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise _refuse("record", "a record without relay, seed, close, epoch or kbps") from e
    if of != epoch or len(relay) != 32 or len(seed) != 32:
        raise _refuse("record", f"a record of epoch {of}, not {epoch}, or of no relay")
    if not close:
        if kbps:
            raise _refuse("unproved", "a rate without the relay's closing statement")
        return relay, seed, kbps
    try:
        VerifyKey(relay).verify(_PROVE + close[:_STATEMENT], close[_STATEMENT:])
    except (BadSignatureError, ValueError) as e:
        raise _refuse("unproved", "a closing statement that the relay has not signed") from e
    if close[_NAME] != sha256(seed).digest()[:16]:
        raise _refuse("unproved", "a closing statement of another seed")
    chunks = struct.unpack_from("<I", close, 20)[0]
    if int(told.get("chunks", 0)) > chunks:
        raise _refuse("unproved", "more chunks than the relay has sent")
    return relay, seed, kbps


async def store(db: Database, chain: Contracts, body: dict[str, Any]) -> int:
    """Check and keep a body of POST /v1/evidence; how many of its records are kept. Raises Problem."""
    verifier, epoch, root = body["verifier"].lower(), body["epoch"], bytes.fromhex(body["root"])
    signature = bytes.fromhex(body["sig"])
    check_signer(verifier, epoch, root, signature)
    rows: list[dict[str, Any]] = []
    revealed: dict[bytes, int | None] = {}
    for leaf in body["records"]:
        if leads_to(leaf["record"], leaf["path"]) != root:
            raise _refuse("path", "a record whose path does not lead to the root")
        relay, seed, _ = check_record(leaf["record"], epoch)
        if relay not in revealed:
            revealed[relay] = await chain.revealed(relay, epoch, verifier)
        if revealed[relay] is None:
            detail = f"verifier: revealed no report on {relay.hex()} in epoch {epoch}"
            raise Problem(403, "no-report", detail, "verifier")
        rows.append({"relay": relay, "epoch": epoch, "verifier": verifier, "seed": seed, "record": leaf["record"],
                     "path": json.dumps(leaf["path"]), "root": root, "signature": signature})  # fmt: skip
    async with db.write() as connection:
        for row in rows:
            old = (await connection.execute(select(evidence).where(evidence.c.seed == row["seed"]))).first()
            if old is not None and (bytes(old.relay), old.epoch, old.verifier) != (row["relay"], epoch, verifier):
                raise Problem(409, "replayed", "records: a seed that another audit has used", "records")
            await connection.execute(db.insert(evidence).values(**row).on_conflict_do_nothing())
    return len(rows)


async def of_audit(db: Database, relay: bytes, epoch: int) -> list[dict[str, Any]]:
    """All evidence on one audit."""
    query = select(evidence).where(evidence.c.relay == relay, evidence.c.epoch == epoch)
    async with db.read() as connection:
        rows = (await connection.execute(query.order_by(evidence.c.verifier, evidence.c.seed))).all()
    return [
        {"verifier": row.verifier, "root": bytes(row.root).hex(), "sig": bytes(row.signature).hex(),
         "record": row.record, "path": json.loads(row.path)}
        for row in rows
    ]  # fmt: skip
