"""Samples of pool reserves."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("region", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("bwt_wei", sa.String(78), nullable=False),
        sa.Column("token_wei", sa.String(78), nullable=False),
        sa.PrimaryKeyConstraint("region", "at", name="pk_prices"),
    )


def downgrade() -> None:
    op.drop_table("prices")
