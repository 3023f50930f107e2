"""The light client against nodes that lie: nothing false is accepted, and the liar is named."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from bwgateway import metrics
from bwgateway.chain import layout
from bwgateway.chain.answers import ChainError
from bwgateway.chain.light import LightClient, _field
from bwgateway.chain.proofs import FIELDS
from bwgateway.mint import UNIT_WEI
from bwrouter.ledger import rlp
from tests.gateway.cluster import deploy, node, rpc
from tests.gateway.liar import Liar, liar
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A node, and a contract on it whose slot 7 holds 1000."""
    with node(tmp_path_factory.mktemp("chain")) as url:
        address = "0x" + "c0" * 20
        rpc(url, "anvil_setCode", address, "0x00")
        rpc(url, "anvil_setStorageAt", address, "0x7", "0x" + encode(["uint256"], [1000]).hex())
        rpc(url, "evm_mine")
        yield url, address


SLOT = (7).to_bytes(32, "big")


def faults(proxy: Liar, kind: str) -> float:
    return float(metrics.chain_faults.labels(proxy.url.removeprefix("http://"), kind)._value.get())


async def ask(urls: list[str], quorum: int, address: str, **options: Any) -> int:
    client = LightClient(urls, quorum, timeout=1.0, **options)
    try:
        return (await client.read(address, [SLOT]))[1][0]
    finally:
        await client.close()


async def test_an_honest_node_is_believed(chain: tuple[str, str]) -> None:
    url, address = chain
    assert await ask([url], 1, address) == 1000
    assert (await LightClient([url], 1).read(address, [bytes(32)]))[1] == [0]  # absence is proved too


def wrong_value(method: str, _: list[Any], result: Any) -> Any:
    if method == "eth_getProof":
        result["storageProof"][0]["value"] = hex(10**24)
        nodes = result["storageProof"][0]["proof"]
        nodes[-1] = nodes[-1].replace("8203e8", "827fff")
    return result


def wrong_node(method: str, _: list[Any], result: Any) -> Any:
    if method == "eth_getProof":
        path = result["accountProof"]
        path[0] = path[0][:-2] + ("00" if path[0][-2:] != "00" else "01")
    return result


def no_proof(method: str, _: list[Any], result: Any) -> Any:
    if method == "eth_getProof":
        result["storageProof"][0]["proof"] = []
    return result


def wrong_state_root(method: str, _: list[Any], result: Any) -> Any:
    if method == "eth_getBlockByNumber":
        result["stateRoot"] = "0x" + "11" * 32
    return result


def forked(method: str, _: list[Any], result: Any) -> Any:
    """Another block of the same number, with a header that does hash to its hash."""
    if method == "eth_getBlockByNumber":
        result = copy.deepcopy(result)
        result["extraData"] = "0x6c6965"
        fields = [_field(name, result[name]) for name in FIELDS if result.get(name) is not None]
        result["hash"] = "0x" + keccak(rlp.encode(fields)).hex()
    return result


def garbage(method: str, _: list[Any], result: Any) -> Any:
    return {"eth_getBlockByNumber": {"hash": 5}, "eth_getProof": {"accountProof": "x"}}.get(method, result)


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (wrong_value, "proof"),
        (wrong_node, "proof"),
        (no_proof, "proof"),
        (wrong_state_root, "header"),
        (garbage, "header"),
    ],
)
async def test_a_lie_is_refused_and_named(chain: tuple[str, str], lie: Any, kind: str) -> None:
    url, address = chain
    with liar(url) as proxy:
        assert await ask([proxy.url], 1, address) == 1000
        proxy.lie = lie
        before = faults(proxy, kind)
        with pytest.raises(ChainError):
            await ask([proxy.url], 1, address)
        assert faults(proxy, kind) > before
        # Beside two honest endpoints it does no harm, whichever is asked first.
        with liar(url) as honest, liar(url) as other:
            for urls in ([proxy.url, honest.url, other.url], [honest.url, proxy.url, other.url]):
                assert await ask(urls, 2, address) == 1000


async def test_a_fork_needs_a_quorum(chain: tuple[str, str]) -> None:
    url, address = chain
    with liar(url) as proxy, liar(url) as honest, liar(url) as other:
        proxy.lie = forked
        before = faults(proxy, "fork")
        with pytest.raises(ChainError, match="forks"):
            await ask([proxy.url, honest.url], 2, address)
        assert await ask([proxy.url, honest.url, other.url], 2, address) == 1000
        assert faults(proxy, "fork") >= before + 2


async def test_a_slow_or_dead_endpoint_is_left_out(chain: tuple[str, str]) -> None:
    url, address = chain
    with liar(url) as slow, liar(url) as honest:
        slow.delay = 3.0
        before = faults(slow, "silent")
        with pytest.raises(ChainError, match="1 of 2 endpoints answer, 2 are needed"):
            await ask([slow.url, honest.url], 2, address)
        assert await ask([slow.url, honest.url, url, "http://127.0.0.1:1"], 2, address) == 1000
        assert faults(slow, "silent") >= before + 2


