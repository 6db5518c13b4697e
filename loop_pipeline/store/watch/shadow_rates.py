"""Groups of which more is shadowed than the policy says, for a while.

Not here: which, and why (``monitoring/shadow_share.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select

from loop_pipeline.store.database import replace_all
from loop_pipeline.store.tables import ShadowRateRow


def write_shadow_rates(engine: Engine, rates: Mapping[str, tuple[float, str]]) -> None:
    """Make these the only ones: a share and its reason by group id."""
    rows = [
        {"group_id": name, "rate": rate, "reason": why}
        for name, (rate, why) in sorted(rates.items())
    ]
    if rows == shadow_rates(engine):
        return
    with engine.begin() as connection:
        replace_all(connection, ShadowRateRow, rows)


def shadow_rates(engine: Engine) -> list[dict[str, Any]]:
    """All of them, by group id."""
    table = ShadowRateRow.__table__
    with engine.connect() as connection:
        rows = connection.execute(select(table).order_by(table.c.group_id))
        return [dict(row) for row in rows.mappings()]
