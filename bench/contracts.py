"""Gas of the contracts on a real anvil: `build/venv/bin/python bench/contracts.py` or `make bench-contracts`.

Every figure is `gasUsed` of a mined receipt. Claims carry a proof of 20 siblings, as in a tree of 2^20 leaves: a tree
of the claimants is extended upwards by random siblings. Accounts hold tokens already unless the line says "first".
Prints a table with the goals, those missed marked, and, as the last line, one JSON object, added to
build/bench/contracts.json. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import json
import pathlib
import random
import secrets
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from eth_abi.abi import encode
from eth_account import Account
from web3 import Web3

from bench.goals import limits
from tests.contracts import signing
from tests.contracts.deployment import ETHER, Deployment, anvil, deploy
from tests.contracts.headers import epoch_headers

REGION = 1
DEPTH = 20
#: always the same siblings: a zero byte of calldata costs 4 gas, another 16
SIBLINGS = random.Random(20)
FOREVER = 2**32
AUDIT, COMMIT, REVEAL = 3600, 1500, 1500
#: as LAB_WINDOWS, but for audits that leave every transaction its own 12-second block
WINDOWS = (5, 2, 2, 4, 40_000, AUDIT, COMMIT, REVEAL, 10, 3600, 600)
GOALS = {key: int(most) for key, most in limits("contracts").items()}


def leaf(account: str, cumulative: int) -> bytes:
    """Leaf of OpenZeppelin's StandardMerkleTree of [address, uint256]."""
    return bytes(Web3.keccak(Web3.keccak(encode(["address", "uint256"], [account, cumulative]))))


def tree(leaves: list[bytes], depth: int = DEPTH) -> tuple[bytes, list[list[bytes]]]:
    """Root and proofs of `leaves` in a tree of `depth`; what the leaves do not fill is random."""
    proofs: list[list[bytes]] = [[] for _ in leaves]
    level, owners = list(leaves), [[i] for i in range(len(leaves))]
    for _ in range(depth):
        if len(level) % 2:
            level.append(SIBLINGS.randbytes(32))
            owners.append([])
        parents, parents_owners = [], []
        for i in range(0, len(level), 2):
            a, b = level[i], level[i + 1]
            for k in owners[i]:
                proofs[k].append(b)
            for k in owners[i + 1]:
                proofs[k].append(a)
            parents.append(bytes(Web3.keccak(min(a, b) + max(a, b))))
            parents_owners.append(owners[i] + owners[i + 1])
        level, owners = parents, parents_owners
    assert len(level) == 1 and all(len(p) == depth for p in proofs)
    return level[0], proofs


