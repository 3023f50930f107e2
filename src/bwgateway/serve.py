"""Starting and stopping a gateway process: ledger, chain, settlement loop, HTTP server."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import structlog
import uvicorn
from sqlalchemy import select

from bwgateway import directory, signed, vouchers
from bwgateway.api.app import create
from bwgateway.backup import GENERATION
from bwgateway.beacon.client import BeaconClient
from bwgateway.beacon.network import NETWORKS, Network
from bwgateway.chain.anvil import Anvil
from bwgateway.chain.artifacts import Addresses, Artifacts, read_addresses
from bwgateway.chain.contracts import Contracts, connect
from bwgateway.chain.deploy import deploy
from bwgateway.chain.light import LightClient, Report
from bwgateway.chain.sender import Sender
from bwgateway.database import Database
from bwgateway.directory import Listing
from bwgateway.gateway import Gateway, mint_keys
from bwgateway.keys import Keys, load_or_create
from bwgateway.limits import Limits
from bwgateway.meter import Meter
from bwgateway.probe import Prober
from bwgateway.promises import Promises
from bwgateway.schema import counters
from bwgateway.settings import BadSettings, Settings
from bwgateway.settlement import Settlement
from bwgateway.tickets import Receipts
from bwgateway.watch import Watch

log = structlog.get_logger()
_FUNDS = 10**24
"""Wei of the embedded chain's coin that treasury and operator start with."""
_HOUSEKEEPING_SECONDS = 600
_EXPIRED_SECONDS = 3600
_GOODBYE_SECONDS = 8
"""How long requests and peers that don't close may hold up the end."""


@asynccontextmanager
async def node_of(settings: Settings) -> AsyncIterator[tuple[str, Anvil | None]]:
    """URL of the chain; with `embedded` the node runs for the length of the block."""
    if settings.chain.rpc != "embedded":
        yield settings.chain.rpc, None
        return
    node = Anvil(settings.chain, settings.state_dir)
    await node.start()
    try:
        yield node.url, node
    finally:
        await node.stop()


async def deploy_on(settings: Settings, keys: Keys, artifacts: Artifacts, url: str, node: Anvil | None) -> Addresses:
    """Deploy everything and write the addresses file; on the embedded chain treasury and operator are funded first."""
    if node is not None:
        for account in (keys.treasury, keys.operator):
            await node.rpc("anvil_setBalance", [account.address, hex(_FUNDS)])
    w3 = connect(url)
    try:
        mine = (lambda: node.rpc("evm_mine", [])) if node is not None else None
        addresses = await deploy(w3, settings, keys, artifacts, mine)
    finally:
        await w3.provider.disconnect()
    if node is not None:
        await node.make_durable()
    addresses.write(settings.addresses_file)
    return addresses


async def _addresses(settings: Settings, keys: Keys, artifacts: Artifacts, url: str, node: Anvil | None) -> Addresses:
    if node is not None and settings.chain.deploy and not settings.addresses_file.exists():
        return await deploy_on(settings, keys, artifacts, url, node)
    return read_addresses(settings.addresses_file)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Gateway]:
    """A started gateway without its HTTP server."""
    keys = load_or_create(settings.state_dir)
    artifacts = Artifacts(settings.chain.artifacts)
    async with AsyncExitStack() as stack:
        db = Database(settings.database)
        stack.push_async_callback(db.close)
        await db.migrate()
        url, node = await stack.enter_async_context(node_of(settings))
        addresses = await _addresses(settings, keys, artifacts, url, node)
        w3 = connect(url)
        stack.push_async_callback(w3.provider.disconnect)
        chain_id = await w3.eth.chain_id
        if chain_id != addresses.chain_id:
            raise BadSettings(f"chain.rpc: {url!r} is chain {chain_id}, the addresses are of {addresses.chain_id}")
        sender = Sender(w3, db, keys.operator, chain_id)
        c = settings.chain
        urls = [url, *c.witnesses]
        light = LightClient(
            urls, c.quorum, c.confirmations, c.reorg_blocks, c.stale_blocks, c.timeout_seconds, _beacon(settings)
        )
        stack.push_async_callback(light.close)
        chain = Contracts(w3, c, addresses, artifacts, keys.operator, sender, node, light)
        mint = mint_keys(settings, keys, await _generation(db))
        settlement = Settlement(db, chain, mint, settings.regions, settings.epoch_seconds, settings.gas_share_bps)
        await settlement.prepare()
        spend_domain = vouchers.domain(chain_id, addresses.settlement)
        promises = Promises(
            db,
            bytes(keys.operator.key),
            spend_domain,
            settlement.relays_wei,
            lambda now: settlement.running(now)["number"],
        )
        prober = Prober() if settings.directory.probe else None
        if prober is not None:
            stack.push_async_callback(prober.close)
        yield Gateway(
            settings=settings,
            keys=keys,
            db=db,
            mint=mint,
            meter=Meter(db, Receipts(keys.gateway), promises),
            chain=chain,
            settlement=settlement,
            listing=Listing(db, keys.gateway, keys.gateway_id),
            limits=Limits(settings.limits),
            watch=Watch(db, chain, settings.directory, prober),
            spend_domain=spend_domain,
            node=node,
        )


