"""The Solidity tests and the stateful invariants, by forge."""

from __future__ import annotations

import subprocess

import pytest

from tests.contracts.deployment import ROOT


def forge(*arguments: str) -> None:
    run = subprocess.run(
        [str(ROOT / "contracts/forge"), "test", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed; 0 failed; 0 skipped" in run.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_solidity_tests() -> None:
    forge("--no-match-contract", "Invariant")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_solidity_invariants() -> None:
    """256 runs of 100 calls each; `FOUNDRY_PROFILE=long contracts/forge test --match-contract Invariant` goes deeper."""
    forge("--match-contract", "Invariant")
