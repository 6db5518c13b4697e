"""units of traces, reasons for what a dataset leaves out"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trace_units",
        sa.Column("prompt_id", _TEXT, nullable=False),
        sa.Column("unit", _TEXT, nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["traces.prompt_id"]),
        sa.PrimaryKeyConstraint("prompt_id"),
    )
    op.create_index("ix_trace_units_unit", "trace_units", ["unit"])
    # Splits that were already used stay as they are: every row is its own unit.
    op.execute("insert into trace_units (prompt_id, unit) select prompt_id, prompt_id from traces")
    op.create_table(
        "dataset_exclusions",
        sa.Column("dataset_id", _TEXT, nullable=False),
        sa.Column("prompt_id", _TEXT, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.dataset_id"]),
        sa.ForeignKeyConstraint(["prompt_id"], ["traces.prompt_id"]),
        sa.PrimaryKeyConstraint("dataset_id", "prompt_id"),
    )


def downgrade() -> None:
    op.drop_table("dataset_exclusions")
    op.drop_table("trace_units")
