"""What a soak is made of, from the environment; each setting with its range."""

from __future__ import annotations

import os
from dataclasses import dataclass

RANGES = {
    "MINUTES": (12.0, 0.5, 1440.0), "ROUTERS": (20, 6, 99), "BUYERS": (10, 1, 40), "SEED": (1, 0, 2**31),
    "GATEWAYS": (3, 1, 8), "VERIFIERS": (4, 0, 8), "EVERY": (5.0, 0.5, 600.0),
}  # fmt: skip


class BadPlan(Exception):
    """A setting is out of range; the text names it, its value and what is allowed."""


@dataclass(frozen=True)
class Plan:
    """One soak. `every`: seconds between two faults, on the average."""

    minutes: float
    routers: int
    buyers: int
    seed: int
    gateways: int
    verifiers: int
    every: float
    exits: int = 2


def number(name: str) -> float:
    """A setting of the environment. Raises BadPlan."""
    default, least, most = RANGES[name]
    text = os.environ.get(name, "") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    whole = isinstance(default, int)
    if not least <= value <= most or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise BadPlan(f"{name}: {text!r} is not allowed; it wants {kind} from {least} to {most}")
    return value


def from_environment() -> Plan:
    """The plan that MINUTES, ROUTERS and so on make. Raises BadPlan."""
    routers, buyers, seed, gateways, verifiers = (
        int(number(n)) for n in ("ROUTERS", "BUYERS", "SEED", "GATEWAYS", "VERIFIERS")
    )
    return Plan(number("MINUTES"), routers, buyers, seed, gateways, verifiers, number("EVERY"))
