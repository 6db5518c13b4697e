"""What traffic costs, from which load on a student pays, and what must not be claimed, in words.

Not here: the figures (``costs/attribution.py``), and where they come from (``report/bill.py``).
"""

from __future__ import annotations

from loop_pipeline.costs.attribution import AGAIN, REVIEW, SHADOW, TRAINING, CostNumbers
from loop_pipeline.report.numbers import percent


def cost_sentence(costs: CostNumbers) -> str:
    """The cost claim: no ratio without the whole workload's, no saving that the log contradicts."""
    whole = f"the whole workload costs {percent(costs.blended_ratio)} of the frontier's bill"
    if costs.pays is False:
        return (
            f"No saving at the logged load: {whole}, for the student's server is rented around the"
            " clock. If the log is a sample, compare the real load with the one that pays."
        )
    covered = (
        f"The covered {percent(costs.coverage)} of the requests cost {percent(costs.covered_ratio)}"
        " of what the frontier would have billed for them"
        if costs.covered_ratio is not None
        else "No request is covered"
    )
    return f"{covered}; {whole}{extras_words(costs)}."


def extras_words(costs: CostNumbers) -> str:
    """The ratio with what is paid besides, naming just what is in it; empty if nothing is."""
    named = {
        SHADOW: "shadow calls",
        AGAIN: "second answers",
        TRAINING: "training",
        REVIEW: "review",
    }
    there = [words for item, words in named.items() if costs.parts.get(item)]
    if not there:
        return ""
    named_ones = " and ".join(filter(None, [", ".join(there[:-1]), there[-1]]))
    return f", {percent(costs.loaded_ratio)} with {named_ones}"


def load_sentence(costs: CostNumbers) -> str:
    """What the ratios rest on: the rent, the load, and from which load on it pays."""
    even, logged = costs.break_even_requests_per_hour, costs.logged_requests_per_hour
    rent = f"{costs.server_hourly_usd:.2f} USD/h x {costs.loaded_factor:g}"
    if costs.pays is False:
        assumed = per_hour(costs.assumed_requests_per_hour)
        load = f"the log holds {per_hour(logged)} for it ({assumed} were assumed)"
    else:
        use = "an assumption"
        if costs.utilisation is not None:
            use = f"{percent(costs.utilisation)} of its capacity"
        log = "" if logged is None else f"; the log holds {per_hour(logged)}{_at_log(costs)}"
        load = f"{per_hour(costs.requests_per_hour)} ({use}{log})"
    return f"The student's server: {rent}, {load}; it pays {pays_from(even)}"


def pays_from(even: float | None) -> str:
    """From which load on a student pays."""
    return "never without coverage" if even is None else f"from {per_hour(even)} on"


def _at_log(costs: CostNumbers) -> str:
    """What the workload costs at the logged load, where the ratios assume a higher one."""
    if not costs.logged_requests_per_hour:
        return ""
    if costs.logged_requests_per_hour >= costs.requests_per_hour:
        return ""
    return f", at which the whole workload costs {percent(costs.at_logged_load().blended_ratio)}"


def per_hour(load: float | None) -> str:
    """A load for people."""
    if load is None:
        return "–"
    return f"{load:,.0f} requests/h" if load >= 10 else f"{load:.2g} requests/h"
