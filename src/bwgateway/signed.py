"""Signed requests and their single effect.

A request is signed over `"bwrouter/1 " + path + "\\n" + <body without "sig", keys sorted, no spaces>`; it carries
`time` (unix seconds) and `nonce` (16 bytes). (nonce, signer) is unique in the ledger and written in the same
transaction as the effect, so a request has its effect at most once: the same request again gets the stored answer, at
any later time; another request under a used nonce is refused. A client whose request was never seen to succeed and
whose `time` is out of the window may safely sign a new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.database import Again, Database
from bwgateway.problems import Problem
from bwgateway.schema import requests

WINDOW = 300
"""Seconds that `time` may be off the gateway's clock."""
Answer = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """An authenticated request: who, which nonce, and the digest of path and body."""

    signer: bytes
    nonce: bytes
    digest: bytes
    time: int


def message(path: str, body: dict[str, Any]) -> bytes:
    """The bytes that are signed."""
    unsigned = {k: v for k, v in body.items() if k != "sig"}
    text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"bwrouter/1 {path}\n{text}".encode()


def by_relay(path: str, body: dict[str, Any]) -> Request:
    """Authenticate a relay's request (Ed25519 by `relay`). Raises Problem 401."""
    relay = bytes.fromhex(body["relay"])
    signed = message(path, body)
    try:
        VerifyKey(relay).verify(signed, bytes.fromhex(body["sig"]))
    except (BadSignatureError, ValueError) as e:
        raise Problem(401, "signature", "sig: does not match relay, path and body", "sig") from e
    return _request(relay, signed, body)


def by_account(path: str, body: dict[str, Any]) -> Request:
    """Authenticate a buyer's request (EIP-191 personal message by `account`). Raises Problem 401."""
    account = body["account"].lower()
    signed = message(path, body)
    try:
        signer = Account.recover_message(encode_defunct(signed), signature=bytes.fromhex(body["sig"]))
    except Exception as e:  # eth_keys raises several unrelated types for a malformed signature
        raise Problem(401, "signature", "sig: is not a recoverable secp256k1 signature", "sig") from e
    if signer.lower() != account:
        raise Problem(401, "signature", "sig: does not match account, path and body", "sig")
    return _request(bytes.fromhex(account[2:]).rjust(32, b"\0"), signed, body)


def by_content(path: str, body: dict[str, Any]) -> Request:
    """A request that bears its own authority (a secret that it shows) and is known by its content alone."""
    digest = sha256(message(path, body)).digest()
    return Request(_NOBODY, digest[:16], digest, int(time.time()))


_NOBODY = bytes(32)


def _request(signer: bytes, signed: bytes, body: dict[str, Any]) -> Request:
    return Request(signer, bytes.fromhex(body["nonce"]), sha256(signed).digest(), int(body["time"]))


async def find(connection: AsyncConnection, wanted: Sequence[Request]) -> dict[Request, Answer | Problem]:
    """Of those requests whose nonce was used: the answer they got then, or the Problem that another used it."""
    query = select(requests).where(requests.c.nonce.in_([r.nonce for r in wanted]))
    rows = {(bytes(row.nonce), bytes(row.signer)): row for row in await connection.execute(query)}
    found: dict[Request, Answer | Problem] = {}
    for request in wanted:
        row = rows.get((request.nonce, request.signer))
        if row is not None:
            found[request] = json.loads(row.answer) if bytes(row.digest) == request.digest else nonce_used()
    return found


def nonce_used() -> Problem:
    """Another request had this nonce."""
    return Problem(409, "nonce-used", "nonce: was used by another request; take 16 fresh random bytes", "nonce")


async def record(db: Database, connection: AsyncConnection, answered: Sequence[tuple[Request, Answer]]) -> None:
    """Write requests with their answers. Raises Again when one was written meanwhile: what was done must not stand."""
    now = int(time.time())
    rows = [
        {
            "nonce": r.nonce,
            "signer": r.signer,
            "digest": r.digest,
            "answer": json.dumps(answer, separators=(",", ":")),
            "created_at": now,
        }
        for r, answer in sorted(answered, key=lambda entry: entry[0].nonce)
    ]
    if rows and len(await db.insert_missing(connection, requests, rows)) != len(rows):
        raise Again


async def stored(db: Database, request: Request) -> Answer | None:
    """The answer that this request got before, or None. Raises Problem 409 when its nonce served another."""
    async with db.read() as connection:
        found = (await find(connection, [request])).get(request)
    if isinstance(found, Problem):
        raise found
    return found


def check_time(request: Request) -> None:
    """Raises Problem 401 when the request's clock is further than WINDOW from ours."""
    off = request.time - int(time.time())
    if abs(off) > WINDOW:
        raise Problem(401, "time", f"time: is {off:+d} s off the gateway's clock, {WINDOW} s are allowed", "time")


async def once(db: Database, request: Request, effect: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
    """Give `request` its effect if it had none, in one transaction with its record, and return its answer."""

    async def work(connection: AsyncConnection) -> Answer | Problem:
        if (found := (await find(connection, [request])).get(request)) is not None:
            return found
        answer = await effect(connection)
        await record(db, connection, [(request, answer)])
        return answer

    answer = await db.transact(work)
    if isinstance(answer, Problem):
        raise answer
    return answer


async def forget(db: Database, before: int) -> int:
    """Drop records older than unix time `before` (must lie further back than WINDOW); the number dropped."""
    async with db.write() as connection:
        return int((await connection.execute(delete(requests).where(requests.c.created_at < before))).rowcount)
