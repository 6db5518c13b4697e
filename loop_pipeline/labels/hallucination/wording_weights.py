"""Makes the weights that ship with the package, from the development parts of BEGIN.

    python -m loop_pipeline.labels.hallucination.wording_weights ../shared/data

BEGIN (Dziri et al., arXiv 2105.00071; google/BEGIN-dataset @ 6e65f0d5) has replies of four dialogue
models to a snippet of knowledge; licences CC BY 4.0 (wow, cmu) and CDLA-Sharing-1.0 (tc). Rows that
are ``Generic`` ("that is great!") claim nothing and are left out of the fit. Of the sets nothing
but these weights is in the package.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

from sqlalchemy import Engine

from loop_pipeline.labels.hallucination.answer_check import source_of_trace
from loop_pipeline.labels.hallucination.flags import habits_of, text_traces, worded_traces
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_fit import Row, fit_detector
from loop_pipeline.labels.hallucination.wording_score import SHIPPED, Detector
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.store.traces import read_feedback, read_traces


def detector_from_reviews(engine: Engine) -> Detector:
    """Fit T1 to the reviewed texts of the store; a text that a reviewer found bad is a bad one.

    Only texts that T0 lets pass: T1 never sees the others. Reviews that refuse an answer for its
    tone teach tone; the cross-validated figures say how much of that the wording shows.

    Raises:
        NoSkill: too few reviewed texts, or what they teach is no better than chance.
    """
    traces = read_traces(engine)
    good = relied_on(verdicts(read_feedback(engine, kind="review")))["good"].to_dict()
    worded = worded_traces(traces)
    # The common form of a template is learned from all its answers, as flagging does.
    habits = habits_of(text_traces(traces), Tiers())
    rows = [
        Row(
            source_of_trace(trace),
            trace["output"],
            not good[trace["prompt_id"]],
            trace["template_hash"],
            habits[trace["template_hash"]].form,
        )
        for trace in worded
        if trace["prompt_id"] in good
    ]
    return fit_detector(rows, trained_on=f"{len(rows)} reviewed texts of the store")


SETS = ("wow", "cmu", "tc")
TRAINED_ON = "BEGIN dev (wow, cmu, tc), google/BEGIN-dataset @ 6e65f0d5, without Generic rows"


def begin_rows(text: str, *, generic: bool) -> list[Row]:
    """Rows of a BEGIN file; everything that is not fully attributable is bad.

    Args:
        text: of the file.
        generic: whether to keep the rows that are ``Generic``; they then count as bad.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [
        Row(row["knowledge"], row["response"], row["begin_label"] != "Fully attributable")
        for row in rows
        if generic or row["begin_label"] != "Generic"
    ]


def make(folder: Path) -> Detector:
    """Fit the shipped detector.

    Args:
        folder: holds ``begin/begin_dev_wow.tsv.gz`` and the two others.
    """
    rows: list[Row] = []
    for name in SETS:
        packed = (folder / "begin" / f"begin_dev_{name}.tsv.gz").read_bytes()
        rows += begin_rows(gzip.decompress(packed).decode(), generic=False)
    return fit_detector(rows, trained_on=TRAINED_ON)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    SHIPPED.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{SHIPPED}: version {made.version}, {made.n} rows, AUC {made.auc}\n")
