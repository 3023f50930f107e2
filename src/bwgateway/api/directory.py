"""POST /v1/descriptors and /v1/evidence, GET /v1/directory, /v1/relays, /v1/audits and /v1/evidence."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway import descriptors, directory, evidence, signed, watch
from bwgateway.api import listings
from bwgateway.api.depend import gateway_of, once
from bwgateway.api.register import Relay
from bwgateway.gateway import Gateway
from bwgateway.problems import Problem
from bwgateway.schema import audits

router = APIRouter()
ANCHORS_DRAWN = 8


@router.post("/v1/descriptors", response_model=listings.Published, summary="Publish a relay's descriptor")
async def publish(body: listings.Descriptor, request: Request) -> dict[str, Any]:
    """Checks the relay's signature, its addresses and its stake on the chain, then adds the gateway's signature."""
    gateway = gateway_of(request)
    who, answer = await once(gateway, request, "/v1/descriptors", signed.by_relay)
    if answer is not None:
        return answer
    raw = bytes.fromhex(body.descriptor)
    try:
        descriptor = descriptors.parse(raw)
    except descriptors.BadDescriptor as e:
        raise Problem(422, "descriptor", f"descriptor: {e}", "descriptor") from e
    if descriptor.relay != who.signer:
        raise Problem(403, "relay", "descriptor: belongs to another relay than the one that signs", "descriptor")
    await _check(gateway, descriptor)
    full = descriptors.countersign(raw, gateway.keys)
    facts, reason = await watch.read_facts(gateway.db, gateway.chain, descriptor.relay, full)
    # A suspended relay stays reachable for its verifiers, or it could never be acquitted; buyers are not told of it.
    if facts is None or reason not in ("", "suspended"):
        raise Problem(403, "unregistered", f"relay: {reason}", "relay")

    async def effect(connection: AsyncConnection) -> dict[str, Any]:
        until = descriptor.valid_until
        region = descriptor.region
        return await directory.publish(
            gateway.db, connection, descriptor.relay, full, until, region, facts, listed=not reason
        )

    return await signed.once(gateway.db, who, effect)


async def _check(gateway: Gateway, descriptor: descriptors.Descriptor) -> None:
    """Against clock and chain. Raises Problem."""
    ahead = descriptor.valid_until - int(time.time())
    most = gateway.settings.descriptor_seconds
    if not 0 < ahead <= most:
        raise Problem(422, "expiry", f"descriptor: expires in {ahead} s, must be in 1..{most} s", "descriptor")
    stake = await gateway.chain.stake(descriptor.relay)
    if stake is None or not stake.reachable:
        raise Problem(403, "unregistered", "relay: is not registered and staked on the chain", "relay")
    if stake.region != descriptor.region:
        raise Problem(
            422, "region", f"descriptor: region {descriptor.region}, but the stake is in {stake.region}", "descriptor"
        )
    if descriptor.rate > stake.rate:
        raise Problem(
            422, "rate", f"descriptor: rate {descriptor.rate} kbit/s is above the staked {stake.rate}", "descriptor"
        )


@router.get("/v1/directory", response_model=listings.Directory, summary="All living relays")
async def listing(request: Request) -> dict[str, Any]:
    """Countersigned descriptors; a client checks both signatures itself."""
    version, live = await gateway_of(request).listing.live(int(time.time()))
    return {"version": version, "descriptors": [bytes(row.body).hex() for row in live]}


@router.get("/v1/directory/unlisted", response_model=listings.Directory, summary="Relays that buyers are not told of")
async def unlisted(request: Request) -> dict[str, Any]:
    """Suspended and silent ones, for verifiers, who must reach them to judge them."""
    listing = gateway_of(request).listing
    rows = await listing.unlisted(int(time.time()))
    version, _ = await listing.rows()
    return {"version": version, "descriptors": [bytes(row.body).hex() for row in rows]}


@router.get("/v1/anchors", response_model=listings.Directory, summary="Some relays that may be a router's anchor")
async def anchors(request: Request) -> dict[str, Any]:
    """A few listed ones with a public IPv4 address of their own, drawn anew for each question: a router behind its
    provider's NAT asks one of them to introduce its buyers (docs/protocol.md section 13)."""
    version, live = await gateway_of(request).listing.live(int(time.time()))
    public = [row for row in live if directory.public_v4(row)]
    drawn = secrets.SystemRandom().sample(public, min(ANCHORS_DRAWN, len(public)))
    return {"version": version, "descriptors": [bytes(row.body).hex() for row in drawn]}


