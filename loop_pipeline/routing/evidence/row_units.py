"""Which held-out rows belong to one unit, and so may err together; and how often each was asked.

Not here: what follows for a promise (``confidence/certificate.py``), and which side of the fence a
unit is on (``training/dataset/splits.py``).

A unit of a row is everything that ties it to others: its conversation, the near-duplicates that
were found when its split was settled (or are found now among these rows), and, if it has no
conversation id, what the same user asked in the same hour. A conversation that everything carries
stays one unit here: nothing can be promised on it, and the reason names it.
"""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.store.database import read
from loop_pipeline.store.tables import TraceRow, TraceUnitRow
from loop_pipeline.training.dataset.near_duplicates import tied
from loop_pipeline.training.dataset.shingles import plain_text
from loop_pipeline.training.dataset.splits import together


def with_units(engine: Engine, rows: pd.DataFrame, messages: pd.Series) -> pd.DataFrame:
    """Rows with ``conversation_id`` and ``unit``, the name of what each belongs to.

    Args:
        engine: the store.
        rows: prompt_id, by distinct request.
        messages: of each of them, in the same order.
    """
    columns = ["prompt_id", "ts", "user_hash", "conversation_id"]
    known = read(engine, TraceRow, columns=columns).set_index("prompt_id")
    settled = read(engine, TraceUnitRow).set_index("prompt_id")["unit"]
    about = known.reindex(rows["prompt_id"]).assign(
        settled=settled.reindex(rows["prompt_id"]), text=[plain_text(m) for m in messages]
    )
    talk = about["conversation_id"].to_numpy()
    return rows.assign(conversation_id=talk, unit=unit_names(about.reset_index()))


def unit_names(rows: pd.DataFrame) -> list[str]:
    """Name the unit of each row.

    Args:
        rows: prompt_id, ts, user_hash, conversation_id, settled (the unit it was given with its
            split; null if it has none yet) and text.
    """
    if rows.empty:
        return []
    talk = rows["conversation_id"].where(rows["conversation_id"].notna(), None)
    hours = user_hours(rows)
    ties = [talk, hours, rows["settled"]]
    if rows["settled"].isna().any():
        ties.append(pd.Series(together(rows[["text", "conversation_id"]])))
    label = tied(ties)
    named = pd.DataFrame(
        {
            "label": label,
            "conversation": talk.to_numpy(),
            "hour": hours.to_numpy(),
            "first": rows["prompt_id"].to_numpy(),
        }
    )
    names = {code: _name(part) for code, part in named.groupby("label", sort=False)}
    return [names[code] for code in label]


def about_units(rows: pd.DataFrame) -> str:
    """What the calibration rows of a policy are units of, in a sentence; empty if not known.

    Args:
        rows: unit, and conversation_id where it is known.
    """
    if "unit" not in rows or rows.empty:
        return ""
    found = f"{len(rows):,} calibration rows in {rows['unit'].nunique():,} units"
    if "conversation_id" not in rows:
        return f"{found}."
    without = int(rows["conversation_id"].isna().sum())
    if not without:
        return f"{found}: conversations and near-duplicates."
    share = "None has" if without == len(rows) else f"{without:,} have no"
    told = f"{share} a conversation id" if without == len(rows) else f"{share} conversation id"
    return (
        f"{found}. {told}: there, near-duplicates and what one user asks in one hour count as one "
        "unit."
    )


def user_hours(rows: pd.DataFrame) -> pd.Series:
    """User and hour of rows without a conversation; null for others, and for unknown users.

    Args:
        rows: ts, user_hash and conversation_id.
    """
    hour = pd.to_datetime(rows["ts"], utc=True).dt.strftime("%Y-%m-%d %H:00")
    alone = rows["conversation_id"].isna() & rows["user_hash"].notna()
    return (rows["user_hash"].astype(str) + " " + hour).where(alone, None)


def _name(rows: pd.DataFrame) -> str:
    """What most rows of a unit have in common."""
    if len(rows) > 1:
        for kind in ("conversation", "hour"):
            counts = rows[kind].value_counts()
            if len(counts) and counts.iloc[0] > len(rows) / 2:
                return _told(kind, counts.index[0])
    one = min(rows["first"])
    return f"what is asked like {one}" if len(rows) > 1 else f"request {one}"


def _told(kind: str, key: Hashable) -> str:
    if kind == "conversation":
        return f"conversation {key}"
    user, day, hour = str(key).rsplit(" ", 2)
    return f"what user {user[:8]} asked on {day} from {hour} UTC"