async def test_reads_that_come_together_share_head_and_proof(chain: tuple[str, str]) -> None:
    """Twenty questions at once cost as many requests as one; one of them that can't be answered fails alone."""
    url, address = chain
    asked: list[str] = []

    def note(method: str, _: list[Any], result: Any) -> Any:
        asked.append(method)
        return result

    with liar(url) as proxy:
        proxy.lie = note
        client = LightClient([proxy.url], 1, timeout=2.0)
        numbers = [7, *range(100, 119)]
        answers = await asyncio.gather(*(client.read(address, [n.to_bytes(32, "big"), SLOT]) for n in numbers))
        assert [values for _, values in answers] == [[1000, 1000], *[[0, 1000]] * 19]
        assert asked == ["eth_blockNumber", "eth_getBlockByNumber", "eth_getProof"]
        nothing = client.read("0x" + "c1" * 20, [SLOT])
        good, bad, same = await asyncio.gather(
            client.read(address, [SLOT]), nothing, client.read(address, [SLOT]), return_exceptions=True
        )
        assert not isinstance(good, BaseException) and good[1] == [1000] and not isinstance(same, BaseException)
        assert isinstance(bad, ChainError) and "no endpoint proves" in str(bad)
        await client.close()


async def test_a_head_is_newer_than_the_question(chain: tuple[str, str]) -> None:
    """What is asked while a read is under way is not answered from that one's block."""
    url, address = chain
    with liar(url) as proxy:
        client = LightClient([proxy.url], 1, timeout=3.0)
        proxy.delay = 0.3
        first = asyncio.ensure_future(client.read(address, [SLOT]))
        await asyncio.sleep(0.5)  # it has its height
        rpc(url, "anvil_setStorageAt", address, "0x7", "0x" + encode(["uint256"], [2000]).hex())
        rpc(url, "evm_mine")
        try:
            assert (await client.read(address, [SLOT]))[1] == [2000]
            await first
        finally:
            rpc(url, "anvil_setStorageAt", address, "0x7", "0x" + encode(["uint256"], [1000]).hex())
            rpc(url, "evm_mine")
            await client.close()


async def test_an_old_head_is_named_and_never_taken_back_to(chain: tuple[str, str]) -> None:
    url, address = chain
    for _ in range(6):
        rpc(url, "evm_mine")
    with liar(url) as old:
        client = LightClient([old.url], 1, reorg=3, timeout=1.0)
        newest = (await client.head())[0].number
        old.lie = lambda method, _, result: hex(newest - 5) if method == "eth_blockNumber" else result
        with pytest.raises(ChainError, match="went back"):
            await client.head()
        await client.close()
        before = faults(old, "stale")
        assert await ask([url, old.url, url], 2, address, stale=2) == 1000
        assert faults(old, "stale") == before + 1


async def test_slots_are_where_the_contracts_keep_them(tmp_path: Path) -> None:
    """What is read by proof is what the contracts answer."""
    rig = Rig(tmp_path).start()
    try:
        relay, wallet = Relay(rig).register(), rig.wallet()
        wallet.swap(1, 500 * UNIT_WEI)
        wallet.deposit(1, 500 * UNIT_WEI)
        wallet.wait_for_credit(1, 500 * UNIT_WEI)
        ticket = wallet.issue(1, 64, 1)[0]
        settlement = rig.get("/v1/info")["contracts"]["settlement"]
        wallet.chain.send(settlement, "requestWithdrawal(address,uint16,uint256)", wallet.gateway, 1, 7 * UNIT_WEI)
        relay.open(ticket)
        relay.redeem((ticket.id, 64, ticket.top))
        rig.until(lambda: int(relay.earnings()["balance_wei"]), 40, "claim")
        client = LightClient([rig.rpc], 1)
        _, values = await client.read(settlement, layout.deposit(wallet.gateway, 1, wallet.address))
        assert layout.deposit_values(values) == (500 * UNIT_WEI, 64 * UNIT_WEI, 7 * UNIT_WEI)
        _, values = await client.read(settlement, layout.ledger(wallet.gateway, 1))
        fields = ["address", "uint40", "uint32", "bytes32", "bytes32", "uint128", "uint128", "uint128"]
        told = wallet.chain.call(settlement, "ledger(address,uint16)", fields, wallet.gateway, 1)
        found = layout.ledger_values(values)
        assert (found.token.lower(), *list(vars(found).values())[1:-1]) == told and found.spent == 64 * UNIT_WEI
        assert found.challenges == 0  # the contract keeps that to itself
        await client.close()
        entry = rig.get(f"/v1/stake/{relay.id.hex()}")
        assert (entry["owner"], entry["payout"]) == (relay.owner.address, relay.payout)
        assert (entry["rate_kbps"], entry["region"], entry["stake"]) == (40_000, 1, str(100 * 10**18))
    finally:
        rig.stop()


