"""GET /v1/info, /healthz and /metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from bwgateway import metrics
from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.problems import Problem

router = APIRouter()


@router.get("/v1/info", response_model=bodies.Info, summary="Keys, addresses and the running epoch")
async def info(request: Request) -> dict[str, Any]:
    """What a router or client needs first. `mint_keys` are all keys whose tickets can still be opened."""
    gateway = gateway_of(request)
    now = time.time()
    return {
        "gateway_key": gateway.keys.public.hex(),
        **await gateway.chain.describe(),
        "epoch": gateway.settlement.running(now),
        "mint_keys": [
            {
                "id": k.id.hex(),
                "region": k.region,
                "units": k.units,
                "public": k.public.hex(),
                "epoch": k.epoch,
                "expires": k.expires,
            }
            for k in gateway.mint.alive(now)
        ],
        "gas_share_bps": gateway.settlement.gas_share_bps,
        "time": int(now),
    }


@router.get("/healthz", summary="Whether ledger and chain answer")
async def healthz(request: Request) -> dict[str, Any]:
    """200 with the newest block, or 503 naming what is down."""
    gateway = gateway_of(request)
    try:
        async with gateway.db.read() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as e:
        raise Problem(503, "ledger", "the ledger's database gives no answer") from e
    return {"ok": True, "block": await gateway.chain.block()}


@router.get("/metrics", include_in_schema=False)
async def scrape() -> Response:
    """Prometheus text format."""
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
