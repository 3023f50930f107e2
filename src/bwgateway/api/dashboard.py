"""GET /, its files, and /v1/overview: the pool at a glance, without a build step."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from bwgateway import directory
from bwgateway.api import bodies
from bwgateway.api.depend import gateway_of
from bwgateway.prices import price
from bwgateway.problems import Problem

router = APIRouter()
WEB = Path(__file__).resolve().parents[1] / "web"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'",  # uPlot sets styles
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


@cache
def _file(name: str) -> Path | None:
    """A file of the dashboard: ours, or uPlot's out of npm's folder."""
    own = WEB / name
    if name in ("style.css", "dashboard.js", "index.html", "icon.svg"):
        return own
    if name in ("uPlot.iife.min.js", "uPlot.min.css"):
        for root in [Path.cwd(), *WEB.parents]:
            found = root / "build/node/node_modules/uplot/dist" / name
            if found.is_file():
                return found
    return None


@router.get("/", include_in_schema=False)
async def index() -> FileResponse:
    """The dashboard."""
    return FileResponse(WEB / "index.html", media_type="text/html", headers=_HEADERS)


@router.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> FileResponse:
    """One of its files."""
    path = _file(name)
    if path is None:
        raise Problem(404, "not-found", f"no such file: {name}")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_HEADERS)


@router.get("/v1/overview", response_model=bodies.Overview, summary="Regions, capacity, pool prices")
async def overview(request: Request) -> dict[str, Any]:
    """Live routers and their claimed rates by region, the pool's reserves now and its price over time."""
    gateway = gateway_of(request)
    now = time.time()
    _, live = await gateway.listing.live(int(now))
    places = [(row.region, directory.place(row)[1]) for row in live]
    regions = []
    for region in gateway.settings.regions:
        bwt, token = await gateway.chain.reserves(region)
        rates = [rate for at, rate in places if at == region]
        regions.append(
            {
                "region": region,
                "relays": len(rates),
                "capacity_kbps": sum(rates),
                "bwt_wei": str(bwt),
                "token_wei": str(token),
                "price_wei": str(price(bwt, token)),
                "history": await gateway.settlement.prices.history(region),
            }
        )
    return {"block": await gateway.chain.block(), "epoch": gateway.settlement.running(now), "regions": regions}
