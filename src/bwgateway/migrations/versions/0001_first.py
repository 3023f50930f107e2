"""The first schema: accounts, tickets, relays, settlement, directory, journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    big, text, count = sa.BigInteger(), sa.String, sa.Integer()
    op.create_table(
        "accounts",
        sa.Column("account", text(42), nullable=False),
        sa.Column("region", count, nullable=False),
        sa.Column("deposited", big, nullable=False),
        sa.Column("issued", big, nullable=False),
        sa.Column("seen_block", big, nullable=False),
        sa.Column("voucher", sa.LargeBinary(65)),
        sa.Column("charged", big, nullable=False),
        sa.PrimaryKeyConstraint("account", "region", name="pk_accounts"),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("key_id", sa.LargeBinary(8), nullable=False),
        sa.Column("region", count, nullable=False),
        sa.Column("units", count, nullable=False),
        sa.Column("relay", sa.LargeBinary(32), nullable=False),
        sa.Column("index", count, nullable=False),
        sa.Column("preimage", sa.LargeBinary(32), nullable=False),
        sa.Column("opened_at", big, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
    )
    op.create_table(
        "relays",
        sa.Column("relay", sa.LargeBinary(32), nullable=False),
        sa.Column("region", count, nullable=False),
        sa.Column("units", big, nullable=False),
        sa.Column("settled", big, nullable=False),
        sa.PrimaryKeyConstraint("relay", "region", name="pk_relays"),
    )
    op.create_table(
        "payouts",
        sa.Column("region", count, nullable=False),
        sa.Column("payout", text(42), nullable=False),
        sa.Column("cumulative_wei", text(78), nullable=False),
        sa.PrimaryKeyConstraint("region", "payout", name="pk_payouts"),
    )
    op.create_table(
        "epochs",
        sa.Column("region", count, nullable=False),
        sa.Column("number", big, nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("total_wei", text(78), nullable=False),
        sa.Column("closed_at", big, nullable=False),
        sa.Column("posted_tx", sa.LargeBinary(32)),
        sa.Column("claimable_at", big),
        sa.Column("settled_at", big),
        sa.PrimaryKeyConstraint("region", "number", name="pk_epochs"),
    )
    op.create_table(
        "leaves",
        sa.Column("region", count, nullable=False),
        sa.Column("number", big, nullable=False),
        sa.Column("payout", text(42), nullable=False),
        sa.Column("cumulative_wei", text(78), nullable=False),
        sa.PrimaryKeyConstraint("region", "number", "payout", name="pk_leaves"),
    )
    op.create_table(
        "requests",
        sa.Column("nonce", sa.LargeBinary(16), nullable=False),
        sa.Column("signer", sa.LargeBinary(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", big, nullable=False),
        sa.PrimaryKeyConstraint("nonce", "signer", name="pk_requests"),
    )
    op.create_index("ix_requests_created_at", "requests", ["created_at"])
    op.create_table(
        "descriptors",
        sa.Column("relay", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(286), nullable=False),
        sa.Column("valid_until", big, nullable=False),
        sa.Column("version", big, nullable=False),
        sa.PrimaryKeyConstraint("relay", name="pk_descriptors"),
    )
    op.create_table(
        "counters",
        sa.Column("name", text(32), nullable=False),
        sa.Column("value", big, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_table(
        "transactions",
        sa.Column("sender", text(42), nullable=False),
        sa.Column("nonce", big, nullable=False),
        sa.Column("purpose", text(128), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("block", big),
        sa.Column("created_at", big, nullable=False),
        sa.PrimaryKeyConstraint("sender", "nonce", name="pk_transactions"),
        sa.UniqueConstraint("purpose", name="uq_transactions_purpose"),
    )
    op.create_table(
        "leases",
        sa.Column("name", text(32), nullable=False),
        sa.Column("holder", text(64), nullable=False),
        sa.Column("until", big, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def downgrade() -> None:
    for table in (
        "leases", "transactions", "counters", "descriptors", "requests", "leaves", "epochs", "payouts", "relays",
        "tickets", "accounts",
    ):  # fmt: skip
        op.drop_table(table)
