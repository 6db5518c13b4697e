"""gold rows that a gate has decided on: what a report quotes is another part of gold"""

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0011"
down_revision = "0010"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "spent_gold",
        sa.Column("prompt_id", _TEXT, primary_key=True),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
    )
    # Which rows earlier decisions rested on was not written down: all that any student answered.
    op.execute(
        "INSERT INTO spent_gold (prompt_id, at) SELECT DISTINCT prompt_id, CURRENT_TIMESTAMP"
        " FROM student_answers WHERE split = 'gold'"
    )


def downgrade() -> None:
    op.drop_table("spent_gold")
