"""what came of lines in quarantine that were tried again"""

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0009"
down_revision = "0008"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_WHEN = UtcDateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "quarantine_retries",
        sa.Column("retry_id", _TEXT, primary_key=True),
        sa.Column("quarantine_id", _TEXT, nullable=False, index=True),
        sa.Column("at", _WHEN, nullable=False),
        sa.Column("imported", sa.Boolean(), nullable=False),
        sa.Column("source", _TEXT, nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("raw", _TEXT, nullable=True),
        sa.Column("quarantined_at", _WHEN, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("quarantine_retries")
