"""A verifier's duty on chain: seed, committee, commit, reveal, verdict (BandwidthProof)."""

from __future__ import annotations

import os
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
        self.audit, self.commit_for, self.reveal_for = (
            self._number(f"{name}()") for name in ("auditSeconds", "commitSeconds", "revealSeconds")
        )

    def _number(self, signature: str, *arguments: Any) -> int:
        return int(self.chain.call(self.contract, signature, ["uint256"], *arguments)[0])

    def now(self) -> int:
        """Time of the latest block."""
        return int(self.chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def epoch(self) -> int:
        """The audit epoch of now."""
        return self.now() // self.audit

    def prepare(self, relay: bytes) -> None:
        """Seed and committee of this epoch, unless somebody has been here before. Raises ChainError."""
        epoch = self.epoch()
        if not self._number("seedOf(uint32)", epoch):
            self._once("setSeed(bytes,bytes)", *self._headers(epoch * self.audit))
        if not self._committee(relay, epoch):
            self._once("assemble(bytes32)", relay)

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
        fields = ["uint128", "uint40", "uint32", "uint32", "uint16"]
        seat = self.chain.call(self.contract, "verifierOf(address)", fields, self.chain.address)[4]
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
        """Reveal what is due; how many. What can no longer be revealed is marked as missed."""
        done = 0
        for a in self.journal.to_reveal():
            start = a.epoch * self.audit + self.commit_for
            stored = self._stored(a)
            if stored & REVEALED:
                self.journal.mark(a, "revealed")
            elif self.now() >= start + self.reveal_for:
                self.journal.mark(a, "missed")
            elif stored and self.now() >= start:
                arguments = (a.relay, a.place, int(a.report, 16), a.salt)
                self.chain.send(self.contract, "reveal(bytes32,uint256,uint256,bytes32)", *arguments)
                self.journal.mark(a, "revealed")
                done += 1
        return done

    def verdict(self, relay: bytes, epoch: int) -> None:
        """Ask for the verdict of an epoch whose reveals are over, unless somebody has."""
        if self.now() >= epoch * self.audit + self.commit_for + self.reveal_for:
            self._once("verdict(bytes32,uint32)", relay, epoch)
