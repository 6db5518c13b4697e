"""Served answers and the frontier's become rows of evidence, each once, in the order they come.

Not here: what they say (``risk.py``). The order is that in which they reach the store: a clock that
jumps, or a spool that waited, changes nothing of what was counted before.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from loop_pipeline.answers.agreement import agreement_of
from loop_pipeline.stats.e_process import LIFE
from loop_pipeline.store.shadow_answers import conversation_unit
from loop_pipeline.store.watch.served_pairs import (
    keep_watched,
    last_units,
    new_served_pairs,
    releases,
)

Stream = tuple[str, str, int]
"""Task group, model, and how often the group was released before."""


class AnotherLook(RuntimeError):
    """Another process looks at this moment; what it found is in the store."""


def take_rows(engine: Engine, now: dt.datetime) -> dict[Stream, int]:
    """Keep what is new. Returns how many rows of evidence came to each stream.

    Of a conversation one row is evidence in every process: the next one counts again only after as
    many others as a process lives for.

    Raises:
        AnotherLook: nothing was kept here.
    """
    pairs = new_served_pairs(engine, now)
    if not pairs:
        return {}
    columns = ([pair[name] for pair in pairs] for name in ("output", "frontier", "contract"))
    same = agreement_of(*columns)
    try:
        with engine.begin() as connection:
            rows = _rows(connection, list(zip(pairs, same, strict=True)), now)
            keep_watched(connection, rows)
    except IntegrityError as error:
        raise AnotherLook("another process looks at the served answers at this moment") from error
    found: dict[Stream, int] = defaultdict(int)
    for row in rows:
        if row["position"] is not None:
            found[row["group_id"], row["adapter"], row["stream"]] += 1
    return dict(found)


def _rows(
    connection: Connection, pairs: list[tuple[dict[str, Any], bool]], now: dt.datetime
) -> list[dict[str, Any]]:
    released = releases(connection)
    known: dict[Stream, tuple[int, dict[str, int]]] = {}
    rows = []
    for pair, same in pairs:
        group_id, adapter = pair["group_id"], pair["adapter"]
        stream = (group_id, adapter, released.get(group_id, 0))
        if stream not in known:
            known[stream] = last_units(connection, stream, LIFE)
        last, units = known[stream]
        columns = ("conversation_id", "user_hash", "ts", "prompt_id")
        unit = conversation_unit(*(pair[name] for name in columns))
        again = unit in units and units[unit] > last - LIFE
        if not again:
            last, units[unit] = last + 1, last + 1
            known[stream] = last, units
        row = {"prompt_id": pair["prompt_id"], "group_id": group_id, "adapter": adapter}
        row |= {"stream": stream[2], "position": None if again else last, "unit": unit}
        rows.append(row | {"at": now, "disagrees": not same})
    return rows
