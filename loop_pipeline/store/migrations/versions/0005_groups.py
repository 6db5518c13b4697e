"""groups on two levels, their lineage, stored vectors, statistics by sample"""

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0005"
down_revision = "0004"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_KEY = ("group_id", "model")
_FIGURES = ("quality", "quality_low", "quality_high", "flagged_share", "agreement")
_NEW_FIGURES = ("agreement_low", "agreement_high", "latency_p99_ms")
_LATENCY = ("latency_p50_ms", "latency_p95_ms")


def upgrade() -> None:
    op.add_column("task_groups", sa.Column("parent_id", _TEXT, nullable=True))
    op.add_column("task_groups", sa.Column("related_id", _TEXT, nullable=True))
    for name, kind, old in (
        ("renamed", sa.Boolean(), sa.false()),
        ("streak", sa.Integer(), "0"),
        ("reason", _TEXT, ""),
    ):
        op.add_column("task_groups", sa.Column(name, kind, nullable=False, server_default=old))
    op.add_column("group_members", sa.Column("leaf_id", _TEXT, nullable=True))
    op.create_table(
        "group_lineage",
        sa.Column("event_id", _TEXT, primary_key=True),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False, index=True),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("from_id", _TEXT, nullable=True),
        sa.Column("to_id", _TEXT, nullable=True),
        sa.Column("reason", _TEXT, nullable=False),
    )
    op.create_table(
        "trace_vectors",
        sa.Column(
            "prompt_id",
            _TEXT,
            sa.ForeignKey("traces.prompt_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("version", _TEXT, nullable=False, index=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
    )
    # Derived rows: the next `group_model_stats` writes them again.
    op.drop_table("group_model_stats")
    op.create_table(
        "group_model_stats",
        *(sa.Column(name, _TEXT, primary_key=True) for name in (*_KEY, "sample")),
        sa.Column("comparable", sa.Boolean(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("quality_method", _TEXT, nullable=True),
        *(
            sa.Column(name, sa.Float(), nullable=True)
            for name in (*_FIGURES, *_NEW_FIGURES, *_LATENCY)
        ),
        sa.Column("cost_per_request", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("group_model_stats")
    op.create_table(
        "group_model_stats",
        *(sa.Column(name, _TEXT, primary_key=True) for name in _KEY),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("sample", _TEXT, nullable=False),
        *(sa.Column(name, sa.Float(), nullable=True) for name in (*_FIGURES, *_LATENCY)),
        sa.Column("cost_per_request", sa.Float(), nullable=False),
    )
    op.drop_table("trace_vectors")
    op.drop_table("group_lineage")
    # Older code takes every row for a group of its own.
    op.execute("delete from task_groups where parent_id is not null or status = 'candidate'")
    for table, columns in {
        "task_groups": ("parent_id", "related_id", "renamed", "streak", "reason"),
        "group_members": ("leaf_id",),
    }.items():
        with op.batch_alter_table(table) as altered:
            for column in columns:
                altered.drop_column(column)
