"""What receipts for the chain promise: sums of payouts that no epoch has yet."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("relays") as table:
        table.add_column(sa.Column("promised", sa.BigInteger(), nullable=True))
    op.execute("UPDATE relays SET promised = settled")
    with op.batch_alter_table("relays") as table:
        table.alter_column("promised", existing_type=sa.BigInteger(), nullable=False)
    with op.batch_alter_table("payouts") as table:
        table.add_column(sa.Column("promised_wei", sa.String(78), nullable=True))
    op.execute("UPDATE payouts SET promised_wei = cumulative_wei")
    with op.batch_alter_table("payouts") as table:
        table.alter_column("promised_wei", existing_type=sa.String(78), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("payouts") as table:
        table.drop_column("promised_wei")
    with op.batch_alter_table("relays") as table:
        table.drop_column("promised")
