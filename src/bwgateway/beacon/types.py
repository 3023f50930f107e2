"""Headers, committees and updates, out of the beacon API's JSON, with their roots.

Numbers are decimal strings and bytes 0x-hex there. Everything raises BadUpdate when it is malformed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from bwgateway.beacon import ssz
from bwgateway.beacon.network import COMMITTEE

Json = Mapping[str, Any]


class BadUpdate(ValueError):
    """Something that a beacon node sent is malformed, unsigned, or does not follow from what is known."""


def _int(value: Any) -> int:
    if not isinstance(value, str) or not value.isdecimal() or int(value) >= 1 << 256:
        raise BadUpdate(f"{str(value)[:40]!r} is no number")
    return int(value)


def _bytes(value: Any, size: int) -> bytes:
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except (ValueError, AttributeError, TypeError) as e:
        raise BadUpdate(f"{str(value)[:40]!r} is not hex") from e
    if len(raw) != size:
        raise BadUpdate(f"{len(raw)} bytes where {size} belong")
    return raw


def _branch(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > 16:
        raise BadUpdate("a branch is no list of nodes")
    return tuple(_bytes(node, 32) for node in value)


def field(source: Any, name: str) -> Any:
    """A member of a JSON object."""
    if not isinstance(source, Mapping) or name not in source:
        raise BadUpdate(f"{name} is missing")
    return source[name]


@dataclass(frozen=True)
class BeaconHeader:
    """BeaconBlockHeader."""

    slot: int
    proposer_index: int
    parent_root: bytes
    state_root: bytes
    body_root: bytes

    @classmethod
    def of(cls, source: Any) -> BeaconHeader:
        """From JSON."""
        roots = [_bytes(field(source, name), 32) for name in ("parent_root", "state_root", "body_root")]
        header = cls(_int(field(source, "slot")), _int(field(source, "proposer_index")), *roots)
        if header.slot >= 1 << 64 or header.proposer_index >= 1 << 64:
            raise BadUpdate("a slot or index is past 64 bits")
        return header

    @cached_property
    def root(self) -> bytes:
        """Hash tree root: the block's root."""
        fields = [ssz.u64(self.slot), ssz.u64(self.proposer_index), self.parent_root, self.state_root, self.body_root]
        return ssz.merkleize(fields, 8)


@dataclass(frozen=True)
class Execution:
    """The parts of an ExecutionPayloadHeader that are wanted, and its roots in the two forms that it has had."""

    number: int
    hash: bytes
    state_root: bytes
    time: int
    capella_root: bytes
    deneb_root: bytes
    blobless: bool

    @classmethod
    def of(cls, source: Any) -> Execution:
        """From JSON; the blob fields came with Deneb."""

        def number(name: str) -> int:
            return _int(field(source, name))

        def root(name: str) -> bytes:
            return _bytes(field(source, name), 32)

        try:
            extra = bytes.fromhex(field(source, "extra_data").removeprefix("0x"))
        except (ValueError, AttributeError) as e:
            raise BadUpdate("extra_data is not hex") from e
        if len(extra) > 32:
            raise BadUpdate("extra_data is longer than 32 bytes")
        leaves = [
            root("parent_hash"),
            ssz.padded(_bytes(field(source, "fee_recipient"), 20)),
            root("state_root"),
            root("receipts_root"),
            ssz.byte_vector(_bytes(field(source, "logs_bloom"), 256)),
            root("prev_randao"),
            *(ssz.u64(number(name)) for name in ("block_number", "gas_limit", "gas_used", "timestamp")),
            ssz.short_list(extra),
            ssz.u64(number("base_fee_per_gas")),
            root("block_hash"),
            root("transactions_root"),
            root("withdrawals_root"),
        ]
        blobs = [_int(source.get(name, "0")) for name in ("blob_gas_used", "excess_blob_gas")]
        return cls(
            number=number("block_number"),
            hash=root("block_hash"),
            state_root=root("state_root"),
            time=number("timestamp"),
            capella_root=ssz.merkleize(leaves, 16),
            deneb_root=ssz.merkleize([*leaves, *(ssz.u64(b) for b in blobs)], 32),
            blobless=not any(blobs),
        )


