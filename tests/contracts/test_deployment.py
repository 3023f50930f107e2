"""The life of one payment on a real node: register without gas, swap, deposit, voucher, root, claim."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractCustomError

from tests.contracts import signing
from tests.contracts.deployment import ETHER, ROOT, Deployment, anvil, deploy

REGION = 1
RELAYS_SLOT, LEDGERS_SLOT, CLAIMED_OFFSET = 5, 4, 5
ROUTER = "0x" + "51" * 32
BUYER = "0x" + "52" * 32


@pytest.fixture(scope="module")
def d() -> Iterator[Deployment]:
    with anvil() as w3:
        yield deploy(w3)


def merkle_tree(leaves: list[tuple[str, int]]) -> dict[str, Any]:
    """Root and proofs from OpenZeppelin's own library."""
    script = """
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");
const tree = StandardMerkleTree.of(JSON.parse(process.argv[1]), ["address", "uint256"]);
const proofs = {};
for (const [i, v] of tree.entries()) proofs[v[0]] = tree.getProof(i);
console.log(JSON.stringify({ root: tree.root, proofs }));
"""
    values = json.dumps([[a, str(n)] for a, n in leaves])
    out = subprocess.run(["node", "-e", script, values], cwd=ROOT / "build/node", capture_output=True, check=True)
    tree: dict[str, Any] = json.loads(out.stdout)
    return tree


def test_payment_from_swap_to_claim(d: Deployment) -> None:
    w3, f = d.w3, d.settlement.functions
    gateway = list(w3.eth.accounts)[1]
    now = w3.eth.get_block("latest")["timestamp"]
    deadline = now + 3600

    # A router that has never held the chain's coin registers: the gateway sends its two signatures.
    owner = Account.from_key(ROUTER).address
    relay_id, stake = Web3.keccak(text="relay"), 100 * ETHER
    d.send(d.bwt.functions.transfer(owner, stake))
    fields = (relay_id, owner, owner, REGION, 40_000, stake)
    nonce = d.registry.functions.nonces(owner).call()
    signature = signing.sign(
        ROUTER, d.registry, "bwrouter StakeRegistry", "Register", signing.REGISTER, *fields, nonce, deadline
    )
    permit = signing.permit(ROUTER, d.bwt, "Bandwidth Token", d.registry.address, stake, deadline)
    d.send(d.registry.functions.register((*fields, deadline), signature, permit), gateway)
    assert d.registry.functions.relay(relay_id).call() == (owner, stake, owner, 40_000, REGION, 1, 0)
    assert w3.eth.get_balance(owner) == 0

    # The gateway bonds; the buyer swaps and deposits.
    d.send(d.bwt.functions.transfer(gateway, 10_000 * ETHER))
    d.send(d.bwt.functions.approve(d.settlement.address, 10_000 * ETHER), gateway)
    d.send(f.bond(Web3.keccak(text="ed25519"), 10_000 * ETHER, deadline, b""), gateway)
    buyer = Account.from_key(BUYER).address
    w3.provider.make_request("anvil_impersonateAccount", [buyer])  # type: ignore[arg-type]
    w3.provider.make_request("anvil_setBalance", [buyer, hex(ETHER)])  # type: ignore[arg-type]
    d.send(d.bwt.functions.transfer(buyer, 10 * ETHER))
    d.send(d.bwt.functions.approve(d.pool.address, 10 * ETHER), buyer)
    want = 100 * ETHER
    cost, impact = d.pool.functions.quoteExactOut(d.bwt.address, want).call()
    with pytest.raises(ContractCustomError):
        d.send(d.pool.functions.swapExactOut(d.bwt.address, want, cost - 1, buyer, deadline), buyer)
    d.send(d.pool.functions.swapExactOut(d.bwt.address, want, cost, buyer, deadline), buyer)
    assert d.token.functions.balanceOf(buyer).call() == want
    assert 30 <= impact <= 32
    permit = signing.permit(BUYER, d.token, "Bandwidth of region 1", d.settlement.address, want, deadline)
    d.send(f.depositWithPermit(gateway, REGION, buyer, want, deadline, permit), buyer)

    # Tickets for 40 tokens were issued; the router and another relay earned 36 of them.
    spent, other = 40 * ETHER, list(w3.eth.accounts)[5]
    spend = (gateway, REGION, buyer, spent)
    voucher = signing.sign(BUYER, d.settlement, "bwrouter Settlement", "Spend", signing.SPEND, *spend)
    tree = merkle_tree([(owner, 20 * ETHER), (other, 16 * ETHER)])
    d.advance(6)
    epoch = f.currentEpoch().call()
    with pytest.raises(ContractCustomError):  # no voucher yet: RootAboveDeposits
        d.send(f.postRoot(REGION, epoch, tree["root"], 36 * ETHER), gateway)
    d.send(f.charge(REGION, [buyer], [spent], [voucher]), gateway)
    d.send(f.postRoot(REGION, epoch, tree["root"], 36 * ETHER), gateway)
    d.advance(3)
    accounts, sums = [owner, other], [20 * ETHER, 16 * ETHER]
    supply = d.token.functions.totalSupply().call()
    d.send(f.claimMany(gateway, REGION, accounts, sums, [tree["proofs"][a] for a in accounts]))
    assert d.token.functions.balanceOf(owner).call() == 20 * ETHER
    assert d.token.functions.balanceOf(other).call() == 16 * ETHER
    assert supply - d.token.functions.totalSupply().call() == 4 * ETHER
    with pytest.raises(ContractCustomError):
        d.send(f.claim(gateway, REGION, owner, 20 * ETHER, tree["proofs"][owner]))

    # What no voucher released comes back.
    d.send(f.requestWithdrawal(gateway, REGION, 60 * ETHER), buyer)
    d.advance(5)
    d.send(f.withdraw(gateway, REGION), buyer)
    assert d.token.functions.balanceOf(buyer).call() == 60 * ETHER
    assert d.token.functions.balanceOf(d.token.functions.depositsEscrow(gateway).call()).call() == 0


def test_storage_layout_that_light_clients_prove(d: Deployment) -> None:
    """The slots named in contracts/README.md hold what the views return."""
    relay_id = Web3.keccak(text="relay")
    owner, stake, payout, rate, region, state, unlock = d.registry.functions.relay(relay_id).call()
    base = int.from_bytes(Web3.keccak(relay_id + RELAYS_SLOT.to_bytes(32, "big")), "big")
    first = int.from_bytes(d.w3.eth.get_storage_at(d.registry.address, base), "big")
    second = int.from_bytes(d.w3.eth.get_storage_at(d.registry.address, base + 1), "big")
    assert first == int(owner, 16) | stake << 160
    assert second == int(payout, 16) | rate << 160 | region << 192 | state << 208 | unlock << 216

    gateway, slot = list(d.w3.eth.accounts)[1], LEDGERS_SLOT
    position = Web3.keccak(bytes(12) + Web3.to_bytes(hexstr=gateway) + slot.to_bytes(32, "big"))
    position = Web3.keccak(REGION.to_bytes(32, "big") + position)
    position = (int.from_bytes(position, "big") + CLAIMED_OFFSET).to_bytes(32, "big")
    position = Web3.keccak(bytes(12) + Web3.to_bytes(hexstr=owner) + position)
    paid = d.w3.eth.get_storage_at(d.settlement.address, int.from_bytes(position, "big"))
    assert int.from_bytes(paid, "big") == 20 * ETHER == d.settlement.functions.claimed(gateway, REGION, owner).call()
