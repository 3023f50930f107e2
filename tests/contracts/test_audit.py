"""A whole audit on a real node with real headers: seed, committees, verdicts, suspension, slash; then emission."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web3 import Web3
from web3.logs import DISCARD

from tests.contracts.deployment import ETHER, Deployment, anvil, deploy
from tests.contracts.headers import epoch_headers

WINDOWS = (60, 10, 10, 60, 2000, 600, 200, 200, 300, 600, 300)
AUDIT, COMMIT, REVEAL, DISPUTE = 600, 200, 200, 300
RELAY = bytes(Web3.keccak(text="relay"))
CLAIM = 40_000
VERIFIERS = 8  # a committee is half of them


@pytest.fixture(scope="module")
def d() -> Iterator[Deployment]:
    with anvil("--accounts", str(VERIFIERS + 3)) as w3:
        yield deploy(w3, WINDOWS)


def warp(d: Deployment, time: int) -> None:
    """Mine a block at `time`."""
    d.w3.provider.make_request("evm_mine", [hex(time)])  # type: ignore[arg-type]


def now(d: Deployment) -> int:
    return int(d.w3.eth.get_block("latest")["timestamp"])


def audit(d: Deployment, kbps: int) -> int:
    """One epoch in which every seat reports `kbps`; returns the verdict's reason."""
    start = (now(d) // AUDIT + 1) * AUDIT
    warp(d, start - 1)
    warp(d, start + 1)
    warp(d, start + 2)  # BLOCKHASH knows only blocks before the current one
    f = d.proof.functions
    d.send(f.setSeed(*epoch_headers(d.w3, start)))
    d.send(f.assemble(RELAY))
    epoch = f.currentEpoch().call()
    packed, seats = f.committeeOf(RELAY, epoch).call(), f.seats().call()
    members = [seats[(packed >> 16 * i & 0xFFFF) - 1] for i in range(4)]
    assert packed >> 64 == 0 and len(set(members)) == 4
    report = f.pack((kbps, 20, 0, 0, 0xC61200, 0)).call()
    for place, member in enumerate(members):
        commitment = f.commitment(member, RELAY, epoch, report, bytes(32)).call()
        d.send(f.commit(RELAY, place, commitment), member)
    warp(d, start + COMMIT + 1)
    for place, member in enumerate(members):
        d.send(f.reveal(RELAY, place, report, bytes(32)), member)
    warp(d, start + COMMIT + REVEAL + 1)
    receipt = d.send(f.verdict(RELAY, epoch))
    (event,) = d.proof.events.Verdict().process_receipt(receipt, errors=DISCARD)
    assert event["args"]["kbps"] == kbps
    return int(event["args"]["reason"])


def test_audits_judge_and_feed_emission(d: Deployment) -> None:
    owner = list(d.w3.eth.accounts)[1]
    verifiers = list(d.w3.eth.accounts)[2 : 2 + VERIFIERS]
    stake = 100 * ETHER
    d.send(d.bwt.functions.transfer(owner, stake))
    d.send(d.bwt.functions.approve(d.registry.address, stake), owner)
    fields = (RELAY, owner, owner, 1, CLAIM, stake, 2**32)
    d.send(d.registry.functions.register(fields, b"", b""), owner)
    for verifier in verifiers:
        d.send(d.bwt.functions.transfer(verifier, 1_000 * ETHER))
        d.send(d.bwt.functions.approve(d.proof.address, 1_000 * ETHER), verifier)
        d.send(d.proof.functions.join(2**32, b""), verifier)
    warp(d, now(d) + 2 * AUDIT)
    assert d.proof.functions.activeVerifiers().call() == VERIFIERS

    assert audit(d, CLAIM) == 0
    epoch = d.emission.functions.currentEpoch().call()
    d.send(d.emission.functions.enrol(RELAY))
    assert d.emission.functions.weightOf(RELAY, epoch).call() == CLAIM
    warp(d, now(d) + AUDIT)
    d.send(d.emission.functions.collectCapacity(RELAY, epoch))
    # 1 % of what 40 Mbit/s carry in 600 s: 40,000 * 125 * 600 / 2^30 GiB * 0.01
    paid = d.token.functions.balanceOf(owner).call()
    assert paid == pytest.approx(40_000 * 125 * 600 / 2**30 * 0.01 * ETHER, rel=1e-9)
    assert d.token.functions.capacityEmitted().call() == paid

    assert audit(d, CLAIM // 2) == 1
    assert d.registry.functions.relay(RELAY).call()[5] == 1
    assert audit(d, CLAIM // 2) == 1
    assert d.registry.functions.relay(RELAY).call()[5] == 2, "suspended"
    warp(d, now(d) + DISPUTE)
    d.send(d.proof.functions.conclude(RELAY))
    relay = d.registry.functions.relay(RELAY).call()
    assert (relay[1], relay[3], relay[5]) == (80 * ETHER, CLAIM // 2, 1)
