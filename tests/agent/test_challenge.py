"""A root below a receipt, end to end: an honest gateway answers a challenge, one that leaves a relay out loses its bond."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from bwclient.chain import Chain
from bwclient.wallet import Wallet
from tests.agent.parts import ROOT, AgentProcess, GatewayProcess, RelayPeer, until
from tests.agent.test_agent import meter, open_message
from tests.gateway.rig import LAB_WINDOWS

pytestmark = pytest.mark.slow  # a chain of its own, and the windows of a challenge
EPOCH, WINDOW, RESPONSE = 10, 45, 12
REGION = 1


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = ROOT / "build/tmp" / f"challenge-{os.getpid()}"  # unix sockets want a short path
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[GatewayProcess]:
    windows = {**LAB_WINDOWS, "response": RESPONSE, "withdrawal": WINDOW, "unbonding": 3 * WINDOW}
    found = GatewayProcess(folder / "g", epoch_seconds=EPOCH, challenge_seconds=WINDOW, deploy=windows)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def wallet(folder: Path, gateway: GatewayProcess) -> Wallet:
    buyer = Wallet(os.urandom(32), gateway.url, gateway.rpc, folder / "buyer", bytes.fromhex(gateway.key))
    gateway.fund(buyer.address, 100, 1)
    return buyer


@pytest.fixture(scope="module")
def agent(folder: Path, gateway: GatewayProcess) -> Iterator[AgentProcess]:
    found = AgentProcess(folder / "a", [{"url": gateway.url, "key": gateway.key}])
    assert found.cli("keys", "init").returncode == 0
    gateway.fund(json.loads(found.cli("keys", "show", "--json").stdout)["wallet"], 50)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def finder(gateway: GatewayProcess) -> Chain:
    """Anybody with a wallet."""
    key = os.urandom(32)
    gateway.fund(Account.from_key(key).address, 300, 10)
    return Chain(gateway.rpc, key)


def send(gateway: GatewayProcess, sender: str, to: str, data: str) -> bool:
    """Send call data as `sender`, whoever that is; whether it succeeded."""
    chain = Chain(gateway.rpc, os.urandom(32))
    chain.rpc("anvil_impersonateAccount", sender)
    hash = chain.rpc("eth_sendTransaction", {"from": sender, "to": to, "data": data, "gas": hex(1_000_000)})
    receipt = until("the transaction", lambda: chain.rpc("eth_getTransactionReceipt", hash))
    return bool(int(receipt["status"], 16))


def call(gateway: GatewayProcess, signature: str, returns: list[str], *arguments: Any) -> tuple[Any, ...]:
    settlement = gateway.info["contracts"]["settlement"]
    return Chain(gateway.rpc, os.urandom(32)).call(settlement, signature, returns, *arguments)


def earn(agent: AgentProcess, wallet: Wallet, units: int) -> None:
    peer = RelayPeer(agent)
    try:
        peer.hello(True)
        (ticket,) = wallet.buy(REGION, 64, 1)
        peer.tell(open_message(ticket))
        peer.expect("opened", id=ticket.id.hex(), ok=True)
        peer.tell(meter(ticket, units, True))
        peer.expect("redeemed", id=ticket.id.hex(), index=units)
    finally:
        peer.close()


def kept(gateway: GatewayProcess, agent: AgentProcess) -> list[dict[str, Any]]:
    try:
        book = json.loads((agent.run_dir / "tickets.json").read_text())
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = book["promises"].get(gateway.key, [])
    return found


def challenge(agent: AgentProcess, python: bool = False) -> tuple[int, dict[str, Any]]:
    """`bwrouter challenge --json`, on MicroPython or CPython: its exit code, and what it says of the gateway."""
    words = ("challenge", "--json")
    if python:
        command = [sys.executable, "-m", "bwrouter", *words, "--config", str(agent.config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    else:
        done = agent.cli(*words)
    assert done.stdout, done.stderr
    (entry,) = json.loads(done.stdout)["gateways"]
    return done.returncode, entry


def test_a_gateway_answers_a_challenge_that_it_can(
    gateway: GatewayProcess, agent: AgentProcess, wallet: Wallet, finder: Chain
) -> None:
    until("published", lambda: [g for g in agent.status().get("gateways", []) if g["published_until"]], 40)
    # The chain's clock is that of its last block: away from an epoch's ends both clocks are in the same one.
    until("the middle of an epoch", lambda: 3 <= time.time() % EPOCH < 6)
    earn(agent, wallet, 23)
    (receipt,) = until("a receipt", lambda: kept(gateway, agent))
    assert int(receipt["cumulative_wei"]) == 23 * (10**18 // 16_384) * 90 // 100
    account, contracts = gateway.info["account"], gateway.info["contracts"]

    def epoch() -> int:
        types = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128", "uint128"]
        return int(call(gateway, "ledger(address,uint16)", types, account, REGION)[2])

    until("a root of that epoch", lambda: epoch() >= receipt["epoch"], 30)
    for python in (False, True):
        code, found = challenge(agent, python)
        assert (code, found["code"], found["error"]) == (0, "", "")
    text = agent.cli("challenge").stdout
    assert "holds what its receipts promise" in text

    def challenged(signature: str) -> None:
        finder.send(
            contracts["settlement"], "challenge(address,uint16,address,uint32,uint256,bytes)", account, REGION,
            receipt["account"], receipt["epoch"], int(receipt["cumulative_wei"]), bytes.fromhex(signature),
        )  # fmt: skip

    finder.send(contracts["token"], "approve(address,uint256)", contracts["settlement"], 200 * 10**18)
    with pytest.raises(Exception, match="revert|WrongReceipt"):
        challenged(receipt["sig"][:-4] + "0000")
    before = finder.call(contracts["token"], "balanceOf(address)", ["uint256"], account)[0]
    challenged(receipt["sig"])

    def answered() -> bool:
        return bool(call(gateway, "openChallenges(address,uint16)", ["uint256"], account, REGION)[0] == 0)

    assert not answered()
    until("the gateway's answer", answered, RESPONSE)
    assert finder.call(contracts["token"], "balanceOf(address)", ["uint256"], account)[0] - before == 100 * 10**18
    until("its log", lambda: "challenge.answered" in gateway.log.read_text())


def test_one_that_leaves_the_relay_out_loses_its_bond(
    gateway: GatewayProcess, agent: AgentProcess, wallet: Wallet, finder: Chain
) -> None:
    account, contracts = gateway.info["account"], gateway.info["contracts"]
    gateway.stop()
    gateway.settings["settle"] = False
    gateway.start()
    until("the gateway again", lambda: agent.status().get("gateways", [{}])[0].get("ok"), 60)
    earn(agent, wallet, 17)
    total = 40 * (10**18 // 16_384) * 90 // 100
    newest = until("a receipt", lambda: [r for r in kept(gateway, agent) if int(r["cumulative_wei"]) == total])[0]
    until("the last root is final", lambda: _post(gateway), WINDOW + 10)
    agent.kill()  # it has its receipts again, and looks at once
    agent.start()
    (code, found), (other, same) = challenge(agent), challenge(agent, True)
    assert code == other == 1 and found == same
    assert found["code"] == "root-below-receipt" and found["promised_wei"] == newest["cumulative_wei"]
    assert send(gateway, finder.address, found["bond_token"], found["bond_data"])
    assert send(gateway, finder.address, found["to"], found["data"])
    try:
        shown = until("the shortfall in status", lambda: agent.status().get("shortfall"), 60)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{agent.status()}\n{agent.log.read_text()[-2000:]}") from e
    assert (shown["code"], shown["promised_wei"], shown["posted_wei"]) == ("root-below-receipt", str(total), "0")
    assert "bwrouter challenge" in agent.cli("status").stdout
    payout = newest["account"]
    arguments = (account, REGION, payout)
    assert call(gateway, "openChallenges(address,uint16)", ["uint256"], account, REGION)[0] == 1
    convict = Chain.data("convict(address,uint16,address)", *arguments)
    before = finder.call(contracts["token"], "balanceOf(address)", ["uint256"], finder.address)[0]
    until("conviction", lambda: send(gateway, finder.address, contracts["settlement"], convict), RESPONSE + 10)
    won = finder.call(contracts["token"], "balanceOf(address)", ["uint256"], finder.address)[0] - before
    assert won > 100 * 10**18  # its bond back, and a share of the gateway's


def _post(gateway: GatewayProcess) -> bool:
    """As the gateway: a root that nobody's leaf is under."""
    account, settlement = gateway.info["account"], gateway.info["contracts"]["settlement"]
    types = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128", "uint128"]
    ledger = call(gateway, "ledger(address,uint16)", types, account, REGION)
    epoch = call(gateway, "currentEpoch()", ["uint32"])[0]
    data = Chain.data("postRoot(uint16,uint32,bytes32,uint256)", REGION, epoch, b"\x5a" * 32, ledger[6])
    return send(gateway, account, settlement, data)
