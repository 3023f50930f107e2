"""Puts all contracts on a chain, makes the regions' pools and bonds the gateway."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from web3 import AsyncWeb3
from web3.exceptions import ContractLogicError

from bwgateway.chain.answers import ChainError
from bwgateway.chain.artifacts import Addresses, Artifacts, revert_reason
from bwgateway.keys import Keys
from bwgateway.settings import BadSettings, Settings

log = structlog.get_logger()
TOKEN = 10**18
_RECEIPT_SECONDS = 180
_OPERATOR_GAS = 10**17
"""Wei of the chain's coin that the operator gets on a public chain, where nothing else funds it."""


class Deployer:
    """Sends one transaction after another from the treasury and waits for each."""

    def __init__(
        self,
        w3: AsyncWeb3[Any],
        account: LocalAccount,
        artifacts: Artifacts,
        mine: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._w3 = w3
        self.account = account
        self._artifacts = artifacts
        self._mine = mine

    async def create(self, name: str, *arguments: Any) -> Any:
        """Deploy a contract; its web3 object."""
        abi = self._artifacts.abi(name)
        factory = self._w3.eth.contract(abi=abi, bytecode=self._artifacts.bytecode(name))
        receipt = await self._send(factory.constructor(*arguments), f"create {name}")
        log.info("deploy.created", contract=name, address=receipt["contractAddress"], gas=receipt["gasUsed"])
        return self._w3.eth.contract(address=receipt["contractAddress"], abi=abi)

    def at(self, name: str, address: str) -> Any:
        """A contract that exists."""
        return self._w3.eth.contract(address=AsyncWeb3.to_checksum_address(address), abi=self._artifacts.abi(name))

    async def call(self, function: Any) -> None:
        """One state-changing call."""
        await self._send(function, function.fn_name)

    async def _send(self, function: Any, what: str) -> Any:
        sender = self.account.address
        try:
            transaction = await function.build_transaction(
                {"from": sender, "nonce": await self._w3.eth.get_transaction_count(sender, "pending")}
            )
        except ContractLogicError as e:
            raise ChainError(f"{what}: {revert_reason(self._artifacts, str(e.data or e))}") from e
        return await self._finish(transaction, what)

    async def pay(self, to: str, wei: int) -> None:
        """Send the chain's own coin."""
        sender = self.account.address
        block = await self._w3.eth.get_block("latest")
        transaction = {
            "to": AsyncWeb3.to_checksum_address(to),
            "value": wei,
            "gas": 21_000,
            "nonce": await self._w3.eth.get_transaction_count(sender, "pending"),
            "chainId": await self._w3.eth.chain_id,
            "maxFeePerGas": 2 * int(block["baseFeePerGas"]) + 10**9,
            "maxPriorityFeePerGas": 10**9,
        }
        await self._finish(transaction, "pay")

    async def _finish(self, transaction: Any, what: str) -> Any:
        signed = self.account.sign_transaction(transaction)
        hash = await self._w3.eth.send_raw_transaction(signed.raw_transaction)
        if self._mine:
            await self._mine()
        receipt = await self._w3.eth.wait_for_transaction_receipt(hash, timeout=_RECEIPT_SECONDS, poll_latency=0.05)
        if receipt["status"] != 1:
            raise ChainError(f"{what}: the transaction {hash.hex()} failed")
        return receipt


async def deploy(
    w3: AsyncWeb3[Any],
    settings: Settings,
    keys: Keys,
    artifacts: Artifacts,
    mine: Callable[[], Awaitable[Any]] | None = None,
) -> Addresses:
    """All contracts, a pool for each region of the settings, the operator's bond; the addresses.

    The treasury owns everything and must hold gas; on a public chain hand ownership to a timelock afterwards.
    """
    start = await w3.eth.block_number
    by = Deployer(w3, keys.treasury, artifacts, mine)
    owner = keys.treasury.address
    token = await by.create("BandwidthToken", owner)
    parameters = await by.create("Parameters", _windows(settings, artifacts))
    factory = await by.create("PoolFactory", token.address, owner)
    registry = await by.create("StakeRegistry", parameters.address, token.address, owner)
    settlement = await by.create("Settlement", parameters.address, token.address, factory.address)
    proof = await by.create("BandwidthProof", parameters.address, token.address, registry.address)
    wired = (parameters, registry, proof, settlement, factory)
    emission = await by.create("Emission", *(contract.address for contract in wired))
    await by.call(factory.functions.connectSettlement(settlement.address))
    await by.call(registry.functions.setAuditor(proof.address))
    await by.call(factory.functions.connectEmission(emission.address))
    regions = {}
    for region in settings.regions:
        regions[str(region)] = await _region(by, settings, token, factory, region)
    await _bond(w3, by, settings, keys, artifacts, token, settlement)
    return Addresses(
        chain_id=await w3.eth.chain_id,
        block=start,
        token=token.address,
        parameters=parameters.address,
        factory=factory.address,
        registry=registry.address,
        settlement=settlement.address,
        regions=regions,
        proof=proof.address,
        emission=emission.address,
    )


def _windows(settings: Settings, artifacts: Artifacts) -> tuple[int, ...]:
    """The constructor's `Windows`, in the order of its ABI."""
    values = settings.windows(settings.epoch_seconds, settings.challenge_seconds)
    constructor = next(item for item in artifacts.abi("Parameters") if item["type"] == "constructor")
    names = [component["name"] for component in constructor["inputs"][0]["components"]]
    missing = sorted(set(names) - set(values))
    if missing:
        raise BadSettings(f"chain.artifacts: Parameters wants windows that this gateway does not know: {missing}")
    return tuple(values[name] for name in names)


async def _region(by: Deployer, settings: Settings, bwt: Any, factory: Any, region: int) -> dict[str, str]:
    """One region: its token, its pool, the first liquidity."""
    owner = by.account.address
    bwt_wei, token_wei = settings.deploy.pool_bwt * TOKEN, settings.deploy.pool_tokens * TOKEN
    await by.call(factory.functions.createRegion(region, f"Bandwidth {region}", f"BW{region}", owner, token_wei))
    token = by.at("RegionToken", await factory.functions.tokenOf(region).call())
    pool = by.at("LiquidityPool", await factory.functions.poolOf(region).call())
    await by.call(bwt.functions.approve(pool.address, bwt_wei))
    await by.call(token.functions.approve(pool.address, token_wei))
    deadline = int(time.time()) + 86_400
    await by.call(pool.functions.addLiquidity(bwt_wei, token_wei, 1, owner, deadline))
    return {"token": token.address, "pool": pool.address}


async def _bond(
    w3: AsyncWeb3[Any], by: Deployer, settings: Settings, keys: Keys, artifacts: Artifacts, token: Any, settlement: Any
) -> None:
    """Make the operator a bonded gateway under its Ed25519 key."""
    bond = settings.deploy.bond_bwt * TOKEN
    operator = Deployer(w3, keys.operator, artifacts, by._mine)
    if await w3.eth.get_balance(keys.operator.address) < _OPERATOR_GAS:
        await by.pay(keys.operator.address, _OPERATOR_GAS)
    await by.call(token.functions.transfer(keys.operator.address, bond))
    await operator.call(token.functions.approve(settlement.address, bond))
    await operator.call(settlement.functions.bond(keys.public, bond, 0, b""))
