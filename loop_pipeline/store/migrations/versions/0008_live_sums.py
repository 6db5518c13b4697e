"""sums of live traffic by day and minute; indexes of its newest, drawn and contracted traces"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from alembic import op

from loop_pipeline.store.tables import UtcDateTime

revision = "0008"
down_revision = "0007"

_TEXT = sa.String().with_variant(sa.Text(), "postgresql")
_CONTRACTED = sa.text("task IS NOT NULL AND contract_id IS NOT NULL")
_DRAWN: dict[str, Any] = {
    "sqlite_where": sa.text("json_extract(route, '$.shadow')"),
    "postgresql_where": sa.text("(route ->> 'shadow') = 'true'"),
}
# Fields of the route, and the minute of a moment.
_FIELD = {"sqlite": "json_extract(route, '$.{}')", "postgresql": "(route ->> '{}')"}
_IS_TRUE = {"sqlite": "coalesce({}, 0) = 1", "postgresql": "coalesce({}, '') = 'true'"}
_MINUTE = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M', ts)",
    "postgresql": "to_char(timezone('UTC', ts), 'YYYY-MM-DD\"T\"HH24:MI')",
}

# The model under which an answer of unknown cost is counted; empty for the others.
_UNPRICED = """substr(case
    when cost_usd is not null or (tokens_in + tokens_out = 0
        and coalesce(finish_reason, '') in ('broken', 'cancelled')) then ''
    when tokens_in + tokens_out = 0 then model || ' (no tokens logged)'
    when lower(coalesce(service_tier, '')) in ('batch', 'flex', 'priority')
        then model || ' (' || lower(service_tier) || ')'
    else model end, 1, 200)"""


def upgrade() -> None:
    op.create_table(
        "live_days",
        *(sa.Column(name, _TEXT, primary_key=True) for name in ("day", "lane", "policy")),
        sa.Column("group_id", _TEXT, primary_key=True),
        sa.Column("canary", sa.Boolean(), primary_key=True),
        sa.Column("unpriced", _TEXT, primary_key=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("tokens_in", "tokens_out")),
        sa.Column("first", UtcDateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "live_minutes",
        *(sa.Column(name, _TEXT, primary_key=True) for name in ("minute", "lane")),
        sa.Column("requests", sa.Integer(), nullable=False),
    )
    _count()
    op.drop_index("ix_traces_day", "traces")
    op.create_index("ix_traces_day_ts", "traces", ["day", "ts"])
    op.create_index("ix_traces_drawn", "traces", ["day", "prompt_id"], **_DRAWN)
    where: dict[str, Any] = {"sqlite_where": _CONTRACTED, "postgresql_where": _CONTRACTED}
    op.create_index("ix_traces_contracted", "traces", ["day"], **where)


def downgrade() -> None:
    for name in ("ix_traces_contracted", "ix_traces_drawn", "ix_traces_day_ts"):
        op.drop_index(name, "traces")
    op.create_index("ix_traces_day", "traces", ["day"])
    op.drop_table("live_minutes")
    op.drop_table("live_days")


def _count() -> None:
    """Count what is stored. From here on whoever stores a trace counts it."""
    connection = op.get_bind()
    kind = connection.dialect.name

    def name_in(field: str) -> str:
        return f"substr(coalesce({_FIELD[kind].format(field)}, ''), 1, 200)"

    live = f"""
        select day, ts, cost_usd, tokens_in, tokens_out, {_MINUTE[kind]} as minute,
          case when {name_in("shadow_of")} <> '' then 'beside'
               when producer = 'student' then 'student'
               when {name_in("arm")} = 'student' then 'escalated' else 'frontier' end as lane,
          {name_in("policy")} as policy, {name_in("group_id")} as group_id,
          {_IS_TRUE[kind].format(_FIELD[kind].format("canary"))} as canary,
          {_UNPRICED} as unpriced
        from traces where {name_in("arm")} <> '' or {name_in("shadow_of")} <> ''
    """  # noqa: S608  names of columns
    connection.execute(
        sa.text(f"""
            insert into live_days
            select day, lane, policy, group_id, canary, unpriced, count(*),
              coalesce(sum(cost_usd), 0), sum(tokens_in), sum(tokens_out), min(ts)
            from ({live}) as live group by day, lane, policy, group_id, canary, unpriced
        """)  # noqa: S608
    )
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    connection.execute(
        sa.text(f"""
            insert into live_minutes select minute, lane, count(*) from ({live}) as live
            where day >= :day and minute >= :minute and lane <> 'beside' group by minute, lane
        """),  # noqa: S608
        {"day": yesterday.date().isoformat(), "minute": yesterday.isoformat()[:16]},
    )
