"""served answers that are watched, alerts, shadow rates of groups, and why a hold was released"""

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0010"
down_revision = "0009"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_WHEN = UtcDateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "watched_answers",
        sa.Column("prompt_id", _TEXT, primary_key=True),
        sa.Column("group_id", _TEXT, nullable=False),
        sa.Column("adapter", _TEXT, nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("unit", _TEXT, nullable=False),
        sa.Column("at", _WHEN, nullable=False),
        sa.Column("disagrees", sa.Boolean(), nullable=False),
    )
    columns = ["group_id", "adapter", "stream", "position"]
    op.create_index("ix_watched_stream", "watched_answers", columns, unique=True)
    op.create_table(
        "shadow_rates",
        sa.Column("group_id", _TEXT, primary_key=True),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", _TEXT, primary_key=True),
        sa.Column("at", _WHEN, nullable=False),
        sa.Column("cause", _TEXT, nullable=False),
        sa.Column("day", _TEXT, nullable=False),
        sa.Column("subject", _TEXT, nullable=False),
        sa.Column("text", _TEXT, nullable=False),
        sa.Column("resolved", _WHEN, nullable=True),
    )
    op.add_column("holds", sa.Column("released_reason", _TEXT, nullable=True))


def downgrade() -> None:
    op.drop_column("holds", "released_reason")
    op.drop_table("alerts")
    op.drop_table("shadow_rates")
    op.drop_table("watched_answers")
