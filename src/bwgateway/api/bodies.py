"""Bodies of requests and answers. Byte strings are lower-case hex, amounts decimal strings in wei."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


def _hex(size: int) -> Any:
    return Field(pattern=f"^[0-9a-f]{{{2 * size}}}$", min_length=2 * size, max_length=2 * size, examples=["5a" * size])


Hex8 = Annotated[str, _hex(8)]
Hex16 = Annotated[str, _hex(16)]
Hex32 = Annotated[str, _hex(32)]
Hex64 = Annotated[str, _hex(64)]
Hex65 = Annotated[str, _hex(65)]
Address = Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$", examples=["0x" + "5a" * 20])]
Wei = Annotated[str, Field(pattern="^[0-9]{1,78}$", examples=["100000000000000000000"])]
Time = Annotated[int, Field(ge=0, le=2**40, description="unix seconds", examples=[1_780_000_000])]
Region = Annotated[int, Field(ge=1, le=65535, examples=[1])]
Units = Annotated[int, Field(ge=1, le=1024, examples=[1024])]
MOST = 4096


class Body(BaseModel):
    """A request: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Issue(Body):
    """Turn deposit into tickets: evaluate blinded elements. `voucher`: EIP-712 `Spend` of all issued so far and this
    batch; `sig`: EIP-191; both by `account`, 65 bytes r, s, v."""

    account: Address
    region: Region
    units: Units
    blinded: Annotated[list[Hex32], Field(min_length=1, max_length=MOST)]
    voucher: Annotated[str, _hex(65)]
    time: Time
    nonce: Hex16
    sig: Hex65


class Issued(BaseModel):
    """Evaluated elements in the order of `blinded`, and one DLEQ proof for all."""

    key_id: Hex8
    evaluated: list[Hex32]
    proof: Hex64
    balance: Wei


class Ticket(Body):
    """A ticket as a relay opens it."""

    key: Hex8
    anchor: Hex32
    output: Hex64
    units: Units


class Open(Body):
    """Bind tickets to `relay`. `sig`: Ed25519 by `relay`."""

    relay: Hex32
    tickets: Annotated[list[Ticket], Field(min_length=1, max_length=MOST)]
    time: Time
    nonce: Hex16
    sig: Hex64


class OpenResult(BaseModel):
    """`code` when refused: forged, expired, units, region, elsewhere, spent."""

    id: Hex32
    ok: bool
    units: int | None = None
    code: str | None = None


class Opened(BaseModel):
    """One result for each ticket, in order."""

    results: list[OpenResult]


class Reading(Body):
    """The highest preimage that a relay holds of a ticket; `index` is cumulative. `final`: the relay is through with
    the ticket, and the buyer may have the rest back."""

    id: Hex32
    index: Annotated[int, Field(ge=0, le=65535, examples=[17])]
    preimage: Hex32
    final: Annotated[bool, Field(examples=[True])] = False


class Redeem(Body):
    """Count meter readings. `sig`: Ed25519 by `relay`."""

    relay: Hex32
    items: Annotated[list[Reading], Field(min_length=1, max_length=MOST)]
    time: Time
    nonce: Hex16
    sig: Hex64


class RedeemResult(BaseModel):
    """`code` when refused: unknown, elsewhere, index, preimage, refunded."""

    id: Hex32
    ok: bool
    index: int | None = None
    code: str | None = None
    receipt: str | None = Field(None, pattern="^[0-9a-f]{292}$")


class Redeemed(BaseModel):
    """One result for each item, in order."""

    results: list[RedeemResult]


class Closing(Body):
    """A ticket whose rest is asked for. `top` is w_N, the chain's last preimage: only who made the chain has it."""

    key: Hex8
    output: Hex64
    units: Units
    top: Hex32


class Refund(Body):
    """Turn what is left of closed tickets into new ones of `units`: evaluate blinded elements. Tickets that were never
    opened count as closed. What is not asked for stays with the tickets, the first ones being used up first. Naming
    tickets together tells the gateway that they have one owner."""

    region: Region
    units: Units
    tickets: Annotated[list[Closing], Field(min_length=1, max_length=MOST)]
    blinded: Annotated[list[Hex32], Field(min_length=1, max_length=MOST)]


class Refunded(BaseModel):
    """Evaluated elements in the order of `blinded`, one DLEQ proof for all, and the units that are left."""

    key_id: Hex8
    evaluated: list[Hex32]
    proof: Hex64
    left: int


class TicketState(BaseModel):
    """How far a ticket is. `left`: units that are neither redeemed nor refunded; `refundable_at`: unix time from which
    they can be (past: now)."""

    id: Hex32
    units: int
    index: int
    refunded: int
    left: int
    closed: bool
    refundable_at: int


class Descriptor(Body):
    """Publish a descriptor: the 213 bytes that the relay signed. `sig`: Ed25519 by `relay`."""

    descriptor: Annotated[str, _hex(213)]
    relay: Hex32
    time: Time
    nonce: Hex16
    sig: Hex64


