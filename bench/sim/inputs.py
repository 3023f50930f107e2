"""The figures that go in: measured ones out of bench/results.json, constants out of the code that has them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bwrouter.agent import agent, publish
from bwrouter.wire import sizes as S

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results.json"
PARAMETERS = ROOT / "contracts" / "src" / "Parameters.sol"
ENTRY = S.DESCRIPTOR + 11  # of the directory's document: class, score, audited rate, stake beside the descriptor
MEASURED = (
    ("mint", "issue_per_cpu_s"), ("mint", "redeem_per_cpu_s"), ("mint", "open_cpu_ms"),
    ("mint", "issue_wal_bytes"), ("mint", "open_wal_bytes"),  ("relay", "relay_ms_per_mb"),
    ("contracts", "charge"), ("contracts", "post_root"), ("contracts", "finalise"), ("contracts", "claim_batch50"),
    ("contracts", "assemble"), ("contracts", "commit"), ("contracts", "reveal"), ("contracts", "verdict10"),
)  # fmt: skip


class Missing(Exception):
    """A figure has not been measured yet; the text says by which command it is."""


@dataclass(frozen=True)
class Input:
    """One figure and where it comes from."""

    value: float
    source: str


def measured() -> dict[str, Input]:
    """Figures of the benchmarks by name. Raises Missing."""
    try:
        runs: dict[str, dict[str, Any]] = {r["bench"]: r for r in json.loads(RESULTS.read_text())}
    except OSError:
        raise Missing("there is no bench/results.json: run make bench") from None
    found = {}
    for bench, key in MEASURED:
        value = (runs.get(bench, {}).get("result") or {}).get(key)
        if not isinstance(value, int | float):
            raise Missing(f"{bench} has no {key} in bench/results.json: run make bench ONLY={bench}")
        found[f"{bench}.{key}"] = Input(float(value), f"`make bench-{bench}`, {runs[bench]['date'][:10]}")
    return found


def solidity(name: str) -> float:
    """A constant of Parameters.sol; amounts of 10^18 wei as one."""
    match = re.search(rf"constant {name} = ([0-9_.]+)(e18)?", PARAMETERS.read_text())
    if match is None:
        raise Missing(f"Parameters.sol has no constant {name}")
    return float(match[1].replace("_", ""))


def constants() -> dict[str, Input]:
    """What the code says."""
    contract = "`contracts/src/Parameters.sol`"
    found = {n: Input(solidity(n), contract) for n in (
        "PHI_BPS", "POOL_FEE_BPS", "PRICE_FLOOR", "PRICE_TARGET", "TRAFFIC_EMISSION_BPS", "COMMITTEE", "BPS",
        "REGION_GENESIS_MAX", "CAPACITY_BUDGET_BPS",
    )}  # fmt: skip
    return found | {
        "redeem_s": Input(agent.REDEEM_MS / 1000, "`src/bwrouter/agent/agent.py`"),
        "refresh_s": Input(publish.REFRESH_S, "`src/bwrouter/agent/publish.py`"),
        "entry_bytes": Input(ENTRY, "`src/bwrouter/wire/sizes.py`, docs/architecture.md"),
        "unit_bytes": Input(S.UNIT, "`src/bwrouter/wire/sizes.py`"),
    }
