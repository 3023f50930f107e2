"""GET /v1/proofs and POST /v1/payout, /v1/rate, /v1/unstake: a router's own checks and its owner's decisions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.api.ledger import Region
from bwgateway.api.register import Address, Relay
from bwgateway.chain.answers import Reverted
from bwgateway.problems import Problem

router = APIRouter()
Wallet = Annotated[str | None, Query(pattern="^0x[0-9a-fA-F]{40}$")]
_MINED_SECONDS = 5.0


@router.get(
    "/v1/proofs/{relay}/{region}/{payout}",
    response_model=bodies.Proofs,
    response_model_exclude_none=True,
    summary="Proofs of a relay's stake and root",
)
async def proofs(
    relay: Relay, region: Region, payout: Address, request: Request, wallet: Wallet = None
) -> dict[str, Any]:
    """The newest block's header and EIP-1186 proofs: the relay's two words in StakeRegistry; this gateway's final root,
    pending root and totals in Settlement, and what it has paid to `payout`. With `wallet`,
    `token` proves the BWT that it holds."""
    owner = bytes.fromhex(wallet[2:]) if wallet else None
    return await gateway_of(request).chain.proofs(bytes.fromhex(relay), region, bytes.fromhex(payout[2:]), owner)


@router.post("/v1/payout", response_model=bodies.Registering, summary="Bring a signed change of payout on chain")
async def payout(body: bodies.SetPayout, request: Request) -> dict[str, Any]:
    """Sends StakeRegistry.setPayout and pays its gas."""
    return await _bring(request, "setPayout", body, [body.payout])


@router.post("/v1/rate", response_model=bodies.Registering, summary="Bring a signed change of rate on chain")
async def rate(body: bodies.SetRate, request: Request) -> dict[str, Any]:
    """Sends StakeRegistry.setRate and pays its gas."""
    return await _bring(request, "setRate", body, [body.rate_kbps])


@router.post("/v1/unstake", response_model=bodies.Registering, summary="Bring a signed notice on chain")
async def unstake(body: bodies.Unstake, request: Request) -> dict[str, Any]:
    """Sends StakeRegistry.unstake and pays its gas. The stake stays within reach of verdicts until it is withdrawn."""
    return await _bring(request, "unstake", body, [])


async def _bring(request: Request, name: str, body: bodies.Decision, arguments: list[Any]) -> dict[str, Any]:
    chain = gateway_of(request).chain
    relay = bytes.fromhex(body.relay)
    every = [relay, *arguments, body.deadline, bytes.fromhex(body.sig)]
    try:
        hash = await chain.decide(f"{name}:{body.sig[:64]}", name, every)
    except Reverted as e:
        raise Problem(422, "reverted", f"StakeRegistry refuses: {e}") from e
    mined = await chain.outcome(hash, _MINED_SECONDS)
    if mined is False:
        raise Problem(409, "failed", f"the transaction {hash.hex()} failed on chain; sign again")
    if mined:
        await chain.stake(relay, fresh=True)
    return {"tx": hash.hex(), "state": "mined" if mined else "sent"}
