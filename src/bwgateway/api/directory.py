"""POST /v1/descriptors and GET /v1/directory."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import descriptors, directory, signed
from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.gateway import Gateway
from bwgateway.problems import Problem

router = APIRouter()


@router.post("/v1/descriptors", response_model=bodies.Published, summary="Publish a relay's descriptor")
async def publish(body: bodies.Descriptor, request: Request) -> dict[str, Any]:
    """Checks the relay's signature, its addresses and its stake on the chain, then adds the gateway's signature."""
    gateway = gateway_of(request)
    authentic = signed.by_relay("/v1/descriptors", await request.json())
    if (answer := await signed.stored(gateway.db, authentic)) is not None:
        return answer
    signed.check_time(authentic)
    raw = bytes.fromhex(body.descriptor)
    try:
        descriptor = descriptors.parse(raw)
    except descriptors.BadDescriptor as e:
        raise Problem(422, "descriptor", f"descriptor: {e}", "descriptor") from e
    if descriptor.relay != authentic.signer:
        raise Problem(403, "relay", "descriptor: belongs to another relay than the one that signs", "descriptor")
    await _check(gateway, descriptor)
    full = descriptors.countersign(raw, gateway.keys)

    async def effect(connection: AsyncConnection) -> dict[str, Any]:
        return await directory.publish(gateway.db, connection, descriptor.relay, full, descriptor.valid_until)

    return await signed.once(gateway.db, authentic, effect)


async def _check(gateway: Gateway, descriptor: descriptors.Descriptor) -> None:
    """Against clock and chain. Raises Problem."""
    ahead = descriptor.valid_until - int(time.time())
    most = gateway.settings.descriptor_seconds
    if not 0 < ahead <= most:
        raise Problem(422, "expiry", f"descriptor: expires in {ahead} s, must be in 1..{most} s", "descriptor")
    stake = await gateway.chain.stake(descriptor.relay)
    if stake is None or not stake.active:
        raise Problem(403, "unregistered", "relay: is not registered and staked on the chain", "relay")
    if stake.region != descriptor.region:
        raise Problem(
            422, "region", f"descriptor: region {descriptor.region}, but the stake is in {stake.region}", "descriptor"
        )
    if descriptor.rate > stake.rate:
        raise Problem(
            422, "rate", f"descriptor: rate {descriptor.rate} kbit/s is above the staked {stake.rate}", "descriptor"
        )


@router.get("/v1/directory", response_model=bodies.Directory, summary="All living relays")
async def listing(request: Request) -> dict[str, Any]:
    """Countersigned descriptors; a client checks both signatures itself."""
    return await directory.listing(gateway_of(request).db)
