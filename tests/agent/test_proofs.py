"""The router's signatures and proofs on a real chain: what it signs the contracts take, what it proves they say."""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from web3 import Web3

from bwgateway.chain import proofs as gateway_proofs
from bwrouter.agent import keys, proofs, registration
from bwrouter.agent import owner as owner_commands
from bwrouter.agent.worker import Worker
from bwrouter.ledger import merkle, mpt
from bwrouter.platform import config, process
from tests.contracts.deployment import ETHER, ROOT, Deployment, anvil, deploy

pytestmark = pytest.mark.slow  # compiles and deploys the contracts
STAKE = 30 * ETHER
SETTINGS = {"region": 1, "rate_kbps": 20000, "stake_wei": str(STAKE), "payout": "0x" + "cd" * 20}


@pytest.fixture(scope="module")
def chain() -> Iterator[Deployment]:
    with anvil() as w3:
        yield deploy(w3)


@pytest.fixture(scope="module")
def router() -> keys.Keys:
    return keys.Keys(b"\1" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32)


@pytest.fixture(scope="module")
def info(chain: Deployment) -> dict[str, Any]:
    return {
        "chain_id": chain.w3.eth.chain_id,
        "account": chain.sender,
        "contracts": {
            "token": chain.bwt.address,
            "registry": chain.registry.address,
            "settlement": chain.settlement.address,
        },
    }


def owner(router: keys.Keys) -> str:
    return Web3.to_checksum_address(router.address)


def nonces(chain: Deployment, router: keys.Keys) -> dict[str, int]:
    who = owner(router)
    return {"register": chain.registry.functions.nonces(who).call(), "permit": chain.bwt.functions.nonces(who).call()}


@pytest.fixture(scope="module")
def registered(chain: Deployment, router: keys.Keys, info: dict[str, Any]) -> dict[str, Any]:
    """The body that the router signed and the registry took, with a permit and no allowance before."""
    chain.send(chain.bwt.functions.transfer(owner(router), STAKE))
    body = registration.register(router, SETTINGS, info, nonces(chain, router), int(time.time()))
    entry = (
        bytes.fromhex(body["relay"]), owner(router), Web3.to_checksum_address(body["payout"]), body["region"],
        body["rate_kbps"], int(body["stake"]), body["deadline"],
    )  # fmt: skip
    signatures = bytes.fromhex(body["sig"]), bytes.fromhex(body["permit_sig"])
    chain.send(chain.registry.functions.register(entry, *signatures))
    return body


def answer(chain: Deployment, router: keys.Keys, payout: bytes = b"\xcd" * 20) -> dict[str, Any]:
    """What GET /v1/proofs/{relay} answers, from the node itself."""
    wanted = proofs.slots(router.relay, bytes.fromhex(chain.sender[2:]), 1, payout)
    block = chain.w3.eth.get_block("latest")
    out: dict[str, Any] = {"header": gateway_proofs.header(block).hex()}
    balance = [mpt.mapping_slot(router.address, proofs.BALANCES_SLOT)]
    parts = (("registry", chain.registry, wanted[0]), ("settlement", chain.settlement, wanted[1]))
    for name, contract, slots in (*parts, ("token", chain.bwt, balance)):
        got = chain.w3.eth.get_proof(contract.address, [int.from_bytes(s, "big") for s in slots], block["number"])
        out[name] = {
            "account": [bytes(n).hex() for n in got["accountProof"]],
            "slots": [[bytes(n).hex() for n in entry["proof"]] for entry in got["storageProof"]],
        }
    return out


def test_the_registry_takes_the_routers_signatures(
    chain: Deployment, router: keys.Keys, registered: dict[str, Any]
) -> None:
    entry = chain.registry.functions.relay(router.relay).call()
    assert entry[:6] == (owner(router), STAKE, Web3.to_checksum_address("0x" + "cd" * 20), 20000, 1, 1)
    assert chain.bwt.functions.balanceOf(owner(router)).call() == 0


def test_the_proof_says_what_the_registry_says(
    chain: Deployment, router: keys.Keys, info: dict[str, Any], registered: dict[str, Any]
) -> None:
    found = proofs.verify(answer(chain, router), info, router.relay, 1, b"\xcd" * 20)
    owner_, stake, payout, rate, region, state, unlock = chain.registry.functions.relay(router.relay).call()
    assert found["stake"] == {
        "owner": owner_.lower(), "stake": str(stake), "payout": payout.lower(), "rate_kbps": rate, "region": region,
        "state": proofs.STATES[state], "unlock_at": unlock,
    }  # fmt: skip
    block = chain.w3.eth.get_block("latest")
    assert (found["block"], found["hash"], found["time"]) == (
        block["number"], bytes(block["hash"]).hex(), block["timestamp"],
    )  # fmt: skip


