"""POST /v1/issue, /v1/open, /v1/redeem, /v1/refund and GET /v1/tickets."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import accounts, metrics, refunds, signed, tickets, vouchers
from bwgateway.api import bodies
from bwgateway.api.depend import admitted, gateway_of, once
from bwgateway.chain.answers import ChainError
from bwgateway.gateway import Gateway
from bwgateway.meter import Open, Redeem
from bwgateway.mint import UNIT_WEI, BadBlinded
from bwgateway.problems import Problem

router = APIRouter()


@router.post("/v1/issue", response_model=bodies.Issued, summary="Sign tickets blind against the deposit")
async def issue(body: bodies.Issue, request: Request) -> dict[str, Any]:
    """Debits `units` for each blinded element and answers with the evaluated elements and one proof."""
    gateway = gateway_of(request)
    authentic, answer = await once(gateway, request, "/v1/issue", signed.by_account)
    if answer is not None:
        return answer
    _check_batch(gateway, "blinded", len(body.blinded))
    key = gateway.mint.at(body.region, body.units, time.time())
    if key is None:
        raise Problem(422, "denomination", f"region {body.region} has no tickets of {body.units} units", "units")
    account, need, voucher = body.account.lower(), key.units * len(body.blinded), bytes.fromhex(body.voucher)
    known = await _ensure(gateway, account, key.region, need)
    after = known.issued + need
    _check_voucher(gateway, account, key.region, after * UNIT_WEI, voucher)
    try:
        evaluated, proof = key.evaluate([bytes.fromhex(b) for b in body.blinded])
    except BadBlinded as e:
        raise Problem(422, "blinded", str(e), "blinded") from e

    async def effect(connection: AsyncConnection) -> dict[str, Any]:
        left = await accounts.debit(connection, account, key.region, need, after, voucher)
        if left is None:
            raise Problem(409, "voucher", "another issue for this account was faster; read the account and sign anew")
        return {
            "key_id": key.id.hex(),
            "evaluated": [e.hex() for e in evaluated],
            "proof": proof.hex(),
            "balance": str(left.balance * UNIT_WEI),
        }

    answer = await signed.once(gateway.db, authentic, effect)
    metrics.issued.labels(str(key.region)).inc(need)
    return answer


async def _ensure(gateway: Gateway, account: str, region: int, need: int) -> accounts.Account:
    """The account, looked up on the chain when the known deposit does not cover `need` units. Raises Problem 402."""
    async with gateway.db.read() as connection:
        known = await accounts.read(connection, account, region)
    if known.balance < need:
        known = await accounts.credit(gateway.db, account, region, await gateway.chain.deposit(account, region))
    if known.balance < need:
        raise Problem(
            402,
            "deposit",
            f"the deposit covers {known.balance} units, {need} are asked; deposit more or wait for the chain",
        )
    return known


def _check_voucher(gateway: Gateway, account: str, region: int, cumulative: int, voucher: bytes) -> None:
    digest = vouchers.digest(gateway.spend_domain, gateway.keys.operator.address, region, account, cumulative)
    if vouchers.signer(digest, voucher) != account:
        raise Problem(
            409, "voucher", f"voucher: must be the account's Spend of {cumulative} wei in all, r, s, v", "voucher"
        )


def _check_batch(gateway: Gateway, field: str, count: int) -> None:
    most = gateway.settings.mint.batch
    if count > most:
        raise Problem(422, "batch", f"{field}: {count} in one request, at most {most} are allowed", field)


@router.post(
    "/v1/open", response_model=bodies.Opened, response_model_exclude_none=True, summary="Bind tickets to a relay"
)
async def open_tickets(body: bodies.Open, request: Request) -> JSONResponse:
    """The first relay that opens a ticket owns it; the same relay may ask again."""
    gateway = gateway_of(request)
    authentic = await admitted(gateway, request, "/v1/open", signed.by_relay)
    _check_batch(gateway, "tickets", len(body.tickets))
    stake = await gateway.chain.stake(authentic.signer)
    if stake is None or not stake.reachable:
        raise Problem(403, "unregistered", "relay: is not registered and staked on the chain", "relay")
    openings = [
        tickets.Opening(bytes.fromhex(t.key), bytes.fromhex(t.anchor), bytes.fromhex(t.output), t.units)
        for t in body.tickets
    ]
    verdicts = tickets.check(gateway.mint, openings, stake.region)
    answer = await gateway.meter.open(Open(authentic, openings, verdicts))
    _count(metrics.opened, answer)
    return JSONResponse(answer)


@router.post("/v1/redeem", response_model=bodies.Redeemed, response_model_exclude_none=True, summary="Count preimages")
async def redeem(body: bodies.Redeem, request: Request) -> JSONResponse:
    """Moves each ticket's meter forward and signs a receipt; indices are cumulative, so repeats count nothing."""
    gateway = gateway_of(request)
    authentic = await admitted(gateway, request, "/v1/redeem", signed.by_relay)
    _check_batch(gateway, "items", len(body.items))
    items = [tickets.Item(bytes.fromhex(i.id), i.index, bytes.fromhex(i.preimage), i.final) for i in body.items]
    answer = await gateway.meter.redeem(Redeem(authentic, items, await _payout(gateway, authentic.signer)))
    _count(metrics.redeemed, answer)
    return JSONResponse(answer)


