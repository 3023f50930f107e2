#!/usr/bin/env python3
# ruff: noqa: E501 (one guard a line)
"""Remove each guard once and show that its test then fails: `build/venv/bin/python contracts/mutations.py [WORD...]`.

Works on a copy under build/contracts/mutants; takes some minutes. Words choose the mutations whose name holds one of them.
Exit code 1 if a test passes although its guard is gone, or if a guard is no longer where this file says.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "contracts" / "mutants"


class Mutation(NamedTuple):
    name: str
    source: str  # contracts/src/<source>.sol
    guard: str
    without: str
    suite: str  # contracts/test/<suite>.t.sol
    test: str


MONEY = ("MoneyInvariant", "invariant_all")
STAKES = ("StakeInvariant", "invariant_all")
MUTATIONS = [
    Mutation("A1 emission below burn", "Parameters", "TRAFFIC_EMISSION_BPS = 5_000", "TRAFFIC_EMISSION_BPS = 10_000", "Attacks", "test_A1"),
    Mutation("A1 token's own check", "RegionToken", "if (emitted >= usedBurned)", "if (false)", "Emission", "test_token_refuses"),
    Mutation("A2 fee", "Parameters", "POOL_FEE_BPS = 30", "POOL_FEE_BPS = 0", "Attacks", "test_A2"),
    Mutation("A3 seven of ten", "Parameters", "VERDICT_BPS = 7_000", "VERDICT_BPS = 6_000", "Attacks", "test_A3_six"),
    Mutation("A3 median", "BandwidthProof", "rates[(n - 1) / 2]", "rates[n - 1]", "Attacks", "test_A3_three"),
    Mutation("A3 silence", "Parameters", "SILENCE_PENALTY = 20e18", "SILENCE_PENALTY = 0", "Attacks", "test_A3_selective"),
    Mutation("A3 late joiners", "Verifiers", "uint32 from = currentEpoch() + 2", "uint32 from = currentEpoch()", "Attacks", "test_A3_nobody"),
    Mutation("A4 mean price", "Emission", "_pool(region).meanPrice(r.cumulative, r.openedAt)", "_pool(region).spotPrice()", "Attacks", "test_A4"),
    Mutation("A4 capped clock", "LiquidityPool", "(price < PRICE_CAP ? price : PRICE_CAP)", "price", "Attacks", "test_A4"),
    Mutation("A5 prefix cap", "Emission", "PREFIX_CAP_KBPS - prefixUsed", "2**60 - prefixUsed", "Attacks", "test_A5_many"),
    Mutation("A5 stake cap", "Emission", "_least(relay.rateKbps, relay.stake * 1000 / STAKE_PER_MBPS)", "relay.rateKbps", "Attacks", "test_A5_capacity"),
    Mutation("A6 vouchers", "Settlement", "if (gross > l.spent)", "if (false)", "Attacks", "test_A6"),
    Mutation("A7 genesis", "RegionToken", "if (genesisAmount > REGION_GENESIS_MAX)", "if (false)", "Attacks", "test_A7"),
    Mutation("disjoint draws", "BandwidthProof", "!_disjoint(relayId, s.suspicionEpoch, epoch)", "false", "Proof", "test_second_verdict"),
    Mutation("postponed notice", "BandwidthProof", "registry.postpone(", "if (false) registry.postpone(", "Proof", "test_unbonding"),
    Mutation("dispute window", "BandwidthProof", "if (block.timestamp < until) revert DisputeStillOpen(until);", "", "Proof", "test_slash_comes"),
    Mutation("first depositor", "LiquidityPool", "if (shares <= POOL_LOCKED_SHARES)", "if (false)", "Pool", "test_first_depositor"),
    Mutation("re-entrancy", "LiquidityPool", "        nonReentrant\n", "", "Pool", "test_reentrant"),
    Mutation("price floor", "LiquidityPool", "if (rBwt * 1e18 < PRICE_FLOOR * rToken)", "if (false)", "Pool", "test_price_floor"),
    Mutation("invariant: k", "LiquidityPool", "FEE_FACTOR = BPS - POOL_FEE_BPS", "FEE_FACTOR = BPS + POOL_FEE_BPS", *MONEY),
    Mutation("invariant: liquidity leaves", "LiquidityPool", "if (shares == 0) revert ZeroAmount();", "if (shares % 2 == 0) revert ZeroAmount();", *MONEY),
    Mutation("invariant: reserves", "LiquidityPool", "outToken = Math.mulDiv(shares, rToken, supply);", "outToken = Math.mulDiv(shares, rToken, supply); rToken += outToken;", *MONEY),
    Mutation("invariant: claims", "Settlement", "l.claimed[account] = cumulative;", "", *MONEY),
    Mutation("invariant: burn", "Settlement", "if (net != 0) RegionToken(l.token).settle(gateway, net, burn);", "if (net != 0) RegionToken(l.token).settle(gateway, net, 0);", *MONEY),
    Mutation("invariant: unspent", "Settlement", "if (gross > l.spent)", "if (false)", *MONEY),
    Mutation("invariant: supply", "RegionToken", "usedBurned += burn;", "", *MONEY),
    Mutation("invariant: stakes", "StakeRegistry", "entry.stake -= uint96(amount);", "", *STAKES),
    Mutation("invariant: bonds", "Verifiers", "bwt.burn(amount - share);", "", *STAKES),
    Mutation("invariant: slash", "BandwidthProof", "if (s.strikes != 2) revert NotSuspended(relayId);", "", *STAKES),
    Mutation("invariant: two verdicts", "BandwidthProof", "s.strikes == 0 || ", "", *STAKES),
    Mutation("invariant: dodge", "StakeRegistry", "if (entry.state != State.Unbonding) revert", "if (entry.unlockAt == 0) revert", *STAKES),
]  # fmt: skip


def run(mutation: Mutation | None, suite: str, test: str) -> subprocess.CompletedProcess[str]:
    """One forge run on the copy with one guard removed (or none)."""
    for folder in ("src", "test"):
        shutil.rmtree(COPY / "contracts" / folder, ignore_errors=True)
    shutil.copytree(ROOT / "contracts" / "src", COPY / "contracts" / "src")
    (COPY / "contracts" / "test").mkdir()
    for name in ("Base.sol", "AuditBase.sol", f"{suite}.t.sol"):
        shutil.copy(ROOT / "contracts" / "test" / name, COPY / "contracts" / "test")
    if mutation:
        path = COPY / "contracts" / "src" / f"{mutation.source}.sol"
        text = path.read_text()
        if mutation.guard not in text:
            raise SystemExit(f"mutations: {mutation.name}: the guard is not in {path.name}")
        path.write_text(text.replace(mutation.guard, mutation.without))
    environment = {**os.environ, "FOUNDRY_INVARIANT_RUNS": "64", "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0"}
    return subprocess.run(
        [str(COPY / "contracts" / "forge"), "test", "--match-test", test],
        capture_output=True,
        text=True,
        env=environment,
    )


def main(words: list[str]) -> int:
    COPY.mkdir(parents=True, exist_ok=True)
    (COPY / "build").mkdir(exist_ok=True)
    node = COPY / "build" / "node"
    if not node.exists():
        node.symlink_to(ROOT / "build" / "node")
    for name in ("forge", "foundry.toml"):
        (COPY / "contracts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "contracts" / name, COPY / "contracts")
    shutil.copytree(ROOT / "contracts" / "tools", COPY / "contracts" / "tools", dirs_exist_ok=True)
    survivors = 0
    chosen = [m for m in MUTATIONS if not words or any(w in m.name for w in words)]
    for mutation in sorted(chosen, key=lambda m: m.suite):
        result = run(mutation, mutation.suite, mutation.test)
        caught = "[FAIL" in result.stdout
        if not caught and "[PASS]" not in result.stdout:
            raise SystemExit(f"mutations: {mutation.name} did not run:\n{(result.stdout + result.stderr)[-3000:]}")
        why = next((line.strip() for line in result.stdout.splitlines() if "[FAIL" in line), "")
        verdict = "caught  " if caught else "SURVIVED"
        print(f"{verdict}  {mutation.name:<28} {mutation.suite}.{mutation.test}  {why[:90]}", flush=True)
        survivors += not caught
    print(f"{len(chosen)} guards removed, {survivors} not noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
