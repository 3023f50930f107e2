"""`bwverifier simulate`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from . import simulate as simulation

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Measures relays and simulates what audits catch.")  # fmt: skip


@app.callback()
def _group() -> None:
    """Commands are words of their own, also while there is only one."""


@app.command()
def simulate(
    routers: Annotated[int, typer.Option(min=100, max=10_000_000, help="routers in all")] = 100_000,
    epochs: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    liars: Annotated[float, typer.Option(min=0, max=1, help="share of the seats that lie")] = 0.3,
    sigma: Annotated[float, typer.Option(min=0, max=1, help="spread of a measurement, as a share")] = 0.02,
    seed: int = 1,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Honest and cheating routers through audit epochs, under the contract's rules."""
    each = routers // len(simulation.PROFILES)
    outcomes = [simulation.run(p, each, epochs, liars, sigma, seed + i) for i, p in enumerate(simulation.PROFILES)]
    if as_json:
        print(json.dumps({"routers": each * len(outcomes), "outcomes": [asdict(o) for o in outcomes]}))
        return
    print(f"{'router':40} {'in 10 epochs':>12} {'ever':>8} {'median':>7} {'credited':>9}")
    for o in outcomes:
        print(f"{o.name:40} {o.suspended_in_10:12.2%} {o.suspended:8.2%} {o.median_epochs:7.0f} {o.credited:9.3f}")


def main() -> None:
    """Entry of the command; typer ends with 2 for a wrong option."""
    app()
