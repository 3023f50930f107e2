"""A committee of verifiers on a real node: good, slow, suspended, acquitted; restarts, copies, late reveals."""

from __future__ import annotations

from hashlib import sha256

import pytest
from eth_account import Account
from sqlalchemy.orm import Session
from web3 import Web3

from bwclient.chain import Chain, ChainError
from bwverifier import evidence
from bwverifier.duty import REVEALED, Duty, pack
from bwverifier.journal import Audit, Journal
from bwverifier.probe import GOOD, UNREACHABLE, Measurement
from tests.contracts.deployment import ETHER, anvil, deploy

WINDOWS = (60, 10, 10, 60, 2000, 600, 200, 200, 300, 600, 300)
AUDIT, COMMIT, REVEAL = 600, 200, 200
RELAY = bytes(Web3.keccak(text="relay"))
CLAIM = 40_000
VERIFIERS = 8
MNEMONIC = "test test test test test test test test test test test junk"
Account.enable_unaudited_hdwallet_features()


class World:
    """A deployment, a staked relay, and eight bonded verifiers with journals of their own."""

    def __init__(self, w3, folder):
        self.d = d = deploy(w3, WINDOWS)
        accounts = list(w3.eth.accounts)
        owner = accounts[1]
        d.send(d.bwt.functions.transfer(owner, 100 * ETHER))
        d.send(d.bwt.functions.approve(d.registry.address, 100 * ETHER), owner)
        d.send(d.registry.functions.register((RELAY, owner, owner, 1, CLAIM, 100 * ETHER, 2**32), b"", b""), owner)
        self.files, self.duties = [], []
        for i in range(2, 2 + VERIFIERS):
            d.send(d.bwt.functions.transfer(accounts[i], 1000 * ETHER))
            d.send(d.bwt.functions.approve(d.proof.address, 1000 * ETHER), accounts[i])
            d.send(d.proof.functions.join(2**32, b""), accounts[i])
            key = bytes(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}").key)
            self.files.append(folder / f"{i}.sqlite")
            chain = Chain(w3.provider.endpoint_uri, key)
            assert chain.address == accounts[i]
            self.duties.append(Duty(chain, d.proof.address, Journal(self.files[-1])))
        self.warp(self.duties[0].now() + 2 * AUDIT)

    def more_relays(self, count):
        """Further staked relays of the first one's owner."""
        d, owner = self.d, self.d.w3.eth.accounts[1]
        ids = [bytes(Web3.keccak(text=f"relay {i} of {count}")) for i in range(count)]
        for relay in ids:
            d.send(d.bwt.functions.transfer(owner, 100 * ETHER))
            d.send(d.bwt.functions.approve(d.registry.address, 100 * ETHER), owner)
            d.send(d.registry.functions.register((relay, owner, owner, 1, CLAIM, 100 * ETHER, 2**32), b"", b""), owner)
        return ids

    def warp(self, time):
        self.d.w3.provider.make_request("evm_mine", [hex(time)])

    def begin(self):
        """The next epoch, with its committee; its number and those who sit on it."""
        start = (self.duties[0].now() // AUDIT + 1) * AUDIT
        for time in (start - 1, start + 1, start + 2):
            self.warp(time)
        for duty in self.duties:
            duty.prepare(RELAY)
        seated = [duty for duty in self.duties if duty.place(RELAY) is not None]
        assert len(seated) == VERIFIERS // 2
        return start // AUDIT, seated

    def audit(self, kbps):
        """A whole epoch in which all measure `kbps`; the verdict's reason."""
        epoch, seated = self.begin()
        m = Measurement(RELAY, bytes(32), reason=GOOD, kbps=kbps, latency_ms=20)
        for duty in seated:
            duty.commit(RELAY, pack(m, 0xC61200), evidence.record(m, epoch, duty.now()))
        self.warp(epoch * AUDIT + COMMIT + 1)
        assert [duty.reveal() for duty in seated] == [1] * len(seated)
        self.warp(epoch * AUDIT + COMMIT + REVEAL + 1)
        for duty in seated:
            duty.verdict(RELAY, epoch)
        standing = self.d.proof.functions.standing(RELAY).call()
        assert standing[0] == epoch and standing[1] == kbps
        return standing[2]

    def state(self):
        return self.d.registry.functions.relay(RELAY).call()[5]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with anvil("--accounts", str(VERIFIERS + 3)) as w3:
        yield World(w3, tmp_path_factory.mktemp("verifiers"))


def test_good_then_suspended_then_acquitted(world):
    assert world.audit(CLAIM) == 0
    assert world.audit(CLAIM // 2) == 1 and world.state() == 1
    assert world.audit(CLAIM // 2) == 1 and world.state() == 2
    assert world.audit(CLAIM) == 0 and world.state() == 2
    assert world.audit(CLAIM) == 0 and world.state() == 1


def test_a_restart_between_commit_and_reveal_loses_nothing(world):
    epoch, seated = world.begin()
    duty = seated[0]
    first = duty.commit(RELAY, pack(Measurement(RELAY, bytes(32), GOOD, CLAIM)), b"{}")
    again = Duty(duty.chain, duty.contract, Journal(world.files[world.duties.index(duty)]))
    # Another report on the same audit would be an equivocation: the one on disk stands.
    other = again.commit(RELAY, pack(Measurement(RELAY, bytes(32), UNREACHABLE, 1)), b"{}")
    assert (other.report, other.salt) == (first.report, first.salt)
    assert again.reveal() == 0  # too early
    world.warp(epoch * AUDIT + COMMIT + 1)
    assert again.reveal() == 1 and again.reveal() == 0
    # Who copies what another has shown is too late to commit to it.
    with pytest.raises(ChainError):
        seated[1].commit(RELAY, int(first.report, 16), b"{}")
    world.warp(epoch * AUDIT + COMMIT + REVEAL + 1)
    seated[1].reveal()
    assert [a.state for a in seated[1].journal.of_epoch(epoch)] == ["missed"]


def test_a_copied_commitment_cannot_be_revealed(world):
    """A verifier that has not measured sends another's hash and waits for its reveal."""
    epoch, seated = world.begin()
    honest, copier = seated[:2]
    a = honest.commit(RELAY, pack(Measurement(RELAY, bytes(32), GOOD, CLAIM)), b"{}")
    hash = honest._stored(a).to_bytes(32, "big")
    place = copier.place(RELAY)
    copier.chain.send(copier.contract, "commit(bytes32,uint256,bytes32)", RELAY, place, hash)
    world.warp(epoch * AUDIT + COMMIT + 1)
    assert honest.reveal() == 1
    copied = Audit(relay=RELAY, epoch=epoch, place=place, report=a.report, salt=a.salt, state="committed", evidence=b"")
    copier.journal.add(copied)
    with pytest.raises(ChainError, match="would fail"):
        copier.reveal()


def several(world, count):
    """The next epoch, a verifier that has committed to reports on several relays, and those relays."""
    relays = [RELAY, *world.more_relays(count)]
    epoch, _ = world.begin()
    for relay in relays:
        world.duties[0].prepare(relay)
    duty = max(world.duties, key=lambda duty: sum(duty.place(relay) is not None for relay in relays))
    mine = [relay for relay in relays if duty.place(relay) is not None]
    for relay in mine:
        duty.commit(relay, pack(Measurement(relay, bytes(32), GOOD, CLAIM)), b"{}")
    return epoch, duty, mine


def test_all_reports_are_revealed_in_one_block(world):
    """One after the other, each waiting for its block, outlasted the time to reveal."""
    epoch, duty, mine = several(world, 7)
    assert len(mine) >= 4
    world.warp(epoch * AUDIT + COMMIT + 1)
    rpc = world.d.w3.provider.make_request
    rpc("evm_setAutomine", [False])
    rpc("evm_setIntervalMining", [1])
    try:
        assert duty.reveal() == len(mine)
    finally:
        rpc("evm_setIntervalMining", [0])
        rpc("evm_setAutomine", [True])
    assert all(duty._stored(a) & REVEALED for a in duty.journal.of_epoch(epoch))
    logs = world.d.proof.events.Revealed().get_logs(from_block=0)
    assert len({log.blockNumber for log in logs if log.args.epoch == epoch}) == 1


def test_one_reveal_that_is_refused_holds_up_no_other(world):
    epoch, duty, mine = several(world, 6)
    assert len(mine) >= 3
    first = duty.journal.of_epoch(epoch)[0]
    with Session(duty.journal._engine) as s, s.begin():
        s.get_one(Audit, (first.relay, epoch)).salt = bytes(32)  # as if the disk had lost it
    world.warp(epoch * AUDIT + COMMIT + 1)
    with pytest.raises(ChainError, match="would fail"):
        duty.reveal()
    shown = [bool(duty._stored(a) & REVEALED) for a in duty.journal.of_epoch(epoch)]
    assert shown == [False] + [True] * (len(mine) - 1)
    world.warp(epoch * AUDIT + COMMIT + REVEAL + 1)
    assert duty.reveal() == 0
    assert [a.state for a in duty.journal.of_epoch(epoch)] == ["missed"] + ["revealed"] * (len(mine) - 1)


def test_what_a_reorganisation_took_is_sent_again(world):
    """Committee, commitment and reveal vanish with their blocks, one after the other; nothing is missed."""
    epoch, seated = world.begin()
    duty = seated[0]

    def reorganise():
        world.d.w3.provider.make_request("anvil_reorg", [1, []])

    a = duty.commit(RELAY, pack(Measurement(RELAY, bytes(32), GOOD, CLAIM)), b"{}")
    reorganise()
    assert not duty._stored(a)
    assert duty.reveal() == 0 and duty._stored(a)
    world.warp(epoch * AUDIT + COMMIT + 1)
    assert duty.reveal() == 1 and duty._stored(a) & REVEALED
    reorganise()
    assert not duty._stored(a) & REVEALED
    assert duty.reveal() == 1 and duty.reveal() == 0 and duty._stored(a) & REVEALED
    world.warp(epoch * AUDIT + COMMIT + REVEAL + 1)
    duty.reveal()
    assert [found.state for found in duty.journal.of_epoch(epoch)] == ["revealed"]


def test_a_commitment_whose_committee_was_taken_too_is_sent_again(world):
    """With a fresh epoch's first blocks go seed, committee and commitment; who sat on it draws them anew."""
    start = (world.duties[0].now() // AUDIT + 1) * AUDIT
    for time in (start - 1, start + 1, start + 2):
        world.warp(time)
    for duty in world.duties:
        duty.prepare(RELAY)
    duty = next(duty for duty in world.duties if duty.place(RELAY) is not None)
    a = duty.commit(RELAY, pack(Measurement(RELAY, bytes(32), GOOD, CLAIM)), b"{}")
    world.d.w3.provider.make_request("anvil_reorg", [2, []])  # the committee and the commitment
    assert not duty.drawn(RELAY)
    assert duty.reveal() == 0 and duty._stored(a)


def test_evidence_root():
    records = [bytes([i]) * 5 for i in range(3)]
    leaf = [sha256(b"\0" + r).digest() for r in records]
    pair = sha256(b"\1" + leaf[0] + leaf[1]).digest()
    assert evidence.root(records) == sha256(b"\1" + pair + leaf[2]).digest()
    assert evidence.root(records[:2]) == pair and evidence.root([]) == sha256(b"").digest()
    account = Account.from_key(b"\1" * 32)
    assert len(evidence.sign_root(account, 7, pair)) == 65
    m = Measurement(RELAY, bytes(32))
    assert evidence.record(m, 1, 2) == evidence.record(m, 1, 2) != evidence.record(m, 2, 2)
