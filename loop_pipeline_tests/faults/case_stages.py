"""Takes a file of records and sound neighbours through the steps of a day.

Not here: what has to come out (``test_cases.py``).
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.quality.model import score_quality
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.labels.signals import features, tasks, trace_signals
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.messages import request_text
from loop_pipeline.training.dataset import frozen_set
from loop_pipeline.training.dataset.frozen_check import check_frozen
from loop_pipeline.training.dataset.selection import Selection, select_rows
from loop_pipeline.training.dataset.splits import split_traces
from loop_pipeline_tests.shared import secret

GZIP = b"\x1f\x8b"
NEIGHBOURS = 12
PLACES = ("Lisbon", "Oslo", "Nairobi", "Quito", "Hanoi", "Perth")
GOODS = ("kettle", "lantern", "rucksack", "compass", "hammock", "stove")


@dataclass
class Day:
    """What each step made of a store."""

    traces: pd.DataFrame
    feedback: pd.DataFrame
    quarantine: pd.DataFrame
    flags: pd.DataFrame
    signals: pd.DataFrame
    scores: pd.DataFrame
    pairs: pd.DataFrame
    members: pd.DataFrame
    selection: Selection
    frozen: Path
    rows: list[dict[str, Any]]
    """Of the frozen set's training and validation files, read back."""

    def flag(self, prompt_id: str) -> dict[str, Any]:
        """The flag of a trace."""
        [row] = self.flags[self.flags["prompt_id"] == prompt_id].to_dict("records")
        return {str(name): value for name, value in row.items()}

    def kinds(self, prompt_id: str) -> set[str]:
        """What a trace teaches."""
        return set(self.pairs.loc[self.pairs["prompt_id"] == prompt_id, "kind"])


def neighbour(number: int) -> dict[str, Any]:
    """A sound trace, half of them about labels, with a user who accepted the answer."""
    place, thing = PLACES[number % 6], GOODS[number // 6 % 6]
    label = number % 2 == 0
    asked = f"When does the {thing} number {number} reach our camp near {place}?"
    text = f"The {thing} number {number} will reach your camp near {place} soon."
    return {
        "prompt_id": f"sound-{number}",
        "ts": f"2026-09-04T08:{10 + number}:00+00:00",
        "model": "gpt-5.5",
        "messages": [
            {"role": "system", "content": "Sort it." if label else "Answer it in one sentence."},
            {"role": "user", "content": asked},
        ],
        "output": ("delivery" if number % 4 else "refund") if label else text,
        "contract": {"kind": "label", "labels": ["delivery", "refund"]} if label else None,
        "tokens_in": 20,
        "tokens_out": 10,
        "feedback": [{"kind": "accepted", "actor": "u1", "ts": "2026-09-04T12:00:00Z"}],
    }


def import_with_neighbours(engine: Engine, case: Path, folder: Path) -> Imported:
    """Import a file with sound lines before and after its own; a file of one document alone."""
    lines = [json.dumps(neighbour(number)).encode() for number in range(NEIGHBOURS)]
    raw = case.read_bytes()
    if raw.startswith(GZIP):
        raw = gzip.decompress(raw)
    first, rest = lines[: NEIGHBOURS // 2], lines[NEIGHBOURS // 2 :]
    if case.suffix == ".json" or raw.startswith((b"\xef\xbb\xbf", b"version ")):
        beside = folder / "neighbours.jsonl"
        beside.write_bytes(b"\n".join(first + rest) + b"\n")
        import_file(engine, beside, reviews=True, secret=secret)
        return import_file(engine, case, reviews=True, secret=secret)
    mixed = folder / f"{case.stem.removesuffix('.jsonl')}.jsonl"
    mixed.write_bytes(b"\n".join([*first, raw.rstrip(b"\n"), *rest]) + b"\n")
    return import_file(engine, mixed, reviews=True, secret=secret)


def whole_day(engine: Engine, folder: Path) -> Day:
    """Flags, signals, scores, pairs, groups and a frozen set of everything in the store."""
    traces, feedback = read_traces(engine), read_feedback(engine)
    judged = verdicts(feedback)
    flags = flag_hallucinations(traces, tiers=Tiers())
    signals = trace_signals(traces, feedback, flags, judged)
    scores = score_quality(None, features(signals), tasks(traces), relied_on(judged))
    # As if reviews had promised a threshold for every task: what nobody objects to is learned.
    unseen = scores["origin"] == "none"
    scores = scores.assign(score=scores["score"].where(~unseen, 0.9), threshold=0.5, origin="model")
    pairs = label_pairs(traces, feedback, flags, scores, relied_on(judged), tiers=Tiers())
    settled = split_traces(engine)
    # All are learned from: what a held-out row would hide is looked at here.
    settled = settled.assign(split="train")
    selection = select_rows(pairs, settled, reviewed=set(), trained=set())
    frozen = frozen_set.freeze(selection, folder / "datasets")
    path = Path(frozen.folder)
    check_frozen(path, frozen.dataset_id)
    rows = [
        json.loads(line)
        for name in ("train", "validation")
        for line in (path / f"{name}.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    return Day(
        traces=traces,
        feedback=feedback,
        quarantine=read(engine, QuarantineRow),
        flags=flags,
        signals=signals,
        scores=scores,
        pairs=pairs,
        members=_groups(traces),
        selection=selection,
        frozen=path,
        rows=rows,
    )


def _groups(traces: pd.DataFrame) -> pd.DataFrame:
    frame = traces.assign(text=traces["messages"].map(request_text))
    embedder = Embedder.fit(frame["text"].tolist(), 7)
    groups = fit_groups(frame, embedder, previous=None, calibration_rows=1000, seed=7)
    return member_rows(groups, frame, embedder)


def stored(engine: Engine, *prompt_ids: str) -> list[str]:
    """Which of these are stored."""
    there = set(read(engine, TraceRow, columns=["prompt_id"])["prompt_id"])
    return [prompt_id for prompt_id in prompt_ids if prompt_id in there]


def reasons(engine: Engine) -> list[str]:
    """Why lines are in quarantine, in the order of the lines."""
    held = read(engine, QuarantineRow).sort_values("line", kind="stable")
    return held.loc[held["prompt_id"].isna(), "reason"].tolist()


def noon() -> dt.datetime:
    """Some moment."""
    return dt.datetime(2026, 9, 4, 12, tzinfo=dt.UTC)