@dataclass(frozen=True)
class Header:
    """LightClientHeader: a beacon header and, from Capella on, the execution header in its block with its branch."""

    beacon: BeaconHeader
    execution: Execution | None
    branch: tuple[bytes, ...]

    @classmethod
    def of(cls, source: Any) -> Header:
        """From JSON."""
        beacon = BeaconHeader.of(field(source, "beacon"))
        if "execution" not in source:
            return cls(beacon, None, ())
        return cls(beacon, Execution.of(source["execution"]), _branch(field(source, "execution_branch")))


@dataclass(frozen=True)
class Committee:
    """A sync committee: COMMITTEE public keys, 48 bytes each, and their sum."""

    keys: tuple[bytes, ...]
    aggregate: bytes

    @classmethod
    def of(cls, source: Any) -> Committee:
        """From JSON."""
        keys = field(source, "pubkeys")
        if not isinstance(keys, Sequence) or len(keys) != COMMITTEE:
            raise BadUpdate(f"a committee has {COMMITTEE} keys")
        return cls(tuple(_bytes(key, 48) for key in keys), _bytes(field(source, "aggregate_pubkey"), 48))

    def to_json(self) -> dict[str, Any]:
        """As the API has it."""
        return {"pubkeys": ["0x" + key.hex() for key in self.keys], "aggregate_pubkey": "0x" + self.aggregate.hex()}

    @cached_property
    def root(self) -> bytes:
        """Hash tree root."""
        keys = ssz.merkleize([sha256(key + bytes(16)).digest() for key in self.keys], COMMITTEE)
        return sha256(keys + sha256(self.aggregate + bytes(16)).digest()).digest()


@dataclass(frozen=True)
class Bootstrap:
    """LightClientBootstrap: a header and the committee of its period."""

    header: Header
    committee: Committee
    branch: tuple[bytes, ...]

    @classmethod
    def of(cls, source: Any) -> Bootstrap:
        """From JSON."""
        committee = Committee.of(field(source, "current_sync_committee"))
        branch = _branch(field(source, "current_sync_committee_branch"))
        return cls(Header.of(field(source, "header")), committee, branch)


@dataclass(frozen=True)
class Update:
    """LightClientUpdate, or a finality or optimistic update, which have fewer parts."""

    attested: Header
    next_committee: Committee | None
    next_branch: tuple[bytes, ...]
    finalized: Header | None
    finality_branch: tuple[bytes, ...]
    bits: bytes
    signature: bytes
    signature_slot: int

    @classmethod
    def of(cls, source: Any) -> Update:
        """From JSON."""
        next_committee = finalized = None
        next_branch: tuple[bytes, ...] = ()
        finality_branch: tuple[bytes, ...] = ()
        attested = Header.of(field(source, "attested_header"))
        if "next_sync_committee" in source:
            next_committee = Committee.of(source["next_sync_committee"])
            next_branch = _branch(field(source, "next_sync_committee_branch"))
        if "finalized_header" in source:
            finalized = Header.of(source["finalized_header"])
            finality_branch = _branch(field(source, "finality_branch"))
        aggregate = field(source, "sync_aggregate")
        return cls(
            attested,
            next_committee,
            next_branch,
            finalized,
            finality_branch,
            _bytes(field(aggregate, "sync_committee_bits"), COMMITTEE // 8),
            _bytes(field(aggregate, "sync_committee_signature"), 96),
            _int(field(source, "signature_slot")),
        )

    def signers(self, committee: Committee) -> list[bytes]:
        """Keys of those that took part."""
        return [key for i, key in enumerate(committee.keys) if self.bits[i // 8] >> i % 8 & 1]
