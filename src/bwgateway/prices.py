"""Pool reserves over time, sampled by the process that settles; what the dashboard's price chart shows."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, select

from bwgateway.chain.contracts import Contracts
from bwgateway.database import Database
from bwgateway.schema import prices

SAMPLE_SECONDS = 10
KEEP_SECONDS = 30 * 86_400
POINTS = 1000
"""Most points that are shown."""


class Prices:
    """Samples reserves, at most one in SAMPLE_SECONDS for each region."""

    def __init__(self, db: Database, chain: Contracts, regions: list[int]) -> None:
        self._db, self._chain, self._regions = db, chain, regions
        self._sampled = 0.0

    async def sample(self) -> None:
        """Take a sample if one is due. Raises ChainError."""
        now = time.time()
        if now - self._sampled < SAMPLE_SECONDS:
            return
        rows = []
        for region in self._regions:
            bwt, token = await self._chain.reserves(region)
            rows.append({"region": region, "at": int(now), "bwt_wei": str(bwt), "token_wei": str(token)})
        async with self._db.write() as connection:
            await self._db.insert_missing(connection, prices, rows)
            await connection.execute(delete(prices).where(prices.c.at < int(now) - KEEP_SECONDS))
        self._sampled = now

    async def history(self, region: int) -> list[dict[str, Any]]:
        """The newest samples, oldest first: unix time and BWT wei for 1e18 wei of the token."""
        query = select(prices).where(prices.c.region == region).order_by(prices.c.at.desc()).limit(POINTS)
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return [{"time": r.at, "price_wei": str(price(int(r.bwt_wei), int(r.token_wei)))} for r in reversed(rows)]


def price(bwt_wei: int, token_wei: int) -> int:
    """BWT wei for 1e18 wei of a region's token."""
    return bwt_wei * 10**18 // token_wei if token_wei else 0
