"""POST /v1/register, GET /v1/nonces and /v1/stake: the registry for routers without a gas coin."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.chain.answers import Reverted
from bwgateway.problems import Problem

router = APIRouter()
_MINED_SECONDS = 5.0
Relay = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Address = Annotated[str, Path(pattern="^0x[0-9a-fA-F]{40}$")]


@router.post("/v1/register", response_model=bodies.Registering, summary="Bring a signed registration on chain")
async def register(body: bodies.Register, request: Request) -> dict[str, Any]:
    """Sends StakeRegistry.register and pays its gas. The same registration again sends nothing new."""
    gateway = gateway_of(request)
    if not int(body.stake) < 2**256:
        raise Problem(422, "stake", "stake: must be below 2^256 wei", "stake")
    registration: dict[str, Any] = {
        "relay": bytes.fromhex(body.relay),
        "owner": body.owner,
        "payout": body.payout,
        "region": body.region,
        "rate_kbps": body.rate_kbps,
        "stake": int(body.stake),
        "deadline": body.deadline,
        "sig": bytes.fromhex(body.sig),
        "permit_sig": bytes.fromhex(body.permit_sig),
    }
    try:
        hash = await gateway.chain.register(f"register:{body.sig[:64]}", registration)
    except Reverted as e:
        raise Problem(422, "reverted", f"StakeRegistry refuses: {e}") from e
    mined = await gateway.chain.outcome(hash, _MINED_SECONDS)
    if mined is False:
        raise Problem(409, "failed", f"the transaction {hash.hex()} failed on chain; sign again")
    if mined:
        await gateway.chain.stake(registration["relay"], fresh=True)
    return {"tx": hash.hex(), "state": "mined" if mined else "sent"}


@router.get("/v1/nonces/{address}", response_model=bodies.Nonces, summary="Next EIP-712 nonces")
async def nonces(address: Address, request: Request) -> dict[str, int]:
    """`register`: of the owner in StakeRegistry; `permit`: in BWT."""
    return await gateway_of(request).chain.nonces(address)


@router.get(
    "/v1/stake/{relay}", response_model=bodies.Stake, response_model_exclude_none=True, summary="A relay's stake"
)
async def stake(relay: Relay, request: Request) -> dict[str, Any]:
    """As the registry has it now."""
    entry = await gateway_of(request).chain.stake(bytes.fromhex(relay), fresh=True)
    if entry is None:
        return {"relay": relay, "stake": "0", "state": "none"}
    return {
        "relay": relay,
        "owner": entry.owner,
        "payout": entry.payout,
        "region": entry.region,
        "rate_kbps": entry.rate,
        "stake": str(entry.stake),
        "state": entry.state,
    }
