"""tool calls, tools, parameters and served model of a trace; keys; holds"""

import json

import sqlalchemy as sa
from alembic import op

from loop_pipeline.hashing import digest
from loop_pipeline.store.tables import UtcDateTime

revision = "0006"
down_revision = "0005"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_WHEN = UtcDateTime(timezone=True)
_NEW = {
    "tools": sa.JSON(),
    "parameters": sa.JSON(),
    "tool_calls": sa.JSON(),
    "served_model": _TEXT,
    "response_id": _TEXT,
    "first_byte_ms": sa.Float(),
    "tags": sa.JSON(),
}


def upgrade() -> None:
    for name, kind in _NEW.items():
        op.add_column("traces", sa.Column(name, kind, nullable=True))
    op.add_column("traces", sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_traces_response_id", "traces", ["response_id"])
    op.create_table(
        "keys",
        sa.Column("key_sha256", _TEXT, primary_key=True),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("name", "app")),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("roles", "limits")),
        sa.Column("created_at", _WHEN, nullable=False),
        *(sa.Column(name, _WHEN, nullable=True) for name in ("expires_at", "revoked_at")),
    )
    op.create_table(
        "holds",
        sa.Column("hold_id", _TEXT, primary_key=True),
        sa.Column("group_id", _TEXT, nullable=False, index=True),
        sa.Column("at", _WHEN, nullable=False),
        *(sa.Column(name, _TEXT, nullable=False) for name in ("reason", "actor")),
        sa.Column("released_at", _WHEN, nullable=True),
        sa.Column("released_by", _TEXT, nullable=True),
    )
    _name_templates(("system", "developer"))


def downgrade() -> None:
    _name_templates(("system",))
    op.drop_table("holds")
    op.drop_table("keys")
    op.drop_index("ix_traces_response_id", "traces")
    # Not in a batch: SQLite would copy the table and drop it, and with it all that names its rows.
    for name in (*_NEW, "retries"):
        op.drop_column("traces", name)


def _name_templates(roles: tuple[str, ...]) -> None:
    """Name the template of each trace that has a developer message anew.

    That role counts as a system prompt from this version on: two templates were one before.
    """
    connection = op.get_bind()
    found = connection.execute(
        sa.text("select prompt_id, messages from traces where cast(messages as text) like :part"),
        {"part": '%"developer"%'},
    ).all()
    renamed = []
    for prompt_id, messages in found:
        turns = json.loads(messages) if isinstance(messages, str) else messages
        if any(turn.get("role") == "developer" for turn in turns):
            words = (str(turn.get("content")) for turn in turns if turn.get("role") in roles)
            renamed.append({"id": prompt_id, "name": digest(*words)[:16]})
    if renamed:
        connection.execute(
            sa.text("update traces set template_hash = :name where prompt_id = :id"), renamed
        )