def test_a_buyer_does_not_wait_for_proofs(
    chain: Deployment, router: keys.Keys, info: dict[str, Any], registered: dict[str, Any]
) -> None:
    """An open that comes while a proof is checked is done before the proof is through."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker = Worker(config.settings({"log_level": "error"}), router, process.Channel(ends[1].fileno()))

    class Gateway:
        key = "aa" * 32

        def __init__(self) -> None:
            self.info = info

        def call(self, method: str, path: str) -> dict[str, Any]:
            ends[0].send(json.dumps({"t": "open", "tickets": [{"key": "bb" * 32}]}).encode())
            return answer(chain, router)

    ends[0].setblocking(False)
    worker.stake = proofs.verify(answer(chain, router), info, router.relay, 1, b"\xcd" * 20)["stake"]
    worker.earnings = {}
    worker._prove(Gateway(), 1)
    assert worker.proved and worker.proved["state"] == "active"
    assert [json.loads(ends[0].recv(65536))["t"] for _ in range(2)] == ["opened", "idle"]
    for end in ends:
        end.close()


def test_a_relay_that_never_registered_is_proved_absent(
    chain: Deployment, info: dict[str, Any], registered: dict[str, Any]
) -> None:
    other = keys.Keys(b"\5" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32)
    assert proofs.verify(answer(chain, other), info, other.relay, 1, b"\xcd" * 20)["stake"]["state"] == "none"


def test_what_the_wallet_holds_is_proved(
    chain: Deployment, router: keys.Keys, info: dict[str, Any], registered: dict[str, Any]
) -> None:
    chain.send(chain.bwt.functions.transfer(owner(router), 7 * 10**18))
    good = answer(chain, router)
    assert proofs.free(good, info, router.address) == 7 * 10**18
    part = good["token"]
    shorter, none, other = part["slots"][0][:-1], [], good["registry"]["slots"][0]
    bad = [{**good, "token": {**part, "slots": [slot]}} for slot in (shorter, none, other)]
    bad += [{**good, "token": good["registry"]}, {**good, "token": {**part, "slots": []}}, {"header": good["header"]}]
    for wrong in bad:
        with pytest.raises(proofs.Unproved):
            proofs.free(wrong, info, router.address)


def test_every_change_to_an_answer_is_noticed(
    chain: Deployment, router: keys.Keys, info: dict[str, Any], registered: dict[str, Any]
) -> None:
    good = answer(chain, router)
    truth = proofs.verify(good, info, router.relay, 1, b"\xcd" * 20)

    def changed(text: str) -> str:
        middle = len(text) // 2
        return text[:middle] + ("0" if text[middle] != "0" else "1") + text[middle + 1 :]

    bad: list[dict[str, Any]] = [{}, {**good, "header": "c0"}, {**good, "header": good["header"][:-2]}]
    for name in ("registry", "settlement"):
        part = good[name]
        bad.append({**good, name: {**part, "account": [changed(part["account"][0]), *part["account"][1:]]}})
        bad.append({**good, name: {**part, "account": part["account"][:-1]}})
        bad.append({**good, name: {**part, "slots": part["slots"][:-1]}})
        if name == "registry":  # in an empty trie, which Settlement's is here, no node is the right proof
            bad.append({**good, name: {**part, "slots": [[], *part["slots"][1:]]}})
    swapped = list(reversed(good["registry"]["slots"]))
    bad.append({**good, "registry": {**good["registry"], "slots": swapped}})
    bad.append({**good, "registry": good["settlement"], "settlement": good["registry"]})
    for wrong in bad:
        with pytest.raises(proofs.Unproved):
            proofs.verify(wrong, info, router.relay, 1, b"\xcd" * 20)
    # A forged header is a header of no chain: its hash is another.
    forged = {**good, "header": good["header"][:-64] + "00" * 32}
    assert proofs.verify(forged, info, router.relay, 1, b"\xcd" * 20)["hash"] != truth["hash"]


def test_the_owners_other_decisions(chain: Deployment, router: keys.Keys, registered: dict[str, Any]) -> None:
    chain_id, registry = chain.w3.eth.chain_id, bytes.fromhex(chain.registry.address[2:])
    deadline = int(time.time()) + 600
    payout = b"\xee" * 20
    for decision, values, arguments in (
        (registration.SET_PAYOUT, {"payout": payout}, [Web3.to_checksum_address(payout)]),
        (registration.SET_RATE, {"rateKbps": 15000}, [15000]),
        (registration.UNSTAKE, {}, []),
    ):
        given = {**values, "relayId": router.relay, "nonce": nonces(chain, router)["register"], "deadline": deadline}
        signature = registration.sign(registration.REGISTRY, decision, given, router, chain_id, registry)
        name = decision[0][0].lower() + decision[0][1:]
        chain.send(chain.registry.functions[name](router.relay, *arguments, deadline, signature))
    entry = chain.registry.functions.relay(router.relay).call()
    assert (entry[2], entry[3], entry[5]) == (Web3.to_checksum_address(payout), 15000, proofs.STATES.index("unbonding"))


def test_slots_are_the_compilers() -> None:
    spec = importlib.util.spec_from_file_location("contracts_layout", ROOT / "contracts/build.py")
    assert spec and spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    sources = build.collect()
    build.OUTPUTS = ["storageLayout"]
    found = build.compile_part(sources, ["src/StakeRegistry.sol", "src/Settlement.sol", "src/BandwidthToken.sol"])
    layouts = {name: part["storageLayout"] for file in found.values() for name, part in file.items()}

    def slot(contract: str, label: str) -> int:
        return next(int(s["slot"]) for s in layouts[contract]["storage"] if s["label"] == label)

    def members(contract: str, struct: str) -> dict[str, tuple[int, int]]:
        kinds = layouts[contract]["types"].values()
        members = next(t["members"] for t in kinds if t["label"].endswith("." + struct) and "members" in t)
        return {m["label"]: (int(m["slot"]), m["offset"]) for m in members}

    assert slot("StakeRegistry", "_relays") == proofs.RELAYS_SLOT
    assert slot("BandwidthToken", "_balances") == proofs.BALANCES_SLOT
    assert slot("Settlement", "_ledgers") == proofs.LEDGERS_SLOT
    assert members("StakeRegistry", "Relay") == {
        "owner": (0, 0), "stake": (0, 20), "payout": (1, 0), "rateKbps": (1, 20), "region": (1, 24), "state": (1, 26),
        "unlockAt": (1, 27),
    }  # fmt: skip
    ledger = members("Settlement", "Ledger")
    head = {name: ledger[name] for name in ("token", "claimableAt", "epoch", "challenges")}
    assert head == {"token": (0, 0), "claimableAt": (0, 20), "epoch": (0, 25), "challenges": (0, 29)}
    assert ledger["root"] == (proofs.ROOT_OFFSET, 0) and ledger["pendingRoot"] == (proofs.PENDING_OFFSET, 0)
    assert ledger["total"] == (proofs.TOTAL_OFFSET, 0) and ledger["claimed"] == (proofs.CLAIMED_OFFSET, 0)


def test_earnings_need_a_root_that_is_on_chain() -> None:
    payout = b"\xcd" * 20
    leaf = merkle.leaf(bytes(12) + payout + (77).to_bytes(32, "big"))
    sibling = bytes(range(32))
    root = merkle.root_of(leaf, [sibling]).hex()
    posted = {"cumulative_wei": "77", "root": root, "proof": [sibling.hex()]}
    assert proofs.earned(posted, payout, {"root": root, "pending_root": ""}) == (77, True)
    assert proofs.earned(posted, payout, {"root": "00" * 32, "pending_root": root}) == (77, False)
    for wrong in (
        {**posted, "cumulative_wei": "78"}, {**posted, "proof": []}, {**posted, "root": "00" * 32}, {},
        {**posted, "cumulative_wei": "-1"}, {**posted, "proof": ["zz"]},
    ):  # fmt: skip
        with pytest.raises(proofs.Unproved):
            proofs.earned(wrong, payout, {"root": root, "pending_root": root})
    with pytest.raises(proofs.Unproved):
        proofs.earned(posted, payout, {"root": "00" * 32, "pending_root": "11" * 32})


def test_the_claim_that_anybody_may_send(chain: Deployment) -> None:
    proof = [bytes([i]) * 32 for i in range(3)]
    gateway, account = b"\x0a" * 20, b"\x0b" * 20
    arguments = [Web3.to_checksum_address(gateway), 7, Web3.to_checksum_address(account), 10**20, proof]
    expected = chain.settlement.encode_abi("claim", args=arguments)
    assert "0x" + owner_commands.claim_data(gateway, 7, account, 10**20, proof).hex() == expected


def test_heads() -> None:
    heads = proofs.Heads()
    heads.add("a", 100, "x")
    heads.add("a", 90, "y")
    heads.add("b", 90, "z")
    assert heads.differ("b", 90, "z") and not heads.differ("b", 91, "z") and not heads.differ("a", 90, "z")
    with pytest.raises(proofs.Unproved):
        heads.add("a", 20, "q")
