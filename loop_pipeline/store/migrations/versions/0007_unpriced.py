"""a cost that is not known is null; tokens by kind and the tier of a trace"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_COUNTS = (
    *("tokens_cache_write", "tokens_cache_write_1h", "tokens_audio_in", "tokens_audio_out"),
    "tokens_reasoning",
)
# The models whose prices version 0006 knew, and what it took for a build of one.
_PRICED = frozenset(
    {
        *("claude-haiku-4-5", "claude-opus-4-8", "claude-opus-5", "claude-sonnet-5"),
        *("gemini-3.1-pro-preview", "gpt-5-mini", "gpt-5.4", "gpt-5.5", "gpt-5.6"),
    }
)
_PROVIDER = re.compile(r"(?:(?:us|eu|apac|jp|au|global)\.)?(?:anthropic|openai|google|azure)\.")
_BUILD = re.compile(r"(?:[-@]20\d\d-?\d\d-?\d\d|-latest|@latest|@default|-v\d+(?::\d+)?|-00\d)$")


def upgrade() -> None:
    for name in _COUNTS:
        op.add_column("traces", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("traces", sa.Column("service_tier", _TEXT, nullable=True))
    _cost_may_be_null(True)
    _stats_may_be_unpriced(True)
    _unprice()


def downgrade() -> None:
    op.execute("update traces set cost_usd = 0 where cost_usd is null")
    _stats_may_be_unpriced(False)
    _cost_may_be_null(False)
    for name in (*_COUNTS, "service_tier"):
        op.drop_column("traces", name)


def _cost_may_be_null(nullable: bool) -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("traces", "cost_usd", existing_type=sa.Float(), nullable=nullable)
        return
    # Not in a batch: SQLite would copy the table and drop it, and with it all that names its rows.
    default = None if nullable else "0"
    new = sa.Column("cost_anew", sa.Float(), nullable=nullable, server_default=default)
    op.add_column("traces", new)
    op.execute("update traces set cost_anew = cost_usd")
    op.drop_column("traces", "cost_usd")
    op.execute("alter table traces rename column cost_anew to cost_usd")


def _stats_may_be_unpriced(nullable: bool) -> None:
    # Derived rows: the next `group_model_stats` writes them again.
    op.drop_table("group_model_stats")
    real, shares = sa.Float(), ("quality", "quality_low", "quality_high")
    known = ("flagged_share", "agreement", "agreement_low", "agreement_high")
    op.create_table(
        "group_model_stats",
        *(sa.Column(n, _TEXT, primary_key=True) for n in ("group_id", "model", "sample")),
        sa.Column("comparable", sa.Boolean(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        *(sa.Column(name, real, nullable=True) for name in shares),
        sa.Column("quality_method", _TEXT, nullable=True),
        sa.Column("reviews", sa.Integer(), nullable=False),
        *(sa.Column(name, real, nullable=True) for name in known),
        sa.Column("cost_per_request", real, nullable=nullable),
        *(sa.Column(f"latency_p{p}_ms", real, nullable=True) for p in (50, 95, 99)),
    )


def _unprice() -> None:
    """Version 0006 wrote 0 where it knew no price: that is no price, so it becomes null.

    Only where the frontier answered and tokens were counted. A model that version 0006 had a price
    for did cost what the row says, also if that is 0.
    """
    connection = op.get_bind()
    free = "producer = 'frontier' and cost_usd = 0 and tokens_in + tokens_out > 0"
    models = connection.scalars(sa.text(f"select distinct model from traces where {free}"))  # noqa: S608
    unknown = [{"model": model} for model in models if not _was_priced(model)]
    if unknown:
        connection.execute(
            sa.text(f"update traces set cost_usd = null where model = :model and {free}"),  # noqa: S608
            unknown,
        )


def _was_priced(model: str) -> bool:
    name = model.strip().casefold()
    if name in _PRICED:
        return True
    name = _PROVIDER.sub("", name.rpartition("/")[2])
    while name not in _PRICED and (shorter := _BUILD.sub("", name)) != name:
        name = shorter
    return name in _PRICED
