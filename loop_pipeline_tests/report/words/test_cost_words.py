"""What traffic costs is said with the load that it rests on, and no saving against the log."""

from __future__ import annotations

import pytest

from loop_pipeline.costs.attribution import AGAIN
from loop_pipeline.report.numbers import percent
from loop_pipeline.report.words.cost_words import cost_sentence, extras_words, load_sentence
from loop_pipeline_tests.report.examples import everything


def test_the_cost_claim_names_both_ratios_and_the_load() -> None:
    costs = everything().costs
    assert costs
    assert costs.covered_ratio
    claim = cost_sentence(costs)
    assert percent(costs.covered_ratio) in claim
    assert percent(costs.blended_ratio) in claim
    assert "7,200 requests/h (an assumption)" in load_sentence(costs)
    measured = costs.model_copy(update={"utilisation": 0.25})
    assert "25.0% of its capacity" in load_sentence(measured)


def test_only_what_is_in_the_bill_is_named() -> None:
    costs = everything().costs
    assert costs
    assert extras_words(costs) == f", {percent(costs.loaded_ratio)} with shadow calls"
    parts = costs.parts | {"training": 0.2}
    both = costs.model_copy(update={"parts": parts})
    assert extras_words(both).endswith("with shadow calls and training")
    none = costs.model_copy(update={"parts": parts | {"training": 0, "frontier, shadow calls": 0}})
    assert extras_words(none) == ""


def test_below_the_break_even_no_saving_is_claimed_and_both_loads_are_named() -> None:
    costs = everything().costs
    assert costs
    poor = costs.model_copy(update={"logged_requests_per_hour": 24.0}).at_logged_load()
    assert poor.pays is False
    assert cost_sentence(poor).startswith("No saving at the logged load")
    said = load_sentence(poor)
    assert "the log holds 24 requests/h for it (7,200 requests/h were assumed)" in said
    assert f"it pays from {costs.break_even_requests_per_hour:,.0f} requests/h on" in said


def test_a_log_that_pays_less_than_assumed_has_its_ratio_beside_the_assumed_one() -> None:
    costs = everything().costs
    assert costs
    assert costs.break_even_requests_per_hour
    load = 1.25 * costs.break_even_requests_per_hour
    real = costs.model_copy(update={"logged_requests_per_hour": load})
    assert real.pays is True
    at_log = real.at_logged_load().blended_ratio
    assert at_log == pytest.approx(1 - 0.812 * (1 - 1 / 1.25), abs=1e-9)
    said = load_sentence(real)
    assert f"the log holds {load:,.0f} requests/h, at which" in said
    assert f"the whole workload costs {percent(at_log)})" in said


def test_second_answers_are_an_item_of_the_bill_that_is_named() -> None:
    costs = everything().costs
    assert costs
    with_second = costs.model_copy(update={"parts": costs.parts | {AGAIN: 0.1}})
    assert extras_words(with_second).endswith("with shadow calls and second answers")
