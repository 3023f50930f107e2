"""`bw wallet | buy | quote | refund`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from eth_account import Account

from . import vault
from .chain import ChainError
from .files import write_bytes
from .oprf import BadElement, BadProof
from .purse import BIG, SMALL, PurseError, open_wallet
from .settings import Settings
from .show import GIB_UNITS, Fail, amount, coins, emit, out, pairs, progress
from .wallet import UNIT_WEI, Wallet, WalletError

_REFUSALS = (WalletError, ChainError, PurseError, BadProof, BadElement, OSError)
Config = Annotated[str, typer.Option("--config", "-c", help="settings, a JSON file")]
Json = Annotated[bool, typer.Option("--json", help="raw values, for programs")]
Region = Annotated[int, typer.Option("--region", min=0, help="0: the one of the settings")]
Gib = Annotated[float, typer.Argument(min=0.00390625, max=65536, help="GiB through one hop; a 3-hop path uses three")]


def register(app: typer.Typer, load: Callable[..., Settings]) -> None:
    """Add the commands to `bw`. `load`: settings of a --config option."""
    wallet_app = typer.Typer(
        invoke_without_command=True, help="The buyer's key, balances and tickets.",
        short_help="key, balances and tickets",
    )  # fmt: skip
    app.add_typer(wallet_app, name="wallet")

    @wallet_app.callback()
    def wallet(context: typer.Context, config: Config = "", as_json: Json = False) -> None:
        if context.invoked_subcommand is None:
            _show(load(config), as_json)

    @wallet_app.command("new")
    def new(
        config: Config = "", plain: Annotated[bool, typer.Option(help="do not encrypt")] = False, as_json: Json = False
    ) -> None:
        """Make a key, encrypted at rest with a passphrase."""
        _new(load(config), plain, as_json)

    @wallet_app.command("encrypt")
    def encrypt(config: Config = "", as_json: Json = False) -> None:
        """Encrypt a key that lies bare, or change the passphrase."""
        _encrypt(load(config), as_json)

    @app.command(short_help="what bandwidth costs now")
    def quote(gib: Gib, config: Config = "", region: Region = 0, as_json: Json = False) -> None:
        """What bandwidth costs now, with how far buying it moves the price."""
        _quote(load(config), gib, region, as_json)

    @app.command(short_help="buy bandwidth ahead of its use")
    def buy(gib: Gib, config: Config = "", region: Region = 0, as_json: Json = False) -> None:
        """Buy bandwidth ahead: swap, deposit, and take tickets."""
        _buy(load(config), gib, region, as_json)

    @app.command(short_help="get back what was not used")
    def refund(config: Config = "", region: Region = 0, as_json: Json = False) -> None:
        """Get back what was not used: the rest of tickets, and the deposit that no ticket was taken for."""
        _refund(load(config), region, as_json)


def _wallet(s: Settings) -> Wallet:
    try:
        return open_wallet(s)
    except PurseError as e:
        raise Fail(str(e)) from e


def _show(s: Settings, as_json: bool) -> None:
    w = _wallet(s)
    try:
        regions = {}
        for region in s.all_regions:
            balance, issued = w.account(region)
            tickets = w.store.unspent(region)
            regions[str(region)] = {
                "deposit_wei": str(balance), "issued_wei": str(issued), "tickets": len(tickets),
                "ticket_units": sum(t.units for t in tickets),
            }  # fmt: skip
        document: dict[str, Any] = {
            "address": w.address, "bwt_wei": str(w.chain.balance(w.info["contracts"]["token"])), "regions": regions,
            "encrypted": vault.is_vault(Path(s.wallet_key_file).read_text()),
        }  # fmt: skip
    except _REFUSALS as e:
        raise Fail(str(e)) from e
    if emit(document, as_json):
        return
    pairs(
        [("address", w.address), ("BWT", coins(int(document["bwt_wei"]))),
         ("key file", "encrypted" if document["encrypted"] else "bare: `bw wallet encrypt` protects it"),
         *((f"region {r}", _held(x)) for r, x in regions.items())]
    )  # fmt: skip


def _held(x: dict[str, Any]) -> str:
    deposit = coins(int(x["deposit_wei"]))
    return f"{amount(x['ticket_units'])} in {x['tickets']} tickets, deposit {deposit}"


def _new(s: Settings, plain: bool, as_json: bool) -> None:
    path = Path(s.wallet_key_file)
    if path.exists():
        raise Fail(f"{path} exists already; move it away first: it may hold money")
    key = os.urandom(32)
    try:
        if plain:
            write_bytes(path, key.hex().encode() + b"\n")
        else:
            vault.save_key(str(path), key, vault.passphrase(s.passphrase_file, "New passphrase: ", twice=True))
    except (vault.VaultError, OSError) as e:
        raise Fail(str(e)) from e
    address = Account.from_key(key).address
    if not emit({"address": address, "encrypted": not plain, "file": str(path)}, as_json):
        out.print(f"{address}  send BWT, and a little of the chain's coin for fees, to this address")


def _encrypt(s: Settings, as_json: bool) -> None:
    try:
        key = vault.load_key(s.wallet_key_file, s.passphrase_file)
        old = os.environ.pop("BW_PASSPHRASE", None)
        new = os.environ.get("BW_NEW_PASSPHRASE") or old or vault.passphrase("", "New passphrase: ", twice=True)
        vault.save_key(s.wallet_key_file, key, new)
    except (vault.VaultError, OSError) as e:
        raise Fail(str(e)) from e
    if not emit({"encrypted": True, "file": s.wallet_key_file}, as_json):
        out.print(f"{s.wallet_key_file} is encrypted")


def _quote(s: Settings, gib: float, region: int, as_json: bool) -> None:
    w, at = _wallet(s), region or s.region
    units = round(gib * GIB_UNITS)
    try:
        q = w.quote(at, units * UNIT_WEI)
    except _REFUSALS as e:
        raise Fail(str(e)) from e
    most = q.bwt_wei * (10_000 + int(s.slippage_pct * 100)) // 10_000
    document = {
        "region": at, "units": units, "bwt_wei": str(q.bwt_wei), "impact_bps": q.impact_bps, "most_bwt_wei": str(most),
    }  # fmt: skip
    if not emit(document, as_json):
        pairs([("for", f"{amount(units)} through one hop in region {at}"), ("price", f"{coins(q.bwt_wei)} BWT"),
               ("moves the price by", f"{q.impact_bps / 100:.2f} %"),
               ("at most", f"{coins(most)} BWT ({s.slippage_pct} % slippage)")])  # fmt: skip


def _buy(s: Settings, gib: float, region: int, as_json: bool) -> None:
    from .budget import Budget

    w, at = _wallet(s), region or s.region
    units = -(-round(gib * GIB_UNITS) // SMALL) * SMALL
    budget = Budget(Path(s.state_dir) / "spent.json", s.spend_limit_hour_units, s.spend_limit_day_units)
    if units > budget.left():
        raise Fail(f"{units} units are more than the {budget.left()} that the limits leave: {budget.why()}")
    bought = 0
    with progress(f"Buying {amount(units)}", units, as_json) as move:
        for size, count in ((BIG, units // BIG), (SMALL, units % BIG // SMALL)):
            while count > 0:
                some = min(count, 16)
                budget.note(size * some)
                try:
                    w.buy(at, size, some, int(s.slippage_pct * 100), int(s.max_impact_pct * 100))
                except _REFUSALS as e:
                    raise Fail(f"{e}; {amount(bought)} of {amount(units)} are bought, `bw buy` again goes on") from e
                count -= some
                bought += size * some
                move(bought)
    if not emit({"region": at, "units": bought}, as_json):
        out.print(f"bought {amount(bought)} through one hop in region {at}")


def _refund(s: Settings, region: int, as_json: bool) -> None:
    w, at = _wallet(s), region or s.region
    try:
        tickets = w.reclaim(at)
        withdrawal = w.withdraw(at)
    except _REFUSALS as e:
        raise Fail(str(e)) from e
    units = sum(t.units for t in tickets)
    document = {"region": at, "tickets": len(tickets), "units": units, **withdrawal}
    if emit(document, as_json):
        return
    if tickets:
        out.print(f"{amount(units)} came back as {len(tickets)} new tickets")
    words = {
        "none": "no deposit is left to withdraw", "requested": "the withdrawal of {} is asked for; due in {} s",
        "waiting": "the withdrawal of {} is due in {} s; `bw refund` then fetches it", "done": "{} were withdrawn",
    }  # fmt: skip
    said = words[withdrawal["state"]].format(coins(int(withdrawal["wei"])), withdrawal["seconds"])
    out.print(said)
