"""Answers of the frontier whose cost nobody knows: how many, and of which models.

Not here: finding prices (``costs``), and giving them to rows (``report/reprice.py``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, String, case, func, literal, select

from loop_pipeline.costs.list_prices import TIERS
from loop_pipeline.costs.unpriced import CUT_OFF, NO_TOKENS, unpriced_words
from loop_pipeline.store.database import of_app
from loop_pipeline.store.tables import TraceRow

_NO_TOKENS = TraceRow.tokens_in + TraceRow.tokens_out == 0
_CUT_OFF = _NO_TOKENS & func.coalesce(TraceRow.finish_reason, "").in_(CUT_OFF)
UNPRICED_ROWS = TraceRow.cost_usd.is_(None) & ~_CUT_OFF
_TIER = func.lower(func.coalesce(TraceRow.service_tier, ""))
# As ``costs.unpriced.unpriced_as`` has it.
UNPRICED_AS = case(
    (~UNPRICED_ROWS, literal(None, String)),
    (
        _NO_TOKENS,
        TraceRow.model.concat(literal(f" ({NO_TOKENS})", String)),
    ),
    (_TIER.in_(tuple(TIERS)), TraceRow.model.concat(" (").concat(_TIER).concat(")")),
    else_=TraceRow.model,
)


def unpriced_models(engine: Engine, *where: Any) -> dict[str, int]:
    """How many answers of each model are unpriced.

    Args:
        engine: the store.
        *where: which traces are looked at; none: all.
    """
    inner = select(UNPRICED_AS.label("model")).where(UNPRICED_ROWS, of_app(engine), *where)
    named = inner.subquery()
    counted = select(named.c.model, func.count()).group_by(named.c.model)
    with engine.connect() as connection:
        return {str(model): n for model, n in connection.execute(counted)}


def unpriced_remark(engine: Engine) -> str | None:
    """Which answers are unpriced, and what to do; None: all have a price."""
    models = unpriced_models(engine)
    if not models:
        return None
    everything = select(func.count()).where(TraceRow.producer == "frontier", of_app(engine))
    with engine.connect() as connection:
        return unpriced_words(models, connection.scalar(everything) or 0)
