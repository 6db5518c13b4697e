"""What a reader of the report should know first, and do next, in sentences.

Not here: what the figures are (``numbers.py``).
"""

from __future__ import annotations

from typing import Any

from loop_pipeline.report.numbers import LoopNumbers
from loop_pipeline.store.policies import why_refused


def next_step(numbers: LoopNumbers) -> str:
    """The one step that brings this loop on, by what is not there yet."""
    if numbers.simulated:
        return "bring your own traffic: docs/tutorial.md, part 2, begins with `loop import`."
    if not numbers.traces:
        return "`loop import FILE` brings your logs in; then run `describe_traces` for all days."
    if not numbers.pairs.get("sft"):
        return (
            "`loop review` says which answers wait for a person, and how many reviews a promise"
            " takes; then run `refresh_quality`, and `score_traces` for all days."
        )
    if numbers.agreement is None:
        return _train(numbers)
    if numbers.coverage is None:
        return "materialize `routing_policy`: without a policy everything goes to the frontier."
    if not numbers.coverage.certified:
        return (
            "`loop doctor` says what each group lacks for a certificate: mostly rows. Import more"
            " traffic, or review more, and run `retrain`."
        )
    if numbers.costs and numbers.costs.pays is False:
        return (
            "nothing, unless your real load is higher than the logged one: at this load the"
            " frontier is cheaper. Set LOOP_REQUESTS_PER_HOUR to what you have."
        )
    return (
        "let the policy route your requests (docs/concepts/routing.md); `loop doctor` says what the"
        " groups at the frontier still lack."
    )


def _train(numbers: LoopNumbers) -> str:
    if any(warning.startswith("The student was refused") for warning in numbers.warnings):
        return (
            "import more traffic or review more, then run `retrain` again; the frontier answers"
            " meanwhile."
        )
    return "run `make_base`, start `loop serve` and leave it running, then run `retrain`."


def warnings_of(newest: dict[str, Any] | None, *, served: bool) -> list[str]:
    """What is to be known first of the newest training: that it was cut short, or refused."""
    if newest is None:
        return []
    found = []
    if newest["status"] == "rejected" and not served:
        found.append(
            "The student was refused, so nothing of it serves: the frontier answers every request"
            " and nothing is saved yet. The next training needs more labelled requests, or more"
            f" time. Why: {why_refused(newest)}"
        )
    if said := newest["metrics"].get("training_cut_short"):
        found.append(said)
    return found
