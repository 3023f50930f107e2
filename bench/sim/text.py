"""docs/scale.md: the words of scale.template.md with the numbers put in."""

from __future__ import annotations

from pathlib import Path

from bench.sim import dark, load, pool
from bench.sim.inputs import Input

TEMPLATE = Path(__file__).with_name("scale.template.md")


def amount(value: float) -> str:
    """Three digits that matter, with the letter of the size before the unit."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g} "


def percent(value: float) -> str:
    return f"{value * 100:.3g} %"


def page(x: dict[str, Input], r: dict[str, float]) -> str:
    """The whole document."""
    s = load.Scale()
    back = r["price_back_h"]
    words = {
        "inputs": "\n".join(f"| {name} | {i.value:,.6g} | {i.source} |" for name, i in x.items()),
        "regions": s.regions, "gateways": s.gateways, "l2_gas": amount(load.L2_GAS_PER_S),
        "chain_share": percent(load.CHAIN_SHARE), "may_gas": amount(load.L2_GAS_PER_S * load.CHAIN_SHARE),
        "redeem_s": f"{x['redeem_s'].value:g}", "batch_s": f"{load.BATCH_S:g}",
        "refresh_s": f"{x['refresh_s'].value:g}", "audit_hours": f"{r['audit_every_h']:,.0f}",
        "catch_days": f"{r['audit_every_h'] * 10 / 24:,.0f}", "pools": pool.REGIONS, "crowd_from": f"{pool.CROWD[0]:g}",
        "crowd_to": f"{pool.CROWD[1]:g}", "crowd_times": f"{pool.CROWD[2]:g}", "moves": percent(pool.MOVES),
        "elasticity": f"{pool.ELASTICITY:g}", "sell_hours": f"{pool.SELL_DELAY_S / 3600:g}",
        "capacity": f"{pool.CAPACITY:g}", "before_milli": f"{r['price_before'] * 1000:.3g}",
        "peak_milli": f"{r['price_peak'] * 1000:.3g}", "neighbour_milli": f"{r['neighbour_peak'] * 1000:.3g}",
        "back": f"{back:g} hours after the end" if back >= 0 else "not within the simulated time",
        "minted": f"{r['minted_to_burned']:.2f}", "dark_share": percent(dark.SHARE), "hit": percent(r["dark_hit"]),
        "by_spare": percent(r["dark_by_spare"]), "exit_lost": percent(r["dark_exit_lost"]),
        "p50": f"{r['dark_p50_s']:.2g}", "p95": f"{r['dark_p95_s']:.2g}", "worst": f"{r['dark_worst_s']:.0f}",
        "unlisted": f"{dark.CHECK_S * dark.MISSES:.0f}",
    }  # fmt: skip
    return TEMPLATE.read_text().format_map({k: amount(v).rstrip() for k, v in r.items()} | words)