class Bench:
    """One deployment and what was measured on it."""

    def __init__(self, d: Deployment) -> None:
        self.d = d
        self.gas: dict[str, int] = {}
        self.accounts = list(d.w3.eth.accounts)
        self.gateway = self.accounts[1]
        self.gateway_key = "0x" + "61" * 32

    def measure(self, name: str, call: Any, sender: str | None = None) -> None:
        """Send and record; a block of its own, a second later than the one before."""
        self.d.advance(12)
        self.gas[name] = int(self.d.send(call, sender)["gasUsed"])

    def pool(self) -> None:
        d, user = self.d, self.accounts[2]
        d.send(d.bwt.functions.transfer(user, 1_000 * ETHER))
        for token in (d.bwt, d.token):
            d.send(token.functions.approve(d.pool.address, 2**256 - 1), user)
        f = d.pool.functions
        self.measure("swap_first", f.swapExactIn(d.bwt.address, ETHER, 1, user, FOREVER), user)
        self.measure("swap", f.swapExactIn(d.bwt.address, ETHER, 1, user, FOREVER), user)
        d.send(d.bwt.functions.approve(d.pool.address, ETHER), user)
        self.measure("swap_exact_allowance", f.swapExactIn(d.bwt.address, ETHER, 1, user, FOREVER), user)
        d.send(d.bwt.functions.approve(d.pool.address, 2**256 - 1), user)
        self.measure("swap_sell", f.swapExactIn(d.token.address, ETHER, 1, user, FOREVER), user)
        self.measure("swap_exact_out", f.swapExactOut(d.bwt.address, ETHER, ETHER, user, FOREVER), user)
        d.send(d.pool.functions.swapExactOut(d.bwt.address, 1_000 * ETHER, 10**30, user, FOREVER), user)
        self.measure("add_liquidity_first", f.addLiquidity(ETHER // 10, 10**24, 1, user, FOREVER), user)
        self.measure("add_liquidity", f.addLiquidity(ETHER // 10, 10**24, 1, user, FOREVER), user)
        self.measure("remove_liquidity", f.removeLiquidity(ETHER // 10, 1, 1, user, FOREVER), user)

    def stake(self) -> None:
        d = self.d
        owner = Account.from_key(self.gateway_key).address
        d.send(d.bwt.functions.transfer(owner, 1_000 * ETHER))
        for name, relay in (("register", b"\x01" * 32), ("register_later", b"\x02" * 32)):
            fields = (relay, owner, owner, REGION, 40_000, 100 * ETHER)
            nonce = d.registry.functions.nonces(owner).call()
            sig = signing.sign(
                self.gateway_key, d.registry, signing.REGISTRY, "Register", signing.REGISTER, *fields, nonce, FOREVER
            )
            permit = signing.permit(
                self.gateway_key, d.bwt, "Bandwidth Token", d.registry.address, 100 * ETHER, FOREVER
            )
            self.measure(name, d.registry.functions.register((*fields, FOREVER), sig, permit))
        amount = 5 * ETHER
        nonce = d.registry.functions.nonces(owner).call()
        added = (b"\x01" * 32, owner, amount, nonce, FOREVER)
        sig = signing.sign(self.gateway_key, d.registry, signing.REGISTRY, "AddStake", signing.ADD_STAKE, *added)
        permit = signing.permit(self.gateway_key, d.bwt, "Bandwidth Token", d.registry.address, amount, FOREVER)
        self.measure("stake_permit", d.registry.functions.addStake(b"\x01" * 32, owner, amount, FOREVER, sig, permit))

    def settlement(self) -> None:
        d, f, gateway = self.d, self.d.settlement.functions, self.gateway
        d.send(d.bwt.functions.transfer(gateway, 10_000 * ETHER))
        d.send(d.bwt.functions.approve(d.settlement.address, 2**256 - 1), gateway)
        self.measure("bond", f.bond(b"\x01" * 32, 10_000 * ETHER, FOREVER, b""), gateway)
        buyer = Account.from_key("0x" + "62" * 32)
        d.send(d.bwt.functions.approve(d.pool.address, 2**256 - 1))
        d.send(d.pool.functions.swapExactOut(d.bwt.address, 20_000 * ETHER, 10**30, d.sender, FOREVER))
        d.send(d.token.functions.approve(d.settlement.address, 2**256 - 1))
        self.measure("deposit_first", f.deposit(gateway, REGION, buyer.address, 10_000 * ETHER))
        self.measure("deposit", f.deposit(gateway, REGION, buyer.address, 10_000 * ETHER))
        claimants = [Account.from_key(secrets.token_bytes(32)).address for _ in range(51)]
        spent = 0
        for epoch, label in ((1, "_first"), (2, ""), (3, "")):
            spent += 1_000 * ETHER
            spend = (gateway, REGION, buyer.address, spent)
            voucher = signing.sign(buyer.key.hex(), d.settlement, signing.SETTLEMENT, "Spend", signing.SPEND, *spend)
            self.measure("charge" + label, f.charge(REGION, [buyer.address], [spent], [voucher]), gateway)
            sums = [epoch * ETHER + i for i in range(51)]
            root, proofs = tree([leaf(a, n) for a, n in zip(claimants, sums)])
            number = f.currentEpoch().call()
            self.measure("post_root" + label, f.postRoot(REGION, number, root, sum(sums)), gateway)
            d.advance(12)
            self.measure("finalise" + label, f.finalise(gateway, REGION))
            many = slice(1, 51)
            self.measure(
                "claim" + (label or "_later"),
                f.claim(gateway, REGION, claimants[0], sums[0], proofs[0]),
            )
            call = f.claimMany(gateway, REGION, claimants[many], sums[many], proofs[many])
            self.measure("claim_batch50" + label, call)
            self.gas["claim_batch50" + label] //= 50

    def audits(self) -> None:
        """Committees of ten from twenty verifiers; figures are of the second audit, when standing and bonds exist."""
        d, f, relay = self.d, self.d.proof.functions, b"\x01" * 32
        verifiers = self.accounts[3:23]
        for i, verifier in enumerate(verifiers):
            d.send(d.bwt.functions.transfer(verifier, 1_000 * ETHER))
            d.send(d.bwt.functions.approve(d.proof.address, 1_000 * ETHER), verifier)
            self.measure("join" if i else "join_first", f.join(FOREVER, b""), verifier)
        self.mine_at(self.now() + 2 * AUDIT)
        for _ in range(2):
            start = (self.now() // AUDIT + 1) * AUDIT
            for time in (start - 1, start + 1, start + 2):
                self.mine_at(time)
            self.measure("set_seed", f.setSeed(*epoch_headers(d.w3, start)))
            self.measure("assemble", f.assemble(relay))
            epoch = f.currentEpoch().call()
            packed, seats = f.committeeOf(relay, epoch).call(), f.seats().call()
            members = [seats[(packed >> 16 * i & 0xFFFF) - 1] for i in range(10)]
            report = f.pack((40_000, 20, 0, 0, 0xC61200, 0)).call()
            for place, member in enumerate(members):
                commitment = f.commitment(member, relay, epoch, report, bytes(31) + b"\x01").call()
                self.measure("commit", f.commit(relay, place, commitment), member)
            self.mine_at(start + COMMIT + 1)
            for place, member in enumerate(members):
                self.measure("reveal", f.reveal(relay, place, report, bytes(31) + b"\x01"), member)
            self.mine_at(start + COMMIT + REVEAL + 1)
            self.measure("verdict10", f.verdict(relay, epoch))
        e = d.emission.functions
        period = e.currentEpoch().call()
        self.measure("enrol", e.enrol(relay))
        self.mine_at(self.now() + 3600)
        self.measure("collect_capacity", e.collectCapacity(relay, period))

    def now(self) -> int:
        return int(self.d.w3.eth.get_block("latest")["timestamp"])

    def mine_at(self, time: int) -> None:
        self.d.w3.provider.make_request("evm_mine", [hex(time)])  # type: ignore[arg-type]


def main() -> int:
    with anvil("--accounts", "24") as w3:
        bench = Bench(deploy(w3, WINDOWS))
        bench.pool()
        bench.stake()
        bench.settlement()
        bench.audits()
    missed = [k for k, goal in GOALS.items() if bench.gas[k] > goal]
    for name, gas in bench.gas.items():
        goal = f"goal {GOALS[name]:>7,}" if name in GOALS else ""
        print(f"{name:<22}{gas:>9,}  {goal}{'  MISSED' if name in missed else ''}")
    line = json.dumps(bench.gas)
    results = pathlib.Path(__file__).resolve().parents[1] / "build/bench/contracts.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as out:
        out.write(line + "\n")
    print(line)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
