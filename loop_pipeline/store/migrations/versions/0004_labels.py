"""signals as columns, reviewers, superseded pairs, feedback that waits for its trace"""

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0004"
down_revision = "0003"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_WHEN = UtcDateTime(timezone=True)
_SIGNALS = {
    "action": _TEXT,
    "edit_distance": sa.Float(),
    "thumb": sa.Float(),
    "rating": sa.Float(),
    "regenerated": sa.Boolean(),
    "reasked_minutes": sa.Float(),
    "copied": sa.Boolean(),
    "dwell_s": sa.Float(),
    "judge": sa.Float(),
    "review_good": sa.Float(),
    "contract_valid": sa.Boolean(),
    "grounding": sa.Float(),
    "logprob_min": sa.Float(),
    "logprob_p10": sa.Float(),
    "latency_ms": sa.Float(),
}


def upgrade() -> None:
    op.add_column("feedback", sa.Column("received_at", _WHEN, nullable=True))
    op.execute("update feedback set received_at = ts")
    with op.batch_alter_table("feedback") as feedback:
        feedback.alter_column("received_at", existing_type=_WHEN, nullable=False)
        feedback.create_index("ix_feedback_received_at", ["received_at"])
    op.add_column("quarantine", sa.Column("prompt_id", _TEXT, nullable=True))
    op.create_index("ix_quarantine_prompt_id", "quarantine", ["prompt_id"])
    for table, column, kind, old in (
        ("hallucination_flags", "spans", sa.JSON(), "[]"),
        ("quality_scores", "because", sa.JSON(), "{}"),
        ("review_items", "reason", _TEXT, "drawn before reasons were kept"),
    ):
        op.add_column(table, sa.Column(column, kind, nullable=False, server_default=old))
    op.add_column("quality_scores", sa.Column("threshold", sa.Float(), nullable=True))
    op.add_column("review_items", sa.Column("mlflow_trace_id", _TEXT, nullable=True))
    op.create_index("ix_review_items_status", "review_items", ["status"])
    _make_tables()


def _make_tables() -> None:
    op.create_table(
        "trace_signals",
        sa.Column("prompt_id", _TEXT, sa.ForeignKey("traces.prompt_id"), primary_key=True),
        sa.Column("day", _TEXT, nullable=False, index=True),
        *(sa.Column(name, kind, nullable=True) for name, kind in _SIGNALS.items()),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("version", _TEXT, nullable=False),
    )
    op.create_table(
        "reviewers",
        sa.Column("actor", _TEXT, primary_key=True),
        sa.Column("reviews", sa.Integer(), nullable=False),
        sa.Column("overlaps", sa.Integer(), nullable=False),
        sa.Column("finds_good", sa.Float(), nullable=False),
        sa.Column("finds_bad", sa.Float(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("warning", _TEXT, nullable=True),
    )
    op.create_table(
        "superseded_pairs",
        sa.Column("pair_id", _TEXT, primary_key=True),
        sa.Column("superseded_at", _WHEN, primary_key=True),
        sa.Column(
            "prompt_id", _TEXT, sa.ForeignKey("traces.prompt_id"), nullable=False, index=True
        ),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("day", "kind")),
        *(sa.Column(name, _TEXT, nullable=True) for name in ("chosen", "rejected")),
        sa.Column("score", sa.Float(), nullable=True),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("reason", "version", "instead")),
    )


def downgrade() -> None:
    for table in ("superseded_pairs", "reviewers", "trace_signals"):
        op.drop_table(table)
    op.drop_index("ix_review_items_status", "review_items")
    op.drop_index("ix_quarantine_prompt_id", "quarantine")
    op.drop_index("ix_feedback_received_at", "feedback")
    for table, columns in {
        "feedback": ("received_at",),
        "quarantine": ("prompt_id",),
        "hallucination_flags": ("spans",),
        "quality_scores": ("because", "threshold"),
        "review_items": ("reason", "mlflow_trace_id"),
    }.items():
        with op.batch_alter_table(table) as altered:
            for column in columns:
                altered.drop_column(column)
