"""rollouts"""

import sqlalchemy as sa
from alembic import op

import loop_pipeline.store.tables

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    text = sa.String().with_variant(sa.Text(), "postgresql")
    op.create_table(
        "rollouts",
        sa.Column("event_id", text, nullable=False),
        sa.Column("at", loop_pipeline.store.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("action", text, nullable=False),
        sa.Column("stage", text, nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("policy_sha256", text, nullable=False),
        sa.Column("champion_id", text, nullable=False),
        sa.Column("canary_id", text, nullable=True),
        sa.Column("recalibration", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("actor", text, nullable=False),
        sa.Column("reason", text, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rollouts_at"), ["at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("rollouts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rollouts_at"))
    op.drop_table("rollouts")
