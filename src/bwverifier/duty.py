"""A verifier's duty on chain: seed, committee, commit, reveal, verdict (BandwidthProof)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak
from rlp.codec import encode

from bwclient.chain import Chain, ChainError

from .journal import Audit, Journal
from .probe import Measurement

_FIELDS = (
    "parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit gasUsed "
    "timestamp extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas parentBeaconBlockRoot "
    "requestsHash"
).split()
_NUMBERS = ("difficulty number gasLimit gasUsed timestamp baseFeePerGas blobGasUsed excessBlobGas").split()
REVEALED = 1 << 255
_STANDING = (
    "uint32 uint32 uint8 uint8 uint8 uint40 uint32 uint16 uint40 uint32 uint8 uint24 uint48 uint64 uint32 uint32"
)
BOND = 1000 * 10**18  # Parameters.VERIFIER_BOND
ACTIVE, SUSPENDED, UNBONDING = 1, 2, 3


@dataclass(frozen=True)
class Standing:
    """What BandwidthProof holds of a relay: its last verdict, strikes (2: suspended), when it was suspended (unix
    seconds), score in basis points, conclusive verdicts."""

    epoch: int
    kbps: int
    reason: int
    strikes: int
    suspended_at: int
    score: int
    audits: int


def header(block: dict[str, Any]) -> bytes:
    """RLP of a block's header. Raises ChainError when it is not what the block's hash is of."""
    items = []
    for name in _FIELDS:
        if name in block:
            digits = block[name][2:]
            number = int(digits, 16) if name in _NUMBERS else 0
            size = (number.bit_length() + 7) // 8
            items.append(number.to_bytes(size, "big") if name in _NUMBERS else bytes.fromhex(digits))
    raw = bytes(encode(items))  # type: ignore[no-untyped-call]
    if "0x" + keccak(raw).hex() != block["hash"]:
        raise ChainError(f"header of block {block['number']} does not hash to its hash")
    return raw


def pack(m: Measurement, prefix4: int = 0, prefix6: int = 0) -> int:
    """A report as the contract's `pack` lays it out."""
    return (min(m.kbps, 2**32 - 1) | min(m.latency_ms, 65535) << 32 | min(m.loss_bps, 65535) << 48 | m.reason << 64
            | prefix4 << 72 | prefix6 << 96)  # fmt: skip


