"""Bodies of requests and answers on the directory, audits and their evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bwgateway.api.fields import Address, Body, Hex16, Hex32, Hex64, Hex65, Time, Wei, hex_field


class Descriptor(Body):
    """Publish a descriptor: the 213 bytes that the relay signed. `sig`: Ed25519 by `relay`."""

    descriptor: Annotated[str, hex_field(213)]
    relay: Hex32
    time: Time
    nonce: Hex16
    sig: Hex64


class Published(BaseModel):
    """The countersigned descriptor, 286 bytes."""

    descriptor: Annotated[str, hex_field(286)]
    version: int


class Directory(BaseModel):
    """All living descriptors; `version` grows with every change."""

    version: int
    descriptors: list[str]


class RelayEntry(BaseModel):
    """A listed relay. `score` is in basis points; `audited_kbps` the median of its last conclusive audit, 0 before the
    first; `stake` wei of BWT; times are unix seconds."""

    model_config = ConfigDict(populate_by_name=True)
    relay: Hex32
    region: int
    rate_kbps: int
    exit: bool
    class_: Annotated[str, Field(alias="class", pattern="^(unaudited|bulk|interactive)$")]
    score: int
    audited_kbps: int
    stake: Wei
    seen_at: int
    valid_until: int


class Relays(BaseModel):
    """At most a thousand of `count` relays."""

    relays: list[RelayEntry]
    count: int


class Audit(BaseModel):
    """A verdict. `reason`: good, slow, unreachable, busy, corrupt, inconclusive; `kbps`, `latency_ms`, `loss_bps`:
    medians; `claimed_kbps`: the stake's; `strikes`: 0 none, 1 under suspicion, 2 suspended; `sig`: the gateway's
    Ed25519 signature over `"bwrouter/1 verdict\\n"` and this object without it, keys sorted, no spaces."""

    relay: Hex32
    epoch: int
    reason: str
    kbps: int
    latency_ms: int | None
    loss_bps: int | None
    reveals: int
    votes: int
    strikes: int
    block: int
    claimed_kbps: int
    time: Time
    sig: Hex64


class Audits(BaseModel):
    """The newest first."""

    audits: list[Audit]


class Sibling(Body):
    """A node beside the path from a leaf to the root (RFC 6962): its hash, and whether it stands on the left."""

    left: bool
    hash: Hex32


class Leaf(Body):
    """One measurement: canonical JSON as the verifier signed it under its root, and the way there."""

    record: Annotated[str, Field(min_length=2, max_length=8192, examples=["{}"])]
    path: Annotated[list[Sibling], Field(max_length=32)]


class Evidence(Body):
    """What a verifier's reports of an audit epoch stand on. `sig`: EIP-191 of `bwrouter/1 evidence EPOCH ROOT`, 65
    bytes, by `verifier`, which must have revealed a report on each of the relays in that epoch."""

    verifier: Address
    epoch: Annotated[int, Field(ge=0, le=2**32 - 1)]
    root: Hex32
    sig: Hex65
    records: Annotated[list[Leaf], Field(min_length=1, max_length=64)]


class Stored(BaseModel):
    """How many of the records are kept now."""

    stored: int


class ShownEvidence(BaseModel):
    """A measurement as a verifier posted it."""

    verifier: Address
    root: Hex32
    sig: Hex65
    record: str
    path: list[Sibling]


class EvidenceList(BaseModel):
    """All that is known of one audit."""

    relay: Hex32
    epoch: int
    evidence: list[ShownEvidence]
