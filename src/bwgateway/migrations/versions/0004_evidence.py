"""Evidence of audits; verdicts with the claim that they judge and their time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Verdicts are read again out of the chain's events.
    op.execute("DELETE FROM audits")
    op.execute("DELETE FROM counters WHERE name = 'audits'")
    with op.batch_alter_table("audits") as table:
        table.add_column(sa.Column("claimed_kbps", sa.BigInteger(), nullable=False))
        table.add_column(sa.Column("time", sa.BigInteger(), nullable=False))
    op.create_table(
        "evidence",
        sa.Column("relay", sa.LargeBinary(32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("verifier", sa.String(42), nullable=False),
        sa.Column("seed", sa.LargeBinary(32), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("signature", sa.LargeBinary(65), nullable=False),
        sa.PrimaryKeyConstraint("relay", "epoch", "verifier", "seed", name="pk_evidence"),
        sa.UniqueConstraint("seed", name="uq_evidence_seed"),
    )


def downgrade() -> None:
    op.drop_table("evidence")
    with op.batch_alter_table("audits") as table:
        for name in ("claimed_kbps", "time"):
            table.drop_column(name)
