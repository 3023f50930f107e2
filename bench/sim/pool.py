"""Prices of regions' pools while buyers of one region suddenly want ten times as much.

Every pool is the contract's: x*y=k, fee 0.3 %, no sale below the floor. Buyers buy what they use; demand falls with the
price, and a part of it takes the cheaper region. Routers sell what they earn after phi is burned; nobody trades between
regions, since tokens of two regions are two goods. Traffic emission returns half of the burn; capacity emission begins
above the target price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.sim.inputs import Input

STEP_S = 60.0
DAYS = 3.0
REGIONS = 10
CROWD = (24.0, 36.0, 10.0)  # hours from, to, times the demand
MOVES = 0.3  # share of a region's demand that follows the price
ELASTICITY = 0.8  # of demand by price, about the target
SELL_DELAY_S = 6 * 3600.0  # earnings are claimed and sold so long after they were made, on the average
IN_POOL = 0.1  # of a region's supply (its genesis), at the start
USE_PER_STEP = 40.0  # GiB hops that a region carries in a minute when its price is the target's
CAPACITY = 4.0  # times the usual use that a region's routers can carry


@dataclass
class Market:
    """What came of it: hours, prices and use by region (region 0 has the crowd)."""

    hours: NDArray[np.float64]
    price: NDArray[np.float64]
    carried: NDArray[np.float64]
    minted: float
    burned: float


def flash_crowd(x: dict[str, Input], seed: int = 1) -> Market:
    """Three days of minutes."""
    v = {k: i.value for k, i in x.items()}
    rng = np.random.default_rng(seed)
    phi, fee = v["PHI_BPS"] / v["BPS"], v["POOL_FEE_BPS"] / v["BPS"]
    floor, target = v["PRICE_FLOOR"], v["PRICE_TARGET"]
    emission = v["TRAFFIC_EMISSION_BPS"] / v["BPS"] * phi
    tokens = np.full(REGIONS, v["REGION_GENESIS_MAX"] * IN_POOL)
    bwt = tokens * target
    waiting = np.zeros(REGIONS)
    steps = int(DAYS * 86_400 / STEP_S)
    price, carried = np.zeros((steps, REGIONS)), np.zeros((steps, REGIONS))
    minted = burned = 0.0
    for step in range(steps):
        hour = step * STEP_S / 3600
        now = bwt / tokens
        wish = USE_PER_STEP * (1 + 0.1 * rng.standard_normal(REGIONS)).clip(0.2)
        wish *= 1 + 0.4 * np.sin((hour - 9) * np.pi / 12)
        if CROWD[0] <= hour < CROWD[1]:
            wish[0] *= CROWD[2]
        wish *= (now / target).clip(0.05) ** -ELASTICITY
        moving = wish * MOVES
        pull = (1 / now) ** 4
        use = np.minimum(wish - moving + moving.sum() * pull / pull.sum(), USE_PER_STEP * CAPACITY)
        tokens, bwt = buy(tokens, bwt, np.minimum(use, tokens * 0.02), fee)
        burned += float(use.sum()) * phi
        grown = use * emission
        minted += float(grown.sum())
        waiting += use * (1 - phi) + grown + scarce(now, target, v)
        sale = waiting * STEP_S / SELL_DELAY_S
        sold, tokens, bwt = sell(tokens, bwt, sale, fee, floor)
        waiting -= sold
        price[step], carried[step] = bwt / tokens, use
    return Market(np.arange(steps) * STEP_S / 3600, price, carried, minted, burned)


def scarce(price: NDArray[np.float64], target: float, v: dict[str, float]) -> NDArray[np.float64]:
    """Capacity emission of a step: the budget of a day's epoch, full from twice the target on."""
    budget = v["REGION_GENESIS_MAX"] * v["CAPACITY_BUDGET_BPS"] / v["BPS"] * STEP_S / 86_400
    return np.asarray(budget * (price / target - 1).clip(0, 1))


def buy(
    tokens: NDArray[np.float64], bwt: NDArray[np.float64], out: NDArray[np.float64], fee: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reserves after exactly `out` tokens were bought."""
    paid = bwt * out / (tokens - out) / (1 - fee)
    return tokens - out, bwt + paid


def sell(
    tokens: NDArray[np.float64], bwt: NDArray[np.float64], sale: NDArray[np.float64], fee: float, floor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(sold, reserves) after a sale; the pool refuses what would end below the floor."""
    net = sale * (1 - fee)
    got = bwt * net / (tokens + net)
    allowed = (bwt - got) / (tokens + sale) >= floor
    sold = np.where(allowed, sale, 0.0)
    return sold, tokens + sold, bwt - np.where(allowed, got, 0.0)
