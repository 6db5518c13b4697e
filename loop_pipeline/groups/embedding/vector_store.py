"""Embedded requests in the store: what was embedded once is not embedded again.

Not here: embedding (``embedder.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sqlalchemy import Engine, select

from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.store.database import CHUNK, of_app, query, read, upsert
from loop_pipeline.store.tables import TraceRow, TraceVectorRow

WINDOW = 500
REFERENCE = 2_000


def newest_and_before(engine: Engine, seed: int = 0) -> tuple[Floats, Floats]:
    """Unit vectors of the newest 500 distinct requests, and of 2,000 drawn from those before."""
    table = TraceVectorRow.__table__
    statement = (
        select(table.c.prompt_id, TraceRow.dedup_key)
        .join(TraceRow, TraceRow.prompt_id == table.c.prompt_id)
        .where(of_app(engine))
        .order_by(TraceRow.ts, table.c.prompt_id)
    )
    ids = query(engine, statement).drop_duplicates("dedup_key")["prompt_id"].to_numpy()
    newest, before = ids[-WINDOW:], ids[:-WINDOW]
    drawn = np.random.default_rng(seed).permutation(len(before))[:REFERENCE]
    some = [*newest, *before[drawn]]
    stored = read(engine, TraceVectorRow, prompt_id=some).set_index("prompt_id")["vector"]
    if not len(stored):
        return np.zeros((0, 1), dtype=np.float32), np.zeros((0, 1), dtype=np.float32)
    rows = np.frombuffer(b"".join(stored.loc[some]), dtype="<f2").reshape(len(some), -1)
    vectors = unit(rows.astype(np.float32))
    return vectors[: len(newest)], vectors[len(newest) :]


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