@router.get(
    "/v1/directory/document",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The document"}},
    summary="The signed directory, or what changed in it",
)
async def document(
    request: Request, since: Annotated[int, Query(ge=0, lt=2**63, description="version that the client has")] = 0
) -> Response:
    """Compact and signed (docs/architecture.md). With `since` it holds what changed after that version; a version that
    this gateway never had gets the whole."""
    body = await gateway_of(request).listing.document(since)
    return Response(body, media_type="application/octet-stream", headers={"cache-control": "no-cache"})


_CLASSES = ("unaudited", "bulk", "interactive")


@router.get("/v1/relays", response_model=listings.Relays, summary="Relays in words")
async def relays(
    request: Request,
    id: Annotated[str, Query(pattern="^[0-9a-f]{0,64}$", description="how the relay's id begins")] = "",
) -> dict[str, Any]:
    """What the directory says of each relay: place, rate, class, score, stake, and when it was last heard of."""
    _, live = await gateway_of(request).listing.live(int(time.time()))
    found = []
    for row in live:
        if bytes(row.relay).hex().startswith(id):
            flags, rate = directory.place(row)
            found.append(
                {
                    "relay": bytes(row.relay).hex(),
                    "region": row.region,
                    "rate_kbps": rate,
                    "exit": bool(flags & 1),
                    "class": _CLASSES[row.class_],
                    "score": row.score,
                    "audited_kbps": row.audited_kbps,
                    "stake": row.stake_wei,
                    "seen_at": row.seen_at,
                    "valid_until": row.valid_until,
                }
            )
    return {"relays": found[:1000], "count": len(found)}


@router.get("/v1/audits", response_model=listings.Audits, summary="The newest verdicts")
async def newest_audits(request: Request) -> dict[str, Any]:
    """Of all relays, the newest hundred."""
    return await _audits(gateway_of(request), None)


@router.get("/v1/audits/{relay}", response_model=listings.Audits, summary="A relay's verdicts")
async def audits_of(
    relay: Relay, request: Request, limit: Annotated[int, Query(ge=1, le=100, description="how many")] = 100
) -> dict[str, Any]:
    """The newest, with their reasons."""
    return await _audits(gateway_of(request), bytes.fromhex(relay), limit)


async def _audits(gateway: Gateway, relay: bytes | None, limit: int = 100) -> dict[str, Any]:
    query = select(audits).order_by(audits.c.epoch.desc(), audits.c.relay).limit(limit)
    if relay is not None:
        query = query.where(audits.c.relay == relay)
    async with gateway.db.read() as connection:
        rows = (await connection.execute(query)).all()
    found = [{**row._mapping, "relay": bytes(row.relay).hex()} for row in rows]
    return {"audits": [{**verdict, "sig": _signature(gateway, verdict)} for verdict in found]}


def _signature(gateway: Gateway, verdict: dict[str, Any]) -> str:
    """Ed25519 over a verdict: what a router shows its owner, it can show to others."""
    text = json.dumps(verdict, sort_keys=True, separators=(",", ":"))
    return gateway.keys.gateway.sign(b"bwrouter/1 verdict\n" + text.encode()).signature.hex()


@router.post("/v1/evidence", response_model=listings.Stored, summary="Post what an audit's report stands on")
async def post_evidence(body: listings.Evidence, request: Request) -> dict[str, Any]:
    """Checks signature, paths, the relay's own statements, and that the verifier has revealed a report."""
    gateway = gateway_of(request)
    gateway.limits.by_identity(bytes.fromhex(body.verifier[2:]))
    return {"stored": await evidence.store(gateway.db, gateway.chain, body.model_dump())}


@router.get("/v1/evidence/{relay}/{epoch}", response_model=listings.EvidenceList, summary="What an audit stands on")
async def evidence_of(relay: Relay, epoch: Annotated[int, Path(ge=0, lt=2**32)], request: Request) -> dict[str, Any]:
    """Every open measurement that verifiers posted; covert ones are shown in disputes only."""
    found = await evidence.of_audit(gateway_of(request).db, bytes.fromhex(relay), epoch)
    return {"relay": relay, "epoch": epoch, "evidence": found}
