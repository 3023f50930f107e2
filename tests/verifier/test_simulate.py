"""The simulation follows the contract's rules and finds what arithmetic says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bwverifier import simulate
from bwverifier.cli import app

FEW = 4000


def run(profile, liars=0.0, epochs=20):
    return simulate.run(profile, FEW, epochs, liars, 0.02, 7)


def test_honest_routers_are_left_alone_and_liars_caught():
    assert run(simulate.Profile("")).suspended == 0
    assert run(simulate.Profile("", rate=0.8)).suspended_in_10 == 1.0
    assert simulate.caught_in_10(0.2, 0.3, 0.02) >= 0.99
    gain, claim = simulate.inflation(0.3, 0.02, FEW)
    assert gain <= 1.05 and 1 <= claim <= 1.12


def test_six_liars_of_ten_decide_nothing_and_seven_do():
    """A draw decided by liars: 1.06 % at 30 %, docs/economics.md A3."""
    o = simulate.run(simulate.Profile("", rate=0.1), 200_000, 1, 0.3, 0.0, 3)
    assert o.credited * 0.1 == pytest.approx(0.0106, rel=0.08)


def test_strikes_as_the_contract_counts_them():
    strikes = np.array([0, 1, 1, 2, 2, 2, 0], np.int8)
    acquittals = np.array([0, 0, 0, 0, 1, 1, 0], np.int8)
    verdict = np.array([1, 0, 1, 0, 0, 1, 2])
    simulate._apply(verdict, strikes, acquittals)
    assert strikes.tolist() == [1, 0, 2, 2, 0, 2, 0]
    assert acquittals.tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_command():
    answer = CliRunner().invoke(app, ["simulate", "--routers", "700", "--epochs", "5", "--json"])
    assert answer.exit_code == 0 and len(json.loads(answer.stdout)["outcomes"]) == len(simulate.PROFILES)
    assert CliRunner().invoke(app, ["simulate", "--liars", "1.5"]).exit_code == 2
