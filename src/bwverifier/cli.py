"""`bwverifier <command>`. Exit codes: 0 good, 1 not, 2 a wrong setting or command line."""

from __future__ import annotations

import faulthandler
import json
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from rich.live import Live

from bwclient.chain import Chain, ChainError
from bwclient.meter import NoTicket
from bwclient.reach import OWN
from bwclient.settings import SettingsError
from bwclient.show import Fail, emit, out, table
from bwclient.vault import VaultError, load_key

from . import display, plots, report, settings
from . import simulate as simulation
from .duty import Duty
from .journal import Journal

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Measures relays, reports on the chain, and simulates what audits catch.")  # fmt: skip
CONFIG = "/etc/bwrouter/verifier.json"
Config = Annotated[str, typer.Option("--config", "-c", help="settings, a JSON file")]
Json = Annotated[bool, typer.Option("--json", help="raw values, for programs")]


def _load(config: str) -> settings.Settings:
    try:
        return settings.load(config)
    except SettingsError as e:
        raise Fail(str(e), 2) from e


def _duty(s: settings.Settings) -> tuple[Duty, dict[str, Any]]:
    """The account's place at BandwidthProof, and the contracts' addresses."""
    state = Path(s.state_dir)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        contracts: dict[str, Any] = OWN.session().get(s.gateway.url + "/v1/info", timeout=10).json()["contracts"]
        chain = Chain(s.rpc_url, load_key(s.wallet_key_file, s.passphrase_file), alone=True)
        return Duty(chain, contracts["proof"], Journal(state / "journal.sqlite")), contracts
    except (requests.RequestException, ValueError, KeyError) as e:
        raise Fail(f"gateway {s.gateway.url}: {e}") from e
    except (ChainError, VaultError) as e:
        raise Fail(str(e)) from e


@app.command()
def run(config: Config = CONFIG, as_json: Json = False) -> None:
    """Audit until interrupted; with --json one object a line for everything that happens."""
    s = _load(config)
    from .daemon import Verifier

    def tell(text: str) -> None:
        print(json.dumps({"time": int(time.time()), "event": text}) if as_json else text, flush=True)

    live_display = out.is_terminal and not as_json
    try:
        v = Verifier(s, (lambda text: None) if live_display else tell)
    except (ChainError, VaultError, NoTicket, requests.RequestException, OSError) as e:
        raise Fail(str(e)) from e

    def stop(*_: object) -> None:
        v.stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    faulthandler.register(signal.SIGUSR1)  # where every thread is, on stderr
    try:
        if live_display:
            with Live(console=out, auto_refresh=False, screen=True) as live:
                _show(v, live)
                v.run()
        else:
            v.run()
    except (NoTicket, ChainError) as e:
        raise Fail(str(e)) from e
    finally:
        v.stop = True
        v.close()


def _show(v: Any, live: Live) -> None:
    """Draw the screen twice a second, until the end."""

    def draw() -> None:
        while not v.stop:
            live.update(display.screen(v.status(), v.duty.audit), refresh=True)
            time.sleep(0.5)

    threading.Thread(target=draw, name="display", daemon=True).start()


@app.command("report")
def report_command(
    config: Config = CONFIG,
    relay: Annotated[str, typer.Option(help="of this relay only: how its id begins")] = "",
    most: Annotated[int, typer.Option(min=1, max=10_000, help="audits, the newest first")] = 20,
    as_json: Json = False,
) -> None:
    """What was measured, what was reported, and why."""
    s = _load(config)
    try:
        found = report.gather(Path(s.state_dir) / "journal.sqlite", most, relay.lower())
    except FileNotFoundError as e:
        raise Fail(str(e)) from e
    if not emit(found, as_json):
        table(("epoch", "relay", "state", "result", "measured", "why"), report.rows(found))


@app.command()
def join(config: Config = CONFIG, as_json: Json = False) -> None:
    """Put up the bond (1000 BWT of wallet_key_file): in the draw from the epoch after the next."""
    duty, contracts = _duty(_load(config))
    try:
        if not duty.status()[0]:
            duty.join(contracts["token"])
        bond, since, _ = duty.status()
    except ChainError as e:
        raise Fail(str(e)) from e
    if not emit({"address": duty.chain.address, "bond_wei": str(bond), "from_epoch": since}, as_json):
        out.print(f"{duty.chain.address}: bond of {bond / 1e18:.0f} BWT, in the draw from epoch {since}")


@app.command()
def leave(config: Config = CONFIG) -> None:
    """Give notice; the same again once the notice has run out fetches the bond."""
    duty, _ = _duty(_load(config))
    try:
        duty.leave()
        bond, _, until = duty.status()
    except ChainError as e:
        raise Fail(str(e)) from e
    out.print(f"in the draw until epoch {until}" if bond else "the bond is paid out")


@app.command()
def simulate(
    routers: Annotated[int, typer.Option(min=100, max=10_000_000, help="routers in all")] = 100_000,
    epochs: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    liars: Annotated[float, typer.Option(min=0, max=1, help="share of the seats that lie")] = 0.3,
    sigma: Annotated[float, typer.Option(min=0, max=1, help="spread of a measurement, as a share")] = 0.02,
    seed: int = 1,
    to: Annotated[str, typer.Option("--plots", help="folder for the plots of docs/economics.md, as SVG")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Honest and cheating routers through audit epochs, under the contract's rules."""
    if to:
        for path in plots.write(Path(to), routers // 10, sigma, seed):
            out.print(str(path))
        return
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
