"""`bwgateway serve | deploy | status | keys | fund | backup | restore`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
import uvloop
from sqlalchemy.exc import SQLAlchemyError
from web3 import AsyncWeb3

from bwgateway import backup as backups
from bwgateway import serve as serving
from bwgateway.chain.answers import ChainError
from bwgateway.chain.anvil import ChainDown
from bwgateway.chain.artifacts import Artifacts, read_addresses
from bwgateway.chain.contracts import connect
from bwgateway.chain.deploy import TOKEN, Deployer
from bwgateway.keys import BadKey, load_or_create
from bwgateway.log import configure
from bwgateway.settings import BadSettings, Settings, load

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ticket mint, directory and settlement of a pool.",
)
Config = Annotated[Path | None, typer.Option("--config", help="JSON or TOML file of settings")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]


def main() -> None:
    """Entry of the command: wrong settings exit 2, a chain or ledger that is down exits 1."""
    try:
        app()
    except (BadSettings, BadKey, backups.BadBackup) as e:
        _fail(str(e), 2)
    except (ChainDown, ChainError, httpx.HTTPError, SQLAlchemyError, OSError) as e:
        _fail(f"{type(e).__name__}: {e}", 1)


def _fail(message: str, code: int) -> NoReturn:
    print(f"bwgateway: {message}", file=sys.stderr)
    sys.exit(code)


def _load(config: Path | None) -> Settings:
    settings = load(config)
    configure(settings.log_level, settings.log_json)
    return settings


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(document, sort_keys=True))
        return
    for key, value in document.items():
        print(f"{key:<18} {json.dumps(value) if isinstance(value, dict | list) else value}")


@app.command()
def serve(config: Config = None) -> None:
    """Run the gateway. With the embedded chain, contracts are deployed at the first start."""
    uvloop.run(serving.serve(_load(config)))


@app.command()
def deploy(config: Config = None, as_json: Json = False) -> None:
    """Put the contracts on the chain of the settings and write the addresses file."""
    settings = _load(config)
    if settings.addresses_file.exists():
        raise BadSettings(f"chain.addresses: {str(settings.addresses_file)!r} exists; move it away to deploy anew")

    async def work() -> None:
        keys = load_or_create(settings.state_dir)
        async with serving.node_of(settings) as (url, node):
            await serving.deploy_on(settings, keys, Artifacts(settings.chain.artifacts), url, node)

    asyncio.run(work())
    _print(json.loads(settings.addresses_file.read_text(encoding="utf-8")), as_json)


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """What a running gateway says of itself."""
    settings = _load(config)
    # The certificate is this gateway's own, whatever names are in it: it is reached on this machine.
    with httpx.Client(base_url=settings.url, timeout=10, trust_env=False, verify=False) as client:
        health = client.get("/healthz").json()
        info = client.get("/v1/info").json()
        epochs = client.get("/v1/epochs").json()["epochs"]
        directory = client.get("/v1/directory").json()
    _print(
        {
            "health": health,
            "gateway_key": info.get("gateway_key"),
            "account": info.get("account"),
            "epoch": info.get("epoch"),
            "relays": len(directory.get("descriptors", [])),
            "last_root": epochs[0] if epochs else None,
        },
        as_json,
    )
    if not health.get("ok"):
        sys.exit(1)


@app.command()
def keys(config: Config = None, as_json: Json = False) -> None:
    """Public keys and addresses of this gateway; makes the key files when they are missing."""
    found = load_or_create(_load(config).state_dir)
    _print(
        {
            "gateway_key": found.public.hex(),
            "gateway_id": found.gateway_id.hex(),
            "operator": found.operator.address,
            "treasury": found.treasury.address,
        },
        as_json,
    )


@app.command()
def fund(
    address: Annotated[str, typer.Argument(help="0x-address that gets it")],
    bwt: Annotated[int, typer.Option(min=0, help="whole BWT out of the treasury")] = 0,
    coin: Annotated[int, typer.Option(min=0, help="whole coins of the chain, for gas")] = 0,
    rpc: Annotated[str, typer.Option(help="JSON-RPC URL; empty: the one of the settings")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send BWT and gas from the treasury, which holds the first supply."""
    settings = _load(config)
    if not AsyncWeb3.is_address(address):
        raise BadSettings(f"ADDRESS: {address!r} is not an address")
    url = rpc or settings.chain.rpc
    if url == "embedded":
        host = "127.0.0.1" if settings.chain.host == "0.0.0.0" else settings.chain.host
        url = f"http://{host}:{settings.chain.port}"

    async def work() -> None:
        w3 = connect(url)
        try:
            by = Deployer(w3, load_or_create(settings.state_dir).treasury, Artifacts(settings.chain.artifacts))
            token = by.at("BandwidthToken", read_addresses(settings.addresses_file).token)
            if coin:
                await by.pay(address, coin * TOKEN)
            if bwt:
                await by.call(token.functions.transfer(AsyncWeb3.to_checksum_address(address), bwt * TOKEN))
        finally:
            await w3.provider.disconnect()

    asyncio.run(work())
    _print({"address": address, "bwt": bwt, "coin": coin}, as_json)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="file to write; it holds every secret of the gateway")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Keys, addresses, chain state and the whole ledger in one file; the gateway may run."""
    settings = _load(config)
    if file.exists():
        raise BadSettings(f"FILE: {str(file)!r} exists; name another, so that no backup is lost")
    if not file.absolute().parent.is_dir():
        raise BadSettings(f"FILE: there is no folder {str(file.absolute().parent)!r}")
    _print(asyncio.run(backups.backup(settings, file.absolute())), as_json)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="a backup")],
    old_tickets: Annotated[
        str, typer.Option(help="accept: the gateway has not run since the backup; refuse: it has, or nobody knows")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Put a backup into an empty state folder and database.

    Tickets that were opened after the backup would open again: with `refuse` all mint keys are replaced, and no ticket
    from before counts any more.
    """
    if old_tickets not in ("accept", "refuse"):
        raise BadSettings(
            f"--old-tickets: {old_tickets!r} is not allowed: say accept if the gateway has not run since the backup was"
            " taken, else refuse (tickets opened since then could be opened twice)"
        )
    _print(asyncio.run(backups.restore(_load(config), file, old_tickets == "accept")), as_json)
