"""The ledger's tables. A change here needs a new revision in `migrations/versions` (a test compares the two)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("account", String(42), nullable=False),  # buyer's address, lower case
    Column("region", Integer, nullable=False),
    Column("deposited", BigInteger, nullable=False),  # units that the chain shows and that are not being withdrawn
    Column("issued", BigInteger, nullable=False),  # units that left as tickets, cumulative
    Column("seen_block", BigInteger, nullable=False),  # at which `deposited` was read
    Column("voucher", LargeBinary(65)),  # the buyer's signature over `issued`
    Column("charged", BigInteger, nullable=False),  # units of a voucher that is on chain
    PrimaryKeyConstraint("account", "region"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),  # H(w_0): a second opening meets this key
    Column("key_id", LargeBinary(8), nullable=False),
    Column("region", Integer, nullable=False),
    Column("units", Integer, nullable=False),
    Column("relay", LargeBinary(32), nullable=False),  # who opened it
    Column("index", Integer, nullable=False),  # units redeemed
    Column("preimage", LargeBinary(32), nullable=False),  # w_index
    Column("opened_at", BigInteger, nullable=False),
    Column("moved_at", BigInteger, nullable=False),  # when it was opened or last redeemed
    Column("closed", Boolean, nullable=False),  # the relay has said that it is through with it
    Column("refunded", Integer, nullable=False),  # units that were issued anew; index + refunded <= units
)

relays = Table(
    "relays",
    metadata,
    Column("relay", LargeBinary(32), nullable=False),
    Column("region", Integer, nullable=False),
    Column("units", BigInteger, nullable=False),  # redeemed, cumulative
    Column("settled", BigInteger, nullable=False),  # of those, in a closed epoch
    Column("promised", BigInteger, nullable=False),  # of those, credited to a payout; settled <= promised <= units
    PrimaryKeyConstraint("relay", "region"),
)

payouts = Table(
    "payouts",
    metadata,
    Column("region", Integer, nullable=False),
    Column("payout", String(42), nullable=False),  # lower case
    Column("cumulative_wei", String(78), nullable=False),  # as in the newest closed epoch
    Column("promised_wei", String(78), nullable=False),  # with what was credited since: the next epoch's
    PrimaryKeyConstraint("region", "payout"),
)

epochs = Table(
    "epochs",
    metadata,
    Column("region", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),  # unix time // epoch_seconds of the contract
    Column("state", String(16), nullable=False),  # frozen, closed, posted, settled
    Column("root", LargeBinary(32), nullable=False),
    Column("total_wei", String(78), nullable=False),
    Column("closed_at", BigInteger, nullable=False),
    Column("posted_tx", LargeBinary(32)),
    Column("claimable_at", BigInteger),  # unix seconds
    Column("settled_at", BigInteger),
    PrimaryKeyConstraint("region", "number"),
)

leaves = Table(
    "leaves",
    metadata,
    Column("region", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("payout", String(42), nullable=False),
    Column("cumulative_wei", String(78), nullable=False),
    PrimaryKeyConstraint("region", "number", "payout"),
)

requests = Table(
    "requests",
    metadata,
    Column("nonce", LargeBinary(16), nullable=False),
    Column("signer", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),  # of path and body
    Column("answer", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("nonce", "signer"),
)
Index("ix_requests_created_at", requests.c.created_at)

descriptors = Table(
    "descriptors",
    metadata,
    Column("relay", LargeBinary(32), primary_key=True),
    Column("body", LargeBinary(286), nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),  # of the directory when this row last changed
    Column("listed", Boolean, nullable=False),  # false: a delta names it as removed
    Column("seen_at", BigInteger, nullable=False),  # when it last showed that it is alive
    Column("region", Integer, nullable=False),
    Column("stake_wei", String(78), nullable=False),
    Column("class_", SmallInteger, nullable=False),  # 0 unaudited, 1 bulk, 2 interactive
    Column("score", Integer, nullable=False),  # basis points, by the audits
    Column("audited_kbps", BigInteger, nullable=False),  # median of the last conclusive verdict; 0: none
)

audits = Table(
    "audits",
    metadata,
    Column("relay", LargeBinary(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),  # of BandwidthProof
    Column("reason", String(16), nullable=False),
    Column("kbps", BigInteger, nullable=False),
    Column("latency_ms", Integer),
    Column("loss_bps", Integer),
    Column("reveals", Integer, nullable=False),
    Column("votes", Integer, nullable=False),
    Column("strikes", Integer, nullable=False),
    Column("block", BigInteger, nullable=False),
    Column("claimed_kbps", BigInteger, nullable=False),  # by the stake, at the verdict
    Column("time", BigInteger, nullable=False),  # of the verdict's block, unix seconds
    PrimaryKeyConstraint("relay", "epoch"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("relay", LargeBinary(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),  # of BandwidthProof
    Column("verifier", String(42), nullable=False),  # lower case
    Column("seed", LargeBinary(32), nullable=False, unique=True),  # a measurement counts once
    Column("record", Text, nullable=False),  # canonical JSON: the leaf
    Column("path", Text, nullable=False),  # its siblings up to the root
    Column("root", LargeBinary(32), nullable=False),
    Column("signature", LargeBinary(65), nullable=False),  # the verifier's, of epoch and root
    PrimaryKeyConstraint("relay", "epoch", "verifier", "seed"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

transactions = Table(
    "transactions",
    metadata,
    Column("sender", String(42), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("purpose", String(128), nullable=False),  # what it does, once
    Column("hash", LargeBinary(32), nullable=False),
    Column("raw", LargeBinary, nullable=False),  # signed: sending it again can't do it twice
    Column("state", String(16), nullable=False),  # signed, mined, failed
    Column("block", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("sender", "nonce"),
    UniqueConstraint("purpose"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
)

prices = Table(
    "prices",
    metadata,
    Column("region", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),  # unix seconds
    Column("bwt_wei", String(78), nullable=False),  # the pool's reserves
    Column("token_wei", String(78), nullable=False),
    PrimaryKeyConstraint("region", "at"),
)
