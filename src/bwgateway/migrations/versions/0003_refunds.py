"""Refunds of tickets; audits, and what the directory says of a relay beside its descriptor."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    false, zero = sa.false(), "0"
    with op.batch_alter_table("tickets") as table:
        table.add_column(sa.Column("moved_at", sa.BigInteger(), nullable=False, server_default=zero))
        table.add_column(sa.Column("closed", sa.Boolean(), nullable=False, server_default=false))
        table.add_column(sa.Column("refunded", sa.Integer(), nullable=False, server_default=zero))
    op.execute("UPDATE tickets SET moved_at = opened_at")
    with op.batch_alter_table("tickets") as table:
        for name in ("moved_at", "closed", "refunded"):
            table.alter_column(name, server_default=None)
    # Descriptors are published anew every hour, and the new columns come from the chain at that time.
    op.execute("DELETE FROM descriptors")
    with op.batch_alter_table("descriptors") as table:
        table.add_column(sa.Column("listed", sa.Boolean(), nullable=False))
        table.add_column(sa.Column("seen_at", sa.BigInteger(), nullable=False))
        table.add_column(sa.Column("region", sa.Integer(), nullable=False))
        table.add_column(sa.Column("stake_wei", sa.String(78), nullable=False))
        table.add_column(sa.Column("class_", sa.SmallInteger(), nullable=False))
        table.add_column(sa.Column("score", sa.Integer(), nullable=False))
        table.add_column(sa.Column("audited_kbps", sa.BigInteger(), nullable=False))
    op.create_table(
        "audits",
        sa.Column("relay", sa.LargeBinary(32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("kbps", sa.BigInteger(), nullable=False),
        sa.Column("latency_ms", sa.Integer()),
        sa.Column("loss_bps", sa.Integer()),
        sa.Column("reveals", sa.Integer(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("relay", "epoch", name="pk_audits"),
    )


def downgrade() -> None:
    op.drop_table("audits")
    with op.batch_alter_table("tickets") as table:
        for name in ("moved_at", "closed", "refunded"):
            table.drop_column(name)
    with op.batch_alter_table("descriptors") as table:
        for name in ("listed", "seen_at", "region", "stake_wei", "class_", "score", "audited_kbps"):
            table.drop_column(name)