class Published(BaseModel):
    """The countersigned descriptor, 286 bytes."""

    descriptor: Annotated[str, _hex(286)]
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


class MintKey(BaseModel):
    """A VOPRF public key. Tickets under it can be opened until `expires`; the newest `epoch` issues."""

    id: Hex8
    region: int
    units: int
    public: Hex32
    epoch: int
    expires: int


class RegionContracts(BaseModel):
    """A region's token and its pool against BWT."""

    token: Address
    pool: Address


class Contracts(BaseModel):
    """Addresses."""

    token: Address
    registry: Address
    settlement: Address
    factory: Address
    proof: str = Field("", examples=["0x" + "5a" * 20], description="BandwidthProof; empty: none is deployed")
    emission: str = Field("", examples=["0x" + "5a" * 20])
    regions: dict[str, RegionContracts]


class Epoch(BaseModel):
    """The settlement epoch that runs and when it ends, unix seconds."""

    number: int
    ends: int


class Info(BaseModel):
    """What a client needs to know first."""

    gateway_key: Hex32
    account: Address
    chain_id: int
    contracts: Contracts
    epoch: Epoch
    mint_keys: list[MintKey]
    gas_share_bps: int = Field(0, description="share of relays' earnings that pays the gateway's gas, basis points")
    time: int


class Register(Body):
    """A relay's registration, signed by its owner: EIP-712 `Register` and BWT permit, 65 bytes r, s, v each.

    An empty `permit_sig` relies on an allowance given before."""

    relay: Hex32
    owner: Address
    payout: Address
    region: Region
    rate_kbps: Annotated[int, Field(ge=1, le=2**32 - 1, examples=[40_000])]
    stake: Wei
    deadline: Time
    sig: Hex65
    permit_sig: Annotated[str, Field(pattern="^([0-9a-f]{130})?$", max_length=130, examples=["5a" * 65])]


class Decision(Body):
    """A decision of a relay's owner about it: EIP-712, 65 bytes r, s, v, good until `deadline`."""

    relay: Hex32
    deadline: Time
    sig: Hex65


class SetPayout(Decision):
    """EIP-712 `SetPayout`."""

    payout: Address


class SetRate(Decision):
    """EIP-712 `SetRate`."""

    rate_kbps: Annotated[int, Field(ge=1, le=2**32 - 1, examples=[40_000])]


class Unstake(Decision):
    """EIP-712 `Unstake`."""


class ContractProof(BaseModel):
    """EIP-1186: RLP nodes in hex from the root downward, of the contract's account and of each slot asked."""

    account: list[str]
    slots: list[list[str]]


class Proofs(BaseModel):
    """`header` is the RLP of the newest block's header. Slots: docs/architecture.md."""

    header: str
    registry: ContractProof
    settlement: ContractProof


class Registering(BaseModel):
    """The transaction that was sent; `mined` when it is in a block already."""

    tx: Hex32
    state: Annotated[str, Field(pattern="^(sent|mined)$")]


class Stake(BaseModel):
    """A relay's entry in StakeRegistry."""

    relay: Hex32
    owner: Address | None = None
    payout: Address | None = None
    region: int | None = None
    rate_kbps: int | None = None
    stake: Wei
    state: Annotated[str, Field(pattern="^(none|active|suspended|unbonding)$")]


class Nonces(BaseModel):
    """Next EIP-712 nonces of an address."""

    register_: Annotated[int, Field(serialization_alias="register", validation_alias="register")]
    permit: int


class Account(BaseModel):
    """A buyer's account with this gateway in a region."""

    deposited_wei: Wei
    issued_wei: Wei
    balance_wei: Wei


class Posted(BaseModel):
    """A relay's leaf in the newest posted root; `proof` leads from it to `root`."""

    epoch: int
    root: Hex32
    cumulative_wei: Wei
    proof: list[Hex32]
    final: bool


class Earnings(BaseModel):
    """What a relay has earned: counted, posted, paid."""

    payout: Address
    region: int
    units: int
    cumulative_wei: Wei
    posted: Posted | None
    claimed_wei: Wei
    balance_wei: Wei


class PostedEpoch(BaseModel):
    """One settlement root. `state`: closed (not on chain yet), posted (challenge window runs), settled (claimed)."""

    region: int
    number: int
    state: str
    root: Hex32
    total_wei: Wei
    closed_at: int
    claimable_at: int | None
    tx: Hex32 | None


class Epochs(BaseModel):
    """The newest roots first."""

    epochs: list[PostedEpoch]


class PricePoint(BaseModel):
    """BWT wei for 1e18 wei of the region's token at a time."""

    time: int
    price_wei: Wei


class RegionOverview(BaseModel):
    """A region: its live routers, what they claim to carry, its pool."""

    region: int
    relays: int
    capacity_kbps: int
    bwt_wei: Wei
    token_wei: Wei
    price_wei: Wei
    history: list[PricePoint]


class Overview(BaseModel):
    """The pool at a glance."""

    block: int
    epoch: Epoch
    regions: list[RegionOverview]


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is stable."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