def _beacon(settings: Settings) -> Callable[[Report], BeaconClient] | None:
    """How to make the client of the beacon nodes in the settings, if there are any."""
    b = settings.chain.beacon
    if not b.urls:
        return None
    network = NETWORKS.get(b.network)
    if network is None:
        forks = {name: (bytes.fromhex(version), epoch) for name, (version, epoch) in b.forks.items()}
        network = Network(b.genesis_time, bytes.fromhex(b.genesis_validators_root), forks, b.seconds_per_slot)
    return lambda report: BeaconClient(
        b.urls,
        network,
        bytes.fromhex(b.checkpoint.removeprefix("0x")),
        settings.state_dir / "beacon.root",
        report,
        b.final,
        b.stale_slots,
        b.trust_days * 86_400,
        settings.chain.timeout_seconds,
    )


async def _generation(db: Database) -> int:
    """How often all mint keys were replaced (by restoring a backup)."""
    async with db.read() as connection:
        query = select(counters.c.value).where(counters.c.name == GENERATION)
        return (await connection.execute(query)).scalar_one_or_none() or 0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: those raise the signal again before the chain's state is written."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield

    def leave(self) -> None:
        """Finish the requests that run, then stop."""
        self.should_exit = True


def _http(settings: Settings, gateway: Gateway) -> uvicorn.Config:
    """The server's configuration; with a certificate it speaks HTTPS, and SIGHUP reads the files again."""
    tls = settings.tls
    config = uvicorn.Config(
        create(gateway),
        settings.host,
        settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
        proxy_headers=False,  # `Limits` judges whom to believe
        ssl_certfile=tls.certificate or None,
        ssl_keyfile=tls.key or None,
    )
    config.load()
    if config.ssl is not None:
        context = config.ssl
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum == "1.3" else ssl.TLSVersion.TLSv1_2

        def reload() -> None:
            try:
                context.load_cert_chain(tls.certificate, tls.key, password="")
                log.info("tls.reloaded", certificate=tls.certificate)
            except (OSError, ssl.SSLError) as e:
                log.error("tls.not_reloaded", certificate=tls.certificate, error=str(e))

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    return config


def _settle_memory() -> None:
    """What was made at the start stays: the collector need not look at it again, nor look for garbage so often. A full
    collection of it stopped every request for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, or until a part of the gateway fails (its exception is raised)."""
    async with running(settings) as gateway:
        config = _http(settings, gateway)
        server = _Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.leave)
        loops = [asyncio.create_task(_housekeeping(gateway))]
        if settings.settle:
            loops.append(asyncio.create_task(gateway.settlement.run()))
            loops.append(asyncio.create_task(gateway.watch.run()))
        if gateway.node is not None:
            loops.append(asyncio.create_task(gateway.node.run()))
        _settle_memory()
        http = asyncio.create_task(server.serve())
        log.info("gateway.started", url=settings.url, account=gateway.keys.operator.address)
        try:
            done, _ = await asyncio.wait([http, *loops], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            server.should_exit = True
            for loop in loops:
                loop.cancel()
            for loop in loops:
                with suppress(asyncio.CancelledError, Exception):
                    await loop
            await http
            await gateway.settlement.release()
            await gateway.watch.release()
            log.info("gateway.stopped")


async def _housekeeping(gateway: Gateway) -> None:
    """Forget answers of requests so old that nobody can ask for them: past the life of the tickets in them."""
    keep = gateway.settings.mint.key_seconds + gateway.settings.mint.open_seconds + signed.WINDOW
    while True:
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)
        dropped = await signed.forget(gateway.db, int(time.time()) - keep)
        await directory.prune(gateway.db, int(time.time()) - _EXPIRED_SECONDS)
        log.debug("requests.forgotten", count=dropped)
