"""Rates of a whole network: tickets, processors, rows, directory bytes, gas."""

from __future__ import annotations

from dataclasses import dataclass

from bench.sim.inputs import Input

HOPS = 3
BIG_UNITS = 1024
GATEWAY_CORE_USE = 0.5  # of a processor, so that half is left for bursts
L2_GAS_PER_S = 30e6  # of a large rollup in 2026, an assumption: what the whole network may be measured against
CHAIN_SHARE = 0.05  # of it, that one application can count on
AUDIT_HOURS = (1, 24, 24 * 7, 24 * 30)
BATCH_S = 60.0  # a redeem interval that a busy network could choose
CLAIM_HOURS = (1, 24, 168)


@dataclass(frozen=True)
class Scale:
    """How large: routers, buyers at the same time, bits a second that arrive at buyers, regions, epoch in seconds."""

    routers: float = 1e6
    buyers: float = 1e5
    bits: float = 1e12
    regions: int = 100
    epoch_s: float = 3600.0
    gateways: int = 20


def load(scale: Scale, x: dict[str, Input]) -> dict[str, float]:
    """Every rate. Keys end in their unit."""
    v = {k: i.value for k, i in x.items()}
    relayed = scale.bits / 8 * HOPS
    tickets = relayed / (BIG_UNITS * v["unit_bytes"])
    meters = scale.buyers * HOPS  # tickets that are being used up at any time, each at a router
    redeems, slow_redeems = meters / v["redeem_s"], meters / BATCH_S
    request_s = v["mint.open_cpu_ms"] / 1000
    issue_cores = tickets / v["mint.issue_per_cpu_s"] / GATEWAY_CORE_USE
    out = {
        "relayed_bytes_per_s": relayed, "tickets_per_s": tickets, "busy_meters": meters,
        "relay_cores": relayed / 1e6 * v["relay.relay_ms_per_mb"] / 1000,
        "issue_cores": issue_cores,
        "open_cores": tickets * request_s / GATEWAY_CORE_USE,
        "redeem_requests_per_s": redeems, "redeem_cores": redeems * request_s / GATEWAY_CORE_USE,
        "slow_redeem_requests_per_s": slow_redeems,
        "slow_redeem_cores": slow_redeems * request_s / GATEWAY_CORE_USE,
    }  # fmt: skip
    # Rows: an issue writes account and answer once a batch of 64 tickets; an open ticket and answer; a redeem ticket,
    # relay and answer.
    for name, rate in (("", redeems), ("slow_", slow_redeems)):
        rows = tickets / 64 * 2 + tickets * 2 + rate * 3
        wal = tickets * (v["mint.issue_wal_bytes"] + v["mint.open_wal_bytes"]) + rate * v["mint.open_wal_bytes"]
        out |= {f"{name}rows_per_s": rows, f"{name}wal_bytes_per_s": wal}
    return out | directory(scale, v) | gas(scale, v)


def directory(scale: Scale, v: dict[str, float]) -> dict[str, float]:
    """Bytes for one client: the whole document at its first start, and its changes of a day; the whole network or one
    region."""
    whole = scale.routers * v["entry_bytes"]
    day = whole * 86_400 / v["refresh_s"]
    return {
        "directory_whole_bytes": whole, "directory_day_bytes": day,
        "directory_region_bytes": whole / scale.regions, "directory_region_day_bytes": day / scale.regions,
        "directory_serving_bits": day * scale.buyers * 8 / 86_400,
    }  # fmt: skip


def gas(scale: Scale, v: dict[str, float]) -> dict[str, float]:
    """Gas a second: roots, vouchers, claims, audits; and how often audits may be for the share of an L2."""
    gateways_regions = scale.gateways * scale.regions
    roots = gateways_regions * (v["contracts.post_root"] + v["contracts.finalise"]) / scale.epoch_s
    charge = scale.buyers * v["contracts.charge"] / scale.epoch_s
    seats = v["COMMITTEE"]
    audit = v["contracts.assemble"] + v["contracts.verdict10"]
    audit += seats * (v["contracts.commit"] + v["contracts.reveal"])
    may = L2_GAS_PER_S * CHAIN_SHARE
    out = {"roots_gas_per_s": roots, "charge_gas_per_s": charge, "audit_gas": audit,
           "audit_every_h": scale.routers * audit / may / 3600}  # fmt: skip
    for hours in CLAIM_HOURS:
        out[f"claims_{hours}h_gas_per_s"] = scale.routers * v["contracts.claim_batch50"] / (hours * 3600)
    for hours in AUDIT_HOURS:
        out[f"audits_{hours}h_gas_per_s"] = scale.routers * audit / (hours * 3600)
    return out
