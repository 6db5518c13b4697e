"""Embedded requests in the store: what was embedded once is not embedded again.

Not here: embedding (``embedder.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.stats.mmd import BLOCK
from loop_pipeline.store.database import CHUNK, of_app, query, read, upsert
from loop_pipeline.store.shadow_answers import conversation_unit
from loop_pipeline.store.tables import TraceRow, TraceVectorRow

WINDOW = 500
REFERENCE = 2_000
TURNS = 10


class Compared(NamedTuple):
    """Newest requests and earlier ones, as ``stats.mmd.novelty`` takes them."""

    window: Floats
    reference: Floats
    window_units: NDArray[np.int64]
    reference_units: NDArray[np.int64]


def newest_and_before(engine: Engine, seed: int = 0) -> Compared:
    """Unit vectors of the newest 500 requests, and of some 2,000 of those before, in whole units.

    A unit is a stretch of time: conversations that began one after the other, with ten requests or
    more. So neither the turns of a conversation nor a burst of one topic count as independent.
    """
    table = TraceVectorRow.__table__
    statement = (
        select(table.c.prompt_id, TraceRow.ts, TraceRow.conversation_id, TraceRow.user_hash)
        .join(TraceRow, TraceRow.prompt_id == table.c.prompt_id)
        .where(of_app(engine))
        .order_by(TraceRow.ts, table.c.prompt_id)
    )
    rows = query(engine, statement)
    units = time_units(rows)
    rows, units = rows[units >= 0], units[units >= 0]
    # From the newest unit back, until there are enough requests.
    later = np.bincount(units)[::-1].cumsum()[::-1] if len(units) else np.zeros(0, int)
    newest = np.flatnonzero(later >= min(WINDOW, len(units)))[-1:].sum()
    earlier = np.random.default_rng(seed).permutation(int(newest))
    enough = np.searchsorted(np.bincount(units, minlength=1)[earlier].cumsum(), REFERENCE) + 1
    inside, before = units >= newest, np.isin(units, earlier[:enough])
    ids = rows["prompt_id"].to_numpy()
    window, reference = (_stored(engine, ids[chosen]) for chosen in (inside, before))
    return Compared(window, reference, units[inside], units[before])


def time_units(rows: pd.DataFrame) -> NDArray[np.int64]:
    """The unit of each request, numbered as they began; -1 for turns that are left out.

    Where no conversation is known, what a user asked within an hour is one, else each request. Of
    one conversation the first ``TURNS`` requests count, so that no single one fills a window.

    Args:
        rows: columns ts, conversation_id, user_hash, in the order of time.
    """
    columns = rows[["conversation_id", "user_hash"]].astype(object)
    known = columns.where(columns.notna(), None).itertuples(index=False)
    moments = pd.to_datetime(rows["ts"], utc=True)
    talk = pd.Series(
        [
            conversation_unit(said, who, at, str(place))
            for place, ((said, who), at) in enumerate(zip(known, moments, strict=True))
        ],
        index=rows.index,
        dtype=object,
    )
    number = pd.factorize(talk)[0]
    counted = (talk.groupby(number).cumcount() < TURNS).to_numpy()
    sizes = np.bincount(number[counted], minlength=1)
    unit_of, last, filled = np.zeros(len(sizes), np.int64), 0, 0
    for place, size in enumerate(sizes):
        unit_of[place], filled = last, filled + size
        if filled >= BLOCK:
            last, filled = last + 1, 0
    return np.where(counted, unit_of[number], -1) if len(rows) else np.zeros(0, np.int64)


def _stored(engine: Engine, ids: NDArray[np.object_]) -> Floats:
    if not len(ids):
        return np.zeros((0, 1), dtype=np.float32)
    stored = read(engine, TraceVectorRow, prompt_id=list(ids)).set_index("prompt_id")["vector"]
    rows = np.frombuffer(b"".join(stored.loc[list(ids)]), dtype="<f2").reshape(len(ids), -1)
    return unit(rows.astype(np.float32))


def vectors_of(
    engine: Engine, embedder: TextEmbedder, requests: pd.DataFrame
) -> tuple[Floats, int]:
    """Vectors of requests, read where the store has them, else embedded and stored.

    Args:
        engine: the store.
        embedder: of the texts.
        requests: columns prompt_id (each once) and text; traces of the store.

    Returns:
        Vectors (n, d) as ``project`` gives them, in the order of the requests, and how many were
        embedded now.
    """
    stored = read(engine, TraceVectorRow, version=embedder.version)
    place = pd.Series(np.arange(len(requests)), index=requests["prompt_id"].to_numpy())
    stored = stored[stored["prompt_id"].isin(place.index)]
    known = place.loc[stored["prompt_id"]].to_numpy()
    missing = np.setdiff1d(np.arange(len(requests)), known)
    texts = requests["text"].to_numpy()
    made = embedder.project(texts[missing].tolist()).astype("<f2")
    ids = requests["prompt_id"].to_numpy()[missing]
    with engine.begin() as connection:
        for at in range(0, len(ids), CHUNK):
            rows = [
                {"prompt_id": name, "version": embedder.version, "vector": vector.tobytes()}
                for name, vector in zip(ids[at : at + CHUNK], made[at : at + CHUNK], strict=True)
            ]
            upsert(connection, TraceVectorRow, rows)
    out = np.zeros((len(requests), made.shape[1]), dtype=np.float32)
    out[missing] = made
    if len(known):
        out[known] = np.frombuffer(b"".join(stored["vector"]), dtype="<f2").reshape(len(known), -1)
    return out, len(missing)