def test_stakes_that_age_are_read_together(tmp_path: Path) -> None:
    """Relays that redeem all the time cost one proof each time that their stakes are too old, not one each."""
    with node(tmp_path / "chain") as url, liar(url) as proxy:
        rig = Rig(tmp_path / "gateway", chain={"rpc": proxy.url, "stake_cache_seconds": 2}, directory={"probe": False})
        rig.rpc = url
        deploy(rig, url)
        rig.start()
        try:
            relays = [Relay(rig).register() for _ in range(4)]
            registry, proofs = rig.get("/v1/info")["contracts"]["registry"].lower(), []

            def note(method: str, given: list[Any], result: Any) -> Any:
                if method == "eth_getProof" and given[0].lower() == registry:
                    proofs.append(len(given[1]) // 2)
                return result

            def ask() -> None:
                for relay in relays:
                    assert rig.get(f"/v1/earnings/{relay.id.hex()}")["region"] == 1

            ask()
            proxy.lie = note
            until = time.monotonic() + 8
            while time.monotonic() < until:
                ask()
            assert 3 <= len(proofs) <= 8 and max(proofs) >= 3, proofs  # 12 and more, each of one, if each went alone
        finally:
            rig.stop()


def test_a_deposit_that_a_reorganisation_takes_back_buys_nothing(tmp_path: Path) -> None:
    """Credited, taken back before it was spent, and sent again by its owner: the balance follows the chain."""
    with node(tmp_path / "chain") as url:
        chain = {"rpc": url, "reorg_blocks": 64, "stake_cache_seconds": 0}
        rig = Rig(tmp_path / "gateway", chain=chain)
        rig.rpc = url
        deploy(rig, url)
        rig.start()
        try:
            relay, wallet = Relay(rig).register(), rig.wallet()
            wallet.swap(1, 128 * UNIT_WEI)
            saved = rpc(url, "evm_snapshot")
            wallet.deposit(1, 128 * UNIT_WEI)
            account = f"/v1/accounts/{wallet.address}/1"
            assert field(rig, account, "balance_wei") == 128 * UNIT_WEI
            assert rpc(url, "evm_revert", saved)
            rpc(url, "anvil_setNextBlockBaseFeePerGas", hex(2 * 10**9))  # another block than the one before
            for _ in range(5):
                rpc(url, "evm_mine")
            rig.until(lambda: field(rig, account, "balance_wei") == 0, 20, "the balance taken back")
            with pytest.raises(Exception, match="deposit"):
                wallet.issue(1, 64, 1)
            wallet.deposit(1, 64 * UNIT_WEI)
            wallet.wait_for_credit(1, 64 * UNIT_WEI)
            ticket = wallet.issue(1, 64, 1)[0]
            relay.open(ticket)
            relay.redeem((ticket.id, 64, ticket.top))
            # Roots are taken back too, and posted again.
            earnings = f"/v1/earnings/{relay.id.hex()}"
            saved = rpc(url, "evm_snapshot")
            due = 64 * UNIT_WEI * 9 // 10
            rig.until(lambda: field(rig, earnings, "balance_wei") == due, 60, "claim")
            assert rpc(url, "evm_revert", saved)
            for _ in range(12):
                rpc(url, "evm_mine")
            rig.until(lambda: field(rig, earnings, "balance_wei") == due, 60, "the claim again")
        finally:
            rig.stop()


def field(rig: Rig, path: str, name: str) -> int | None:
    """A number of an answer, or None while the endpoints disagree."""
    answer = rig.http.get(rig.url + path, timeout=30)
    return int(answer.json()[name]) if answer.status_code == 200 else None


def test_a_lying_chain_credits_nothing_and_posts_nothing(tmp_path: Path) -> None:
    """A gateway whose two endpoints disagree answers 503; when they agree again it goes on."""
    with node(tmp_path / "chain") as url, liar(url) as proxy:
        chain = {"rpc": url, "witnesses": [proxy.url], "quorum": 2, "timeout_seconds": 10, "stake_cache_seconds": 0}
        rig = Rig(tmp_path / "gateway", chain=chain)
        rig.rpc = url
        deploy(rig, url)
        rig.start()
        try:
            relay, wallet = Relay(rig).register(), rig.wallet()
            tickets = wallet.buy(1, 64, 2)
            relay.open(tickets[0])
            wallet.swap(1, 64 * UNIT_WEI)
            proxy.lie = forked
            assert relay.redeem((tickets[0].id, 64, tickets[0].top))[0]["ok"]  # needs no chain
            wallet.deposit(1, 64 * UNIT_WEI)
            answer = rig.http.get(f"{rig.url}/v1/accounts/{wallet.address}/1", timeout=20)
            assert (answer.status_code, answer.json()["code"]) == (503, "chain")
            time.sleep(9)
            assert not any(e["state"] in ("posted", "settled") for e in rig.get("/v1/epochs")["epochs"])
            proxy.lie = None
            account, earnings = f"/v1/accounts/{wallet.address}/1", f"/v1/earnings/{relay.id.hex()}"
            rig.until(lambda: field(rig, account, "balance_wei") == 64 * UNIT_WEI, 40, "credit")
            rig.until(lambda: field(rig, earnings, "balance_wei") == 64 * UNIT_WEI * 9 // 10, 60, "claim")
            assert 'kind="fork"' in rig.http.get(rig.url + "/metrics", timeout=10).text
        finally:
            rig.stop()
