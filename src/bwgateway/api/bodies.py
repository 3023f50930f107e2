"""Bodies of requests and answers on money and the chain; fields as in `api.fields`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from bwgateway.api.fields import (
    MOST,
    Address,
    Body,
    Hex8,
    Hex16,
    Hex32,
    Hex64,
    Hex65,
    Region,
    Time,
    Units,
    Wei,
    hex_field,
)


class Issue(Body):
    """Turn deposit into tickets: evaluate blinded elements. `voucher`: EIP-712 `Spend` of all issued so far and this
    batch; `sig`: EIP-191; both by `account`, 65 bytes r, s, v."""

    account: Address
    region: Region
    units: Units
    blinded: Annotated[list[Hex32], Field(min_length=1, max_length=MOST)]
    voucher: Annotated[str, hex_field(65)]
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


class Bonded(BaseModel):
    """EIP-712 `Receipt` of Settlement, signed by the gateway's bonded account (65 bytes r, s, v): the root of `epoch`
    and every later one holds at least `cumulative_wei` for `account`."""

    region: int
    account: Address
    epoch: int
    cumulative_wei: Wei
    sig: Hex65


class Redeemed(BaseModel):
    """One result for each item, in order; `bonded`: what the relay's payout is owed now, one receipt a region. None
    while the chain does not say who the payout is."""

    results: list[RedeemResult]
    bonded: list[Bonded] = []


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
    token: ContractProof | None = None


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