async def _payout(gateway: Gateway, relay: bytes) -> str | None:
    """Who is credited with what a relay redeems. Without the chain's word units count all the same, and are credited
    later."""
    try:
        stake = await gateway.chain.stake(relay)
    except ChainError:
        return None
    return stake.payout.lower() if stake else None


@router.get("/v1/tickets/{ticket}", response_model=bodies.TicketState, summary="How far a ticket is")
async def ticket(ticket: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], request: Request) -> dict[str, Any]:
    """By its id, H(w_0). 404 for one that nobody has opened or refunded."""
    gateway = gateway_of(request)
    found = await refunds.state(gateway.db, bytes.fromhex(ticket), gateway.settings.mint.close_seconds)
    if found is None:
        raise Problem(404, "unknown", "ticket: nobody has opened it")
    return found


@router.post("/v1/refund", response_model=bodies.Refunded, summary="Sign the rest of closed tickets anew, blind")
async def refund(body: bodies.Refund, request: Request) -> dict[str, Any]:
    """Whoever shows the last preimages gets what relays have not redeemed. The same body gets the same answer."""
    gateway = gateway_of(request)
    authentic = signed.by_content("/v1/refund", await request.json())
    if (answer := await signed.stored(gateway.db, authentic)) is not None:
        return answer
    _check_batch(gateway, "blinded", len(body.blinded))
    _check_batch(gateway, "tickets", len(body.tickets))
    key = gateway.mint.at(body.region, body.units, time.time())
    if key is None:
        raise Problem(422, "denomination", f"region {body.region} has no tickets of {body.units} units", "units")
    closings = [
        refunds.Closing(bytes.fromhex(t.key), bytes.fromhex(t.output), t.units, bytes.fromhex(t.top))
        for t in body.tickets
    ]
    if len({c.id for c in closings}) != len(closings):
        raise Problem(422, "twice", "tickets: one is named twice", "tickets")
    try:
        evaluated, proof = key.evaluate([bytes.fromhex(b) for b in body.blinded])
    except BadBlinded as e:
        raise Problem(422, "blinded", str(e), "blinded") from e
    need = key.units * len(body.blinded)

    async def effect(connection: AsyncConnection) -> dict[str, Any]:
        left = await refunds.take(
            gateway.db, connection, gateway.mint, key.region, closings, need, gateway.settings.mint.close_seconds
        )
        return {"key_id": key.id.hex(), "evaluated": [e.hex() for e in evaluated], "proof": proof.hex(), "left": left}

    answer = await signed.once(gateway.db, authentic, effect)
    metrics.refunded.labels(str(key.region)).inc(need)
    return answer


def _count(counter: Any, answer: dict[str, Any]) -> None:
    for verdict, count in Counter(r.get("code", "ok") for r in answer["results"]).items():
        counter.labels(verdict).inc(count)
