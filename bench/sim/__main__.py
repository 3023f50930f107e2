"""`make sim`: docs/scale.md and its plots, from measured figures; the same inputs give the same bytes.

The last line is one JSON object. Exit code 2: a figure that goes in has not been measured yet.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.sim import dark, load, pool
from bench.sim.inputs import Input, Missing, constants, measured
from bench.sim.plot import lines
from bench.sim.text import page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SIZES = (1e3, 1e4, 1e5, 1e6)


def sizes(x: dict[str, Input]) -> dict[float, dict[str, float]]:
    """The same network in four sizes: buyers, bits and regions in proportion."""
    full = load.Scale()
    out = {}
    for routers in SIZES:
        part = routers / full.routers
        regions, gateways = max(1, round(full.regions * part)), max(1, round(full.gateways * part))
        scale = load.Scale(routers, full.buyers * part, full.bits * part, regions, full.epoch_s, gateways)
        out[routers] = load.load(scale, x)
    return out


def plots(every: dict[float, dict[str, float]], market: pool.Market, times: Any) -> dict[str, str]:
    """SVG by file name."""
    routers = list(every)

    def series(**keys: str) -> dict[str, tuple[list[float], list[float]]]:
        return {name.replace("_", " "): (routers, [every[r][key] for r in routers]) for name, key in keys.items()}

    gas = {f"audits every {h} h": f"audits_{h}h_gas_per_s" for h in load.AUDIT_HOURS}
    gas |= {f"claims every {h} h": f"claims_{h}h_gas_per_s" for h in load.CLAIM_HOURS[1:]}
    gas_series = {n: (routers, [every[r][k] for r in routers]) for n, k in gas.items()}
    prices = {("region with the crowd" if i == 0 else "another region"): (market.hours, market.price[:, i] * 1000)
              for i in (0, 1)}  # fmt: skip
    carried = {("region with the crowd" if i == 0 else "another region"): (market.hours, market.carried[:, i])
               for i in (0, 1)}  # fmt: skip
    shares = np.arange(1, len(times) + 1) / len(times) * 100
    return {
        "cores.svg": lines("Processors of all gateways", "routers", "processors", series(
            issuing="issue_cores", opening="open_cores", redeeming_every_2_s="redeem_cores",
            redeeming_every_60_s="slow_redeem_cores"), True, True),
        "directory.svg": lines("Directory bytes of one client", "routers", "bytes", series(
            whole_network_once="directory_whole_bytes", its_changes_of_a_day="directory_day_bytes",
            one_region_once="directory_region_bytes", its_changes="directory_region_day_bytes"), True, True),
        "gas.svg": lines("Gas a second on the chain", "routers", "gas/s", gas_series, True, True),
        "price.svg": lines("Price of a region's token in a flash crowd", "hours", "BWT/1000 a GiB hop", prices),
        "carried.svg": lines("What the regions carry", "hours", "GiB hops a minute", carried),
        "dark.svg": lines("Buyers with a path again after a tenth of all relays went dark", "seconds", "%",
                          {"of those whose path broke": (np.maximum(times, 0.1), shares)}, True),
    }  # fmt: skip


def main() -> int:
    try:
        x = measured() | constants()
    except Missing as e:
        print(f"make sim: {e}", file=sys.stderr)
        return 2
    every = sizes(x)
    market = pool.flash_crowd(x)
    times, gone = dark.recovery()
    full = every[SIZES[-1]]
    start, end, _ = pool.CROWD
    before = market.price[int(start * 60) - 1, 0]
    crowd = market.price[int(start * 60) : int(end * 60), 0].max()
    after = market.price[int(end * 60) :, 0]
    calm = np.flatnonzero(after <= before * 1.1)
    result = {
        **{k: round(v, 4) for k, v in full.items()}, "price_before": round(float(before), 6),
        "price_peak": round(float(crowd), 6),
        "price_back_h": round(float(calm[0]) / 60, 1) if len(calm) else -1.0,
        "neighbour_peak": round(float(market.price[:, 1].max()), 6), "minted_to_burned": round(
            market.minted / market.burned, 4),
        **{f"dark_{k}": round(float(v), 3) for k, v in gone.items()},
    }  # fmt: skip
    folder = DOCS / "scale"
    folder.mkdir(exist_ok=True)
    for name, text in plots(every, market, times).items():
        (folder / name).write_text(text)
    (DOCS / "scale.md").write_text(page(x, result))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
