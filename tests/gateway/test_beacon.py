"""Light-client sync against a beacon chain of 512 real keys, from Capella over Deneb to Electra, and against its liars."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bwgateway.beacon import sync
from bwgateway.beacon.client import BeaconClient, NoHead
from bwgateway.beacon.network import Network
from bwgateway.beacon.types import BadUpdate, Bootstrap, Committee, Execution, Header, Update
from bwgateway.chain.answers import ChainError
from bwgateway.chain.light import LightClient
from tests.gateway.beaconchain import BeaconChain, BeaconNode, beacon_node, root
from tests.gateway.cluster import node, rpc
from tests.gateway.liar import liar

pytestmark = pytest.mark.slow
PERIOD = 8192
HEAD = 3 * PERIOD + 900
FORKS = {
    "phase0": (bytes(4), 0), "altair": (b"\1\0\0\0", 0), "bellatrix": (b"\2\0\0\0", 0), "capella": (b"\3\0\0\0", 0),
    "deneb": (b"\4\0\0\0", 256), "electra": (b"\5\0\0\0", 512),
}  # fmt: skip
PAYLOAD: dict[str, Any] = {
    "block_number": 77, "state_root": b"\x11" * 32, "block_hash": b"\x22" * 32, "timestamp": 1_700_000_000,
    "extra_data": b"anvil", "logs_bloom": bytes(range(256)), "base_fee_per_gas": 10**18 + 7, "gas_limit": 30_000_000,
    "fee_recipient": b"\x0a" * 20, "withdrawals_root": b"\x33" * 32, "blob_gas_used": 131072, "excess_blob_gas": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def chain() -> BeaconChain:
    """The clock stands 10 slots after HEAD."""
    network = Network(int(time.time()) - 12 * (HEAD + 10), bytes(range(32)), FORKS)
    return BeaconChain(network, 3)


@pytest.fixture(scope="module")
def start(chain: BeaconChain) -> sync.Store:
    block = chain.block(320, **PAYLOAD)
    return sync.begin(chain.network, block.root, Bootstrap.of(chain.bootstrap(block)))


@pytest.fixture(scope="module")
def updates(chain: BeaconChain) -> list[dict[str, Any]]:
    """One update a period, and the newest."""
    return [chain.pair(period * PERIOD + 640, **PAYLOAD) for period in range(4)] + [chain.pair(HEAD, **PAYLOAD)]


def now(chain: BeaconChain, slot: int = HEAD + 2) -> float:
    return chain.network.genesis_time + 12.0 * slot


def test_roots_are_remerkleables(chain: BeaconChain) -> None:
    for slot in (320, PERIOD + 640, HEAD):
        block = chain.block(slot, **PAYLOAD)
        header = Header.of(block.json)
        assert header.beacon.root == block.root
        execution = header.execution
        assert execution is not None
        ours = execution.capella_root if block.fork == "capella" else execution.deneb_root
        assert ours == root(block.body.f9)
        assert (execution.number, execution.state_root, execution.hash) == (77, b"\x11" * 32, b"\x22" * 32)
    assert Committee.of(chain.bootstrap(block)["current_sync_committee"]).root == root(block.state.f22)


def test_committees_are_followed_across_forks(chain: BeaconChain, start: sync.Store, updates: list[Any]) -> None:
    store = start
    for period, document in enumerate(updates[:-1]):
        store = sync.apply(store, Update.of(document), now(chain))
        assert store.period == period and store.following is not None
        assert store.finalized.beacon.slot == period * PERIOD + 640 - 64
    store = sync.apply(store, Update.of(updates[-1]), now(chain))
    assert (store.optimistic.beacon.slot, store.finalized.beacon.slot) == (HEAD, HEAD - 64)
    assert sync.apply(store, Update.of(updates[-1]), now(chain)) == store
    # Two thirds are enough, one fewer is not.
    barely = chain.pair(HEAD + 1, absent=512 - sync.QUORUM, **PAYLOAD)
    assert sync.apply(store, Update.of(barely), now(chain)).optimistic.beacon.slot == HEAD + 1
    with pytest.raises(BadUpdate, match="341 of 512 signed"):
        sync.apply(store, Update.of(chain.pair(HEAD + 1, absent=513 - sync.QUORUM, **PAYLOAD)), now(chain))


def _set(path: str, value: Any) -> Any:
    def change(document: Any) -> None:
        *where, last = path.split(".")
        for name in where:
            document = document[int(name)] if isinstance(document, list) else document[name]
        document[int(last) if isinstance(document, list) else last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("attested_header.beacon.state_root", "0x" + "00" * 32), "not that of its state|not in the block"),
        (_set("attested_header.beacon.proposer_index", "1"), "signature"),
        (_set("attested_header.beacon.body_root", "0x" + "00" * 32), "not in the block"),
        (_set("attested_header.execution.state_root", "0x" + "00" * 32), "not in the block"),
        (_set("attested_header.execution.block_number", "78"), "not in the block"),
        (_set("attested_header.execution.extra_data", "0x616e76696c00"), "not in the block"),
        (_set("attested_header.execution.excess_blob_gas", "6"), "not in the block"),
        (_set("attested_header.execution_branch.0", "0x" + "11" * 32), "not in the block"),
        (_set("attested_header.execution_branch", []), "not in the block"),
        (_set("finalized_header.beacon.slot", str(HEAD - 63)), "not that of its state"),
        (_set("finalized_header.execution.state_root", "0x" + "00" * 32), "not in the block"),
        (_set("finality_branch.3", "0x" + "11" * 32), "not that of its state"),
        (_set("next_sync_committee.pubkeys.5", "0x" + "00" * 48), "another next committee|not that of its state"),
        (_set("next_sync_committee_branch.1", "0x" + "11" * 32), "not that of its state"),
        (_set("sync_aggregate.sync_committee_signature", "0x" + "00" * 96), "signature"),
        (_set("sync_aggregate.sync_committee_signature", "0xc0" + "00" * 95), "signature"),
        (_set("sync_aggregate.sync_committee_bits", "0x" + "ff" * 63 + "7f"), "signature"),
        (_set("sync_aggregate.sync_committee_bits", "0x" + "00" * 64), "0 of 512"),
        (_set("signature_slot", str(HEAD)), "out of order"),
        (_set("signature_slot", str(HEAD + 100)), "out of order"),
        (_set("signature_slot", str(2 * PERIOD)), "out of order"),
        (_set("signature_slot", "x"), "no number"),
        (_set("attested_header.execution.logs_bloom", "0x00"), "1 bytes where 256 belong"),
        (_set("sync_aggregate", None), "sync_committee_bits is missing"),
    ],
)
def test_what_is_false_is_refused(chain: BeaconChain, start: sync.Store, updates: Any, change: Any, words: str) -> None:
    store = start
    for document in updates[:-1]:
        store = sync.apply(store, Update.of(document), now(chain))
    bad = copy.deepcopy(updates[-1])
    change(bad)
    with pytest.raises(BadUpdate, match=words):
        sync.apply(store, Update.of(bad), now(chain))


def test_only_the_right_committee_counts(chain: BeaconChain, start: sync.Store, updates: list[Any]) -> None:
    with pytest.raises(BadUpdate, match="signature does not hold"):
        sync.apply(start, Update.of(chain.pair(700, by=1, **PAYLOAD)), now(chain))
    with pytest.raises(BadUpdate, match="not known yet"):
        sync.apply(start, Update.of(updates[1]), now(chain))
    with pytest.raises(BadUpdate, match="known are 0"):
        sync.apply(start, Update.of(updates[2]), now(chain))
    bootstrap = chain.bootstrap(chain.block(320, **PAYLOAD))
    with pytest.raises(BadUpdate, match="not for"):
        sync.begin(chain.network, bytes(32), Bootstrap.of(bootstrap))
    bootstrap["current_sync_committee"] = updates[0]["next_sync_committee"]
    with pytest.raises(BadUpdate, match="committee is not"):
        sync.begin(chain.network, start.finalized.beacon.root, Bootstrap.of(bootstrap))
    # A next committee under a header that is not final of the same period is not taken.
    unfinal = chain.update(chain.block(PERIOD - 5, **PAYLOAD), None, PERIOD - 4)
    assert sync.apply(start, Update.of(unfinal), now(chain)).following is None


class Faults(list[tuple[str, str, str]]):
    def __call__(self, *fault: str) -> None:
        self.append((fault[0], fault[1], fault[2]))


@pytest.fixture
def beacon(chain: BeaconChain, updates: list[Any]) -> Iterator[BeaconNode]:
    with beacon_node() as found:
        serve(found, chain, updates)
        yield found


def serve(found: BeaconNode, chain: BeaconChain, updates: list[Any], **payload: Any) -> None:
    """Bootstraps at the block of slot 320 and at the newest final one; updates from any period on."""
    found.documents.clear()
    for slot in (320, HEAD - 64):
        block = chain.block(slot, **{**PAYLOAD, **payload})
        found.documents[f"bootstrap/0x{block.root.hex()}"] = {"data": chain.bootstrap(block)}
    for first in range(4):
        for count in range(1, 17):
            listed = [{"data": document} for document in updates[first : min(4, first + count)]]
            found.documents[f"updates?start_period={first}&count={count}"] = listed
    for kind in ("finality_update", "optimistic_update"):
        found.documents[kind] = {"data": {k: v for k, v in updates[-1].items() if not k.startswith("next_")}}


def client(beacons: list[BeaconNode], chain: BeaconChain, folder: Path, faults: Faults, **options: Any) -> BeaconClient:
    checkpoint = chain.block(320, **PAYLOAD).root
    urls = [b.url for b in beacons]
    return BeaconClient(urls, chain.network, checkpoint, folder / "beacon.root", faults, **options)


async def head(found: BeaconClient) -> Execution:
    try:
        return await found.head()
    finally:
        await found.close()


async def test_a_client_reaches_the_head_and_begins_there_again(
    chain: BeaconChain, beacon: BeaconNode, tmp_path: Path
) -> None:
    faults = Faults()
    assert (await head(client([beacon], chain, tmp_path, faults))).state_root == b"\x11" * 32
    assert (await head(client([beacon], chain, tmp_path, faults, final=False))).number == 77
    beacon.asked.clear()
    await head(client([beacon], chain, tmp_path, faults))
    kept = chain.block(HEAD - 64, **PAYLOAD).root
    assert beacon.asked[0] == f"bootstrap/0x{kept.hex()}" and not faults
    assert "updates?start_period=0&count=4" not in beacon.asked


async def test_lying_and_dead_beacon_nodes_are_named(chain: BeaconChain, beacon: BeaconNode, tmp_path: Path) -> None:
    forged = chain.pair(HEAD, by=2, **{**PAYLOAD, "state_root": b"\x66" * 32})

    def lie(name: str, document: Any) -> Any:
        return {"data": forged} if name == "finality_update" else document

    with beacon_node() as liar_, beacon_node() as empty:
        liar_.documents, liar_.lie = beacon.documents, lie
        faults = Faults()
        assert (await head(client([empty, liar_, beacon], chain, tmp_path, faults))).state_root == b"\x11" * 32
        assert {kind for _, kind, _ in faults} >= {"beacon"} and any("signature" in text for _, _, text in faults)
        alone = client([liar_], chain, tmp_path / "alone", faults)
        (tmp_path / "alone").mkdir()
        with pytest.raises(NoHead, match="slots behind the clock"):
            await head(alone)
    with pytest.raises(NoHead):
        await head(client([empty], chain, tmp_path / "none", Faults()))
    old = client([beacon], chain, tmp_path / "old", Faults(), trust_seconds=3600)
    with pytest.raises(NoHead, match="newer chain.beacon.checkpoint"):
        await head(old)


async def test_storage_is_proved_under_a_signed_head(chain: BeaconChain, updates: list[Any], tmp_path: Path) -> None:
    """One RPC endpoint, no quorum: its proofs must lead to the state root that the committee has signed for."""
    with node(tmp_path / "node") as url, beacon_node() as found, liar(url) as proxy:
        address = "0x" + "c0" * 20
        rpc(url, "anvil_setCode", address, "0x00")
        rpc(url, "anvil_setStorageAt", address, "0x7", "0x" + (1000).to_bytes(32, "big").hex())
        rpc(url, "evm_mine")
        block = rpc(url, "eth_getBlockByNumber", "latest", False)
        real: dict[str, Any] = {
            "block_number": int(block["number"], 16), "state_root": bytes.fromhex(block["stateRoot"][2:]),
            "block_hash": bytes.fromhex(block["hash"][2:]), "timestamp": int(block["timestamp"], 16),
        }  # fmt: skip
        signed = [*updates[:-1], chain.pair(HEAD, **{**PAYLOAD, **real})]
        serve(found, chain, signed)
        light = LightClient(
            [proxy.url], 1, timeout=5.0, beacon=lambda report: client([found], chain, tmp_path, Faults())
        )
        slot = (7).to_bytes(32, "big")
        at, values = await light.read(address, [slot])
        assert values == [1000] and (at.number, at.hash) == (real["block_number"], real["block_hash"])
        rpc(url, "evm_mine")  # or anvil changes the state of the signed block itself
        rpc(url, "anvil_setStorageAt", address, "0x7", "0x" + (2000).to_bytes(32, "big").hex())
        rpc(url, "evm_mine")
        assert (await light.read(address, [slot]))[1] == [1000]  # still what was signed

        def newest(method: str, parameters: list[Any], result: Any) -> Any:
            """A node that proves another state, however well."""
            if method == "eth_getProof":
                return rpc(url, method, *parameters[:2], "latest")
            return result

        proxy.lie = newest
        with pytest.raises(ChainError, match="no endpoint proves"):
            await light.read(address, [slot])
        await light.close()
