"""A routing decision in words, for somebody who has never read the code.

Not here: deciding (``routing/router.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from loop_pipeline.store.incoming.live_sums import lane_of

OUTCOMES = {
    "student": "The student's answer went out.",
    "escalated": "The student was asked first, but the frontier's answer went out.",
    "frontier": "The frontier answered; no student was asked first.",
    "beside": "This answer was asked for beside the one that went out, to compare the two.",
}


def decision_words(row: Mapping[str, Any], group_name: str | None) -> list[str]:
    """What happened to a request, one short sentence after the other.

    Args:
        row: a trace that came through the gateway.
        group_name: of its task group; None: it belongs to none, or to one that is no more.
    """
    route = row["route"]
    said = [OUTCOMES[lane_of(row)], _group(route, group_name)]
    if route.get("forced"):
        said.append("The application asked for the frontier (x-loop-route).")
    if route.get("reason"):
        said.append(f"Why it was routed so: {route['reason']}.")
    if route.get("adapter"):
        trial = ", which is on trial (canary)" if route.get("canary") else ""
        said.append(f"Model asked: {route['adapter']}{trial}.")
    said += _scored(route)
    if route.get("settled"):
        said.append(f"What became of the student's answer: {route['settled']}.")
    if route.get("shadow") and lane_of(row) != "beside":
        said.append("It was drawn, by chance, to be answered by all models, as a check.")
    return [sentence.replace("..", ".") for sentence in said if sentence]


def _group(route: Mapping[str, Any], name: str | None) -> str:
    if not route.get("group_id"):
        return "It is like no known kind of request, so it belongs to no task group."
    return f"Task group: {name or route['group_id']}."


def _scored(route: Mapping[str, Any]) -> list[str]:
    """Score against threshold; both lie on a scale on which only their order means something."""
    score, threshold = route.get("score"), route.get("threshold")
    if not isinstance(score, int | float) or not isinstance(threshold, int | float):
        return []
    verdict = "enough" if score >= threshold else "not enough"
    return [
        f"Confidence in the answer: {score:.3f}; at least {threshold:.3f} is needed: {verdict}."
    ]


def logprob_lines(logprobs: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What is known of the tokens' log-probabilities, each with the probability it stands for."""
    names = {
        "min": "the least sure token",
        "p10": "nine of ten tokens are at least this sure",
        "mean": "a token on average (geometric mean)",
        "sum": "the whole answer, word for word",
    }
    lines = []
    for name, words in names.items():
        value = (logprobs or {}).get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            probability = math.exp(min(0.0, value))
            lines.append({"what": words, "logprob": float(value), "probability": probability})
    return lines
