"""GET /v1/accounts, /v1/earnings and /v1/epochs: what the ledger and the chain say."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from sqlalchemy import select

from bwgateway import accounts
from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.api.register import Address, Relay
from bwgateway.gateway import Gateway
from bwgateway.merkle import leaf
from bwgateway.mint import UNIT_WEI
from bwgateway.problems import Problem
from bwgateway.schema import epochs, relays

router = APIRouter()
Region = Annotated[int, Path(ge=1, le=65535)]


@router.get("/v1/accounts/{address}/{region}", response_model=bodies.Account, summary="A buyer's account")
async def account(address: Address, region: Region, request: Request) -> dict[str, str]:
    """Reads the deposit from the chain. Whole units only: less than a unit is kept but can't be issued."""
    gateway = gateway_of(request)
    deposit = await gateway.chain.deposit(address, region)
    found = await accounts.credit(gateway.db, address.lower(), region, deposit)
    return {
        "deposited_wei": str(found.deposited * UNIT_WEI),
        "issued_wei": str(found.issued * UNIT_WEI),
        "balance_wei": str(found.balance * UNIT_WEI),
    }


@router.get("/v1/earnings/{relay}", response_model=bodies.Earnings, summary="A relay's earnings, with proof")
async def earnings(relay: Relay, request: Request) -> dict[str, Any]:
    """Units are redeemed in all; `cumulative_wei` is what they earn, less the share for gas; `posted` proves the
    payout's leaf in the newest root that is on chain. Relays that share a payout share its leaf."""
    gateway = gateway_of(request)
    stake = await gateway.chain.stake(bytes.fromhex(relay))
    if stake is None:
        raise Problem(404, "unregistered", "relay: is not registered on the chain", "relay")
    payout = stake.payout.lower()
    async with gateway.db.read() as connection:
        query = select(relays.c.units).where(relays.c.relay == bytes.fromhex(relay), relays.c.region == stake.region)
        units = (await connection.execute(query)).scalar_one_or_none() or 0
    return {
        "payout": stake.payout,
        "region": stake.region,
        "units": units,
        "cumulative_wei": str(gateway.settlement.relays_wei(units)),
        "posted": await _posted(gateway, stake.region, payout),
        "claimed_wei": str(await gateway.chain.claimed(stake.region, payout)),
        "balance_wei": str(await gateway.chain.balance(stake.region, payout)),
    }


async def _posted(gateway: Gateway, region: int, payout: str) -> dict[str, Any] | None:
    async with gateway.db.read() as connection:
        query = select(epochs).where(epochs.c.region == region, epochs.c.state.in_(["posted", "settled"]))
        row = (await connection.execute(query.order_by(epochs.c.number.desc()).limit(1))).first()
    if row is None:
        return None
    tree, sums = await gateway.settlement.tree(region, row.number)
    if payout not in sums:
        return None
    return {
        "epoch": row.number,
        "root": bytes(row.root).hex(),
        "cumulative_wei": str(sums[payout]),
        "proof": [p.hex() for p in tree.proof(leaf(bytes.fromhex(payout[2:]), sums[payout]))],
        "final": row.state == "settled",
    }


@router.get("/v1/epochs", response_model=bodies.Epochs, summary="Settlement roots")
async def listing(request: Request) -> dict[str, Any]:
    """The newest hundred."""
    async with gateway_of(request).db.read() as connection:
        rows = (await connection.execute(select(epochs).order_by(epochs.c.number.desc()).limit(100))).all()
    return {
        "epochs": [
            {
                "region": row.region,
                "number": row.number,
                "state": row.state,
                "root": bytes(row.root).hex(),
                "total_wei": row.total_wei,
                "closed_at": row.closed_at,
                "claimable_at": row.claimable_at,
                "tx": bytes(row.posted_tx).hex() if row.posted_tx else None,
            }
            for row in rows
        ]
    }