class Duty:
    """One verifier's account at one BandwidthProof. Everything can be said again: what is done is left alone."""

    def __init__(self, chain: Chain, contract: str, journal: Journal) -> None:
        self.chain, self.contract, self.journal = chain, contract, journal
        names = ("auditSeconds", "commitSeconds", "revealSeconds", "disputeSeconds")
        self.audit, self.commit_for, self.reveal_for, self.dispute_for = (self._number(f"{n}()") for n in names)
        self.registry: str = chain.call(contract, "registry()", ["address"])[0]

    def _number(self, signature: str, *arguments: Any) -> int:
        return int(self.chain.call(self.contract, signature, ["uint256"], *arguments)[0])

    def now(self) -> int:
        """Time of the latest block."""
        return int(self.chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def epoch(self) -> int:
        """The audit epoch of now."""
        return self.now() // self.audit

    def status(self) -> tuple[int, int, int]:
        """(bond in wei, first epoch in which this account can be drawn, first in which it no longer can); all zero for
        one that never joined."""
        bond, _, since, until, seat = self._verifier()
        return (bond, since, until) if seat else (0, 0, 0)

    def _verifier(self) -> tuple[int, ...]:
        fields = ["uint128", "uint40", "uint32", "uint32", "uint16"]
        return self.chain.call(self.contract, "verifierOf(address)", fields, self.chain.address)

    def join(self, token: str) -> None:
        """Put up the bond, by permit. Raises ChainError."""
        deadline = self.now() + 600
        permit = self.chain.permit(token, self.contract, BOND, deadline)
        self.chain.send(self.contract, "join(uint256,bytes)", deadline, permit)

    def leave(self) -> None:
        """Give notice; fetch the bond once it has run out. Raises ChainError."""
        _, unlock_at, _, _, _ = self._verifier()
        name = "takeBond()" if unlock_at and self.now() >= unlock_at else "giveNotice()"
        self.chain.send(self.contract, name)

    def relay(self, relay: bytes) -> tuple[int, int]:
        """(claim in kbit/s, state) of a relay in StakeRegistry; ACTIVE, SUSPENDED, UNBONDING or 0."""
        fields = ["address", "uint96", "address", "uint32", "uint16", "uint8", "uint40"]
        found = self.chain.call(self.registry, "relay(bytes32)", fields, relay)
        return int(found[3]), int(found[5])

    def standing(self, relay: bytes) -> Standing:
        """What the contract holds of a relay."""
        v = self.chain.call(self.contract, "standing(bytes32)", _STANDING.split(), relay)
        return Standing(v[0], v[1], v[2], v[3], v[5], v[7], v[14])

    def conclude(self, relay: bytes) -> bool:
        """Slash a relay whose dispute window is over, if it is suspended still; the finder's share is ours. Whether it
        was due."""
        s = self.standing(relay)
        if s.strikes != 2 or self.now() < s.suspended_at + self.dispute_for:
            return False
        self._once("conclude(bytes32)", relay)
        return True

    def prepare(self, relay: bytes) -> bool:
        """Seed and committee of this epoch, unless somebody has been here before; whether the committee is on chain: a
        transaction of another's may be on its way still. Raises ChainError."""
        epoch = self.epoch()
        if not self._number("seedOf(uint32)", epoch):
            self._once("setSeed(bytes,bytes)", *self._headers(epoch * self.audit))
        if not self._committee(relay, epoch):
            self._once("assemble(bytes32)", relay)
        return bool(self._committee(relay, epoch))

    def drawn(self, relay: bytes) -> bool:
        """Whether the relay's committee of this epoch is on chain."""
        return bool(self._committee(relay, self.epoch()))

    def _once(self, signature: str, *arguments: Any) -> None:
        """Send what somebody else may have sent in the meantime; the caller looks at the state that follows."""
        try:
            self.chain.send(self.contract, signature, *arguments)
        except ChainError as e:
            if "would fail" not in str(e) and "failed on chain" not in str(e):
                raise

    def _headers(self, start: int) -> tuple[bytes, bytes]:
        """Headers of the last block before `start` and of the one after it."""
        block = self.chain.rpc("eth_getBlockByNumber", "latest", False)
        while True:
            before = self.chain.rpc("eth_getBlockByHash", block["parentHash"], False)
            if before is None:
                raise ChainError(f"no block before {start}")
            if int(before["timestamp"], 16) < start:
                return header(before), header(block)
            block = before

    def _committee(self, relay: bytes, epoch: int) -> int:
        return self._number("committeeOf(bytes32,uint32)", relay, epoch)

    def place(self, relay: bytes) -> int | None:
        """This verifier's place on the relay's committee of now; None: not on it, or none is drawn."""
        packed = self._committee(relay, self.epoch())
        seat = self._verifier()[4]
        for place in range(16):
            if seat and packed >> 16 * place & 0xFFFF == seat:
                return place
        return None

    def commit(self, relay: bytes, report: int, evidence: bytes) -> Audit:
        """Commit to a report in this epoch. A second report on the same audit changes nothing. Raises ChainError."""
        epoch, place = self.epoch(), self.place(relay)
        if place is None:
            raise ChainError(f"not on the committee of {relay.hex()} in epoch {epoch}")
        fresh = Audit(relay=relay, epoch=epoch, place=place, report=f"{report:064x}", salt=os.urandom(32),
                      state="committed", evidence=evidence)  # fmt: skip
        a = self.journal.add(fresh)
        if not self._stored(a):
            hash = self.chain.call(
                self.contract, "commitment(address,bytes32,uint32,uint256,bytes32)", ["bytes32"],
                self.chain.address, relay, epoch, int(a.report, 16), a.salt,
            )[0]  # fmt: skip
            self.chain.send(self.contract, "commit(bytes32,uint256,bytes32)", relay, place, hash)
        return a

    def _stored(self, a: Audit) -> int:
        return self._number("reportOf(bytes32,uint32,uint256)", a.relay, a.epoch, a.place)

    def reveal(self) -> int:
        """Reveal what is due; how many. A chain may lose its newest blocks: a report counts as revealed only when it
        stands there at the end of the time to reveal, or else as missed. Raises ChainError, but only after all the
        others have been tried."""
        if not (committed := self.journal.to_reveal()):
            return 0
        now = self.now()
        due, failed = [], None
        for a in committed:
            try:
                if self._is_due(a, now):
                    due.append(a)
            except ChainError as e:
                failed = failed or e
        done, refused = self._show(due)
        if failed := failed or refused:
            raise failed
        return done

    def _is_due(self, a: Audit, now: int) -> bool:
        """Whether a report is to be revealed at `now`; what is over is marked, what the chain has lost sent again."""
        start = a.epoch * self.audit + self.commit_for
        stored = self._stored(a)
        if now >= start + self.reveal_for:
            self.journal.mark(a, "revealed" if stored & REVEALED else "missed")
        elif not stored and now < start:
            # Not sent before a crash, or the block that had it is gone (and the committee's too): the same one again.
            if not self.drawn(a.relay):
                self.prepare(a.relay)
            if self.place(a.relay) == a.place:
                self.commit(a.relay, int(a.report, 16), a.evidence)
        return bool(stored) and not stored & REVEALED and start <= now < start + self.reveal_for

    def _show(self, due: Sequence[Audit]) -> tuple[int, ChainError | None]:
        """Reveal all at once: a block for each would take longer than there is. Where that fails, what is not there yet
        one by one, since one that is refused must not hold up the rest. How many stand, and the first failure."""
        if not due:
            return 0, None
        try:
            self.chain.send_many([self._opening(a) for a in due])
            return len(due), None
        except ChainError:
            done, failed = 0, None
        for a in due:
            try:
                if not self._stored(a) & REVEALED:
                    self.chain.send_many([self._opening(a)])
                done += 1
            except ChainError as e:
                failed = failed or e
        return done, failed

    def _opening(self, a: Audit) -> tuple[str, str, tuple[Any, ...]]:
        """The call that reveals a report."""
        arguments = (a.relay, a.place, int(a.report, 16), a.salt)
        return self.contract, "reveal(bytes32,uint256,uint256,bytes32)", arguments

    def verdict(self, relay: bytes, epoch: int) -> bool:
        """Ask for the verdict of an epoch whose reveals are over, unless somebody has; whether it stands."""
        if self.now() < epoch * self.audit + self.commit_for + self.reveal_for:
            return False
        if self.standing(relay).epoch < epoch:
            self._once("verdict(bytes32,uint32)", relay, epoch)
        return True
