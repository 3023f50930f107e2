"""The reference deployment of the contracts on an EVM node, in the order of contracts/README.md."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from web3 import HTTPProvider, Web3

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANVIL = ROOT / "build/node/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
ETHER = 10**18

#: seconds; epoch, challenge, response, withdrawal, unbonding, auditEpoch, commit, reveal, dispute, emissionEpoch, twap
LAB_WINDOWS = (5, 2, 2, 4, 30, 6, 2, 2, 10, 10, 5)


def build() -> pathlib.Path:
    """Compile if a source changed; returns the directory of <Name>.json."""
    spec = importlib.util.spec_from_file_location("contracts_build", ROOT / "contracts/build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: pathlib.Path = module.build()
    return path


@contextmanager
def anvil(*options: str) -> Iterator[Web3]:
    """A fresh anvil on a free loopback port, with unlocked accounts; ended with the block."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    home = ROOT / "build/contracts/home"
    home.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        [str(ANVIL), "--port", str(port), "--silent", *options],
        env={**os.environ, "HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    try:
        w3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}"))
        for _ in range(200):
            if w3.is_connected():
                break
            assert child.poll() is None, "anvil ended"
            time.sleep(0.05)
        yield w3
    finally:
        child.terminate()
        child.wait(10)


@dataclass
class Deployment:
    """Contracts by role; `sender` deployed them and holds what BWT is left."""

    w3: Web3
    sender: str
    parameters: Any
    bwt: Any
    factory: Any
    registry: Any
    settlement: Any
    proof: Any
    emission: Any
    token: Any
    pool: Any

    def send(self, call: Any, sender: str | None = None) -> Any:
        """Send a contract call from an unlocked account and return its receipt; a revert raises."""
        receipt = self.w3.eth.wait_for_transaction_receipt(call.transact({"from": sender or self.sender}))
        assert receipt["status"] == 1
        return receipt

    def advance(self, seconds: int) -> None:
        """Move the chain's clock forward and mine a block."""
        self.w3.provider.make_request("evm_increaseTime", [seconds])  # type: ignore[arg-type]
        self.w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]


def deploy(w3: Web3, windows: tuple[int, ...] = LAB_WINDOWS, region: int = 1) -> Deployment:
    """Deploy everything from the node's first account and seed region's pool at 0.01 BWT a token."""
    artifacts = build()
    sender = w3.eth.accounts[0]

    def load(name: str) -> dict[str, Any]:
        item: dict[str, Any] = json.loads((artifacts / f"{name}.json").read_text())
        return item

    def make(name: str, *args: Any) -> Any:
        item = load(name)
        contract = w3.eth.contract(abi=item["abi"], bytecode=item["bytecode"])
        receipt = w3.eth.wait_for_transaction_receipt(contract.constructor(*args).transact({"from": sender}))
        return w3.eth.contract(address=receipt["contractAddress"], abi=item["abi"])

    def at(name: str, address: str) -> Any:
        return w3.eth.contract(address=Web3.to_checksum_address(address), abi=load(name)["abi"])

    parameters = make("Parameters", windows)
    bwt = make("BandwidthToken", sender)
    factory = make("PoolFactory", bwt.address, sender)
    registry = make("StakeRegistry", parameters.address, bwt.address, sender)
    settlement = make("Settlement", parameters.address, bwt.address, factory.address)
    proof = make("BandwidthProof", parameters.address, bwt.address, registry.address)
    wired = (parameters, registry, proof, settlement, factory)
    emission = make("Emission", *(contract.address for contract in wired))
    d = Deployment(w3, sender, parameters, bwt, factory, registry, settlement, proof, emission, None, None)
    d.send(factory.functions.connectSettlement(settlement.address))
    d.send(registry.functions.setAuditor(proof.address))
    d.send(factory.functions.connectEmission(emission.address))
    d.send(factory.functions.createRegion(region, "Bandwidth of region 1", "BW1", sender, 1_000_000 * ETHER))
    d.token = at("RegionToken", factory.functions.tokenOf(region).call())
    d.pool = at("LiquidityPool", factory.functions.poolOf(region).call())
    d.send(bwt.functions.approve(d.pool.address, 2**256 - 1))
    d.send(d.token.functions.approve(d.pool.address, 2**256 - 1))
    d.send(d.pool.functions.addLiquidity(10_000 * ETHER, 1_000_000 * ETHER, 0, sender, 2**32))
    return d
