"""A team's own detector: T1 fitted to what its reviewers said."""

from __future__ import annotations

from sqlalchemy import Engine

from loop_pipeline.labels.hallucination.detector import free_texts, worded_traces
from loop_pipeline.labels.hallucination.fitting import Row, fit_detector
from loop_pipeline.labels.hallucination.lexical import Detector
from loop_pipeline.labels.reviewers import relied_on, verdicts
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
    rows = [
        Row(
            text.source,
            text.output,
            not good[trace["prompt_id"]],
            trace["template_hash"],
            text.usual,
        )
        for trace, text in zip(worded, free_texts(worded), strict=True)
        if trace["prompt_id"] in good
    ]
    return fit_detector(rows, trained_on=f"{len(rows)} reviewed texts of the store")
