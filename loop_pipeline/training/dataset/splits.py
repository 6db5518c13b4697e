"""Which side of the fence a request is on, decided once for all that belongs together.

Not here: which rows are then learned from (``selection.py``).

The hash at import draws a split for every request alone. That is no fence: a request comes again
with a greeting, or as the next turn of its conversation, and is drawn again. So rows that belong
together form a *unit*: rows of one conversation, near-duplicates (0.7), and texts that share
thirteen words in a row, tied together until nothing is left to tie. A unit takes the draw of its
earliest row and keeps it:

- A settled row never changes its split. Gold is frozen and only ever added to.
- New rows take the split of the unit they join, so a twin of a gold row is never trained on, and a
  twin of a row that was trained on is never held out. A row that ties two units together takes the
  more protected split; where the two then touch, ``overlap`` keeps the train rows out.
- Letting the most protected draw of a unit win instead would hold out whatever is asked often.

Ties can run through a whole traffic: a conversation id that everything carries, a domain so narrow
that every request has a cousin. A unit above 10% of the rows is taken apart into conversations and
equal texts, and an id on more than 10% of the rows names no conversation; again ``overlap`` keeps
out what then touches.

Runs over all rows, so that a row may find its unit wherever it is: about 8 s for 100,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from loop_pipeline.store.database import read, records
from loop_pipeline.store.tables import ContractRow, TraceRow, TraceUnitRow
from loop_pipeline.store.traces import fix_splits
from loop_pipeline.training.dataset.near_duplicates import components, similar_pairs
from loop_pipeline.training.dataset.shingles import (
    RUN_TEXTS,
    Hashes,
    common_runs,
    plain_text,
    runs_in,
    without_runs,
    word_runs,
)

# From the one that is learned from to the one that nothing may touch.
PROTECTION = {"train": 0, "validation": 1, "calibration": 2, "gold": 3}
RELATED = 0.7
LARGEST_SHARE = 0.1
LARGEST_ROWS = 100
COLUMNS = [
    *("prompt_id", "ts", "day", "source", "user_hash", "conversation_id", "template_hash"),
    *("messages", "contract_id", "output", "split"),
]

Ints = NDArray[np.int64]


def split_traces(engine: Engine) -> pd.DataFrame:
    """Settle the split of every trace that came since the last time, and write it to the store.

    Returns:
        As ``traces_with_splits``; that is all of them now.
    """
    traces = _traces(engine)
    settled = assign_splits(traces)
    drawn = traces.set_index("prompt_id")["split"]
    moved = settled[settled["split"].to_numpy() != drawn[settled["prompt_id"]].to_numpy()]
    with engine.begin() as connection:
        fix_splits(
            connection,
            records(settled[["prompt_id", "unit"]]),
            {str(name): list(part["prompt_id"]) for name, part in moved.groupby("split")},
        )
    new, found = traces["unit"].isna(), settled.set_index("prompt_id")
    for name in ("unit", "split"):
        traces[name] = traces[name].where(~new, traces["prompt_id"].map(found[name]))
    return traces


def traces_with_splits(engine: Engine) -> pd.DataFrame:
    """The traces whose split is settled.

    Returns:
        ``COLUMNS``, ``unit``, ``text`` and ``label`` (whether the contract is a choice of labels).
    """
    traces = _traces(engine)
    return traces[traces["unit"].notna()]


def _traces(engine: Engine) -> pd.DataFrame:
    traces = read(engine, TraceRow, columns=COLUMNS)
    units = read(engine, TraceUnitRow).set_index("prompt_id")["unit"]
    kinds = {r["contract_id"]: r["body"].get("kind") for r in records(read(engine, ContractRow))}
    return traces.assign(
        unit=traces["prompt_id"].map(units).astype(object),
        text=traces["messages"].map(plain_text).astype(object),
        label=[kinds.get(contract) == "label" for contract in traces["contract_id"]],
    )


def assign_splits(traces: pd.DataFrame) -> pd.DataFrame:
    """Decide the unit and the split of the rows that have none yet.

    Args:
        traces: prompt_id, ts, conversation_id, text, unit (None: not settled) and split: the one in
            force if the row is settled, else its draw.

    Returns:
        prompt_id, unit (the prompt id of its first row) and split of the rows without a unit.
    """
    if traces["unit"].notna().all():
        return traces[["prompt_id", "unit", "split"]].head(0)
    rows = traces.assign(label=together(traces), rank=traces["split"].map(PROTECTION))
    rows = rows.sort_values(["ts", "prompt_id"], kind="stable")
    old, new = rows[rows["unit"].notna()], rows[rows["unit"].isna()]
    by_rank = old.sort_values("rank", ascending=False, kind="stable")
    founders = new.assign(unit=new["prompt_id"])
    decided = pd.concat([by_rank, founders]).drop_duplicates("label").set_index("label")
    found = decided.loc[new["label"], ["unit", "split"]]
    return pd.DataFrame(
        {
            "prompt_id": new["prompt_id"].to_numpy(),
            "unit": found["unit"].to_numpy(),
            "split": found["split"].to_numpy(),
        }
    )


class Background(NamedTuple):
    """What so many rows carry that it ties nothing."""

    template: Hashes
    runs: Hashes
    conversations: set[str]


def background(traces: pd.DataFrame) -> Background:
    """Find it among all traces (text, conversation_id)."""
    texts = [str(text) for text in traces["text"].unique()]
    template = common_runs(texts)
    row, hashed, _ = word_runs(without_runs(texts, template))
    size = traces["conversation_id"].value_counts()
    return Background(
        template,
        runs_in(row, hashed, above=RUN_TEXTS),
        set(size.index[size <= largest(len(traces))]),
    )


def largest(rows: int) -> float:
    """More rows than this are no unit and no conversation."""
    return max(LARGEST_ROWS, LARGEST_SHARE * rows)


def together(traces: pd.DataFrame) -> Ints:
    """Number the units: rows with the same number belong together, shape (n,)."""
    common = background(traces)
    code, texts = pd.factorize(traces["text"])
    ids = traces["conversation_id"].where(traces["conversation_id"].isin(common.conversations))
    conversation = pd.factorize(ids)[0]
    has = conversation >= 0
    turns = code[has], len(texts) + conversation[has]
    size = len(texts) + int(conversation.max(initial=-1)) + 1
    texts = without_runs([str(text) for text in texts], common.template)
    near, runs = similar_pairs(texts, RELATED)[:2], _same_run(texts, common.runs)
    label = _components(size, [near, runs, turns])[code]
    by_conversation = np.where(has, len(texts) + conversation, code)
    for finer in (_components(size, [near, turns])[code], by_conversation, code):
        large = np.bincount(label)[label] > largest(len(traces))
        label = pd.factorize(np.where(large, finer, size + label))[0]
    return label.astype(np.int64)


def _components(size: int, ties: list[tuple[Ints, Ints]]) -> Ints:
    first, second = (np.concatenate(ends) for ends in zip(*ties, strict=True))
    return components(size, first, second)


def _same_run(texts: Sequence[str], ignored: Hashes) -> tuple[Ints, Ints]:
    """Pairs of texts that share a run of words."""
    row, hashed, _ = word_runs(texts)
    telling = ~np.isin(hashed, ignored)
    row, hashed = row[telling], hashed[telling]
    order = np.argsort(hashed, kind="stable")
    row, hashed = row[order], hashed[order]
    shared = hashed[1:] == hashed[:-1]
    return row[:-1][shared], row[1:][shared]
