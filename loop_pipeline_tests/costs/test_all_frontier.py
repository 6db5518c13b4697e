"""The estimated bill of the frontier against a bill that is known."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.costs.all_frontier import MIN_PAIRS, all_frontier, weights_of

WEIGHTS = weights_of("claude-opus-5")


def month(seed: int, requests: int, checked: int) -> tuple[float, float, float, float]:
    """Estimate, both ends of its interval, and the truth, of requests of very unequal length."""
    rng = np.random.default_rng(seed)
    tokens_in = rng.lognormal(6, 0.7, requests)
    student_out, frontier_out = rng.lognormal(4, 0.5, requests), rng.lognormal(4.3, 0.5, requests)
    weight = WEIGHTS.tokens_in * tokens_in + WEIGHTS.tokens_out * student_out
    # Another tokenizer counts a tenth more on the way in; some of it comes from a cache.
    usd = (
        WEIGHTS.tokens_in * tokens_in * 1.1 * rng.uniform(0.6, 1, requests)
        + WEIGHTS.tokens_out * frontier_out
    )
    found = all_frontier(
        billed_usd=float(usd[:checked].sum()),
        pairs=list(zip(weight[:checked], usd[:checked], strict=True)),
        rest=float(weight[checked:].sum()),
        rest_requests=requests - checked,
        weights=WEIGHTS,
    )
    assert found.usd is not None
    assert found.low is not None
    assert found.high is not None
    return found.usd, found.low, found.high, float(usd.sum())


@pytest.mark.parametrize("checked", [MIN_PAIRS, 100])
def test_nine_of_ten_intervals_and_more_hold_the_true_bill(checked):
    found = np.array([month(seed, 2_000, checked) for seed in range(400)])
    estimate, low, high, truth = found.T
    assert ((low <= truth) & (truth <= high)).mean() >= 0.92
    assert np.mean(estimate / truth) == pytest.approx(1, abs=0.01)


def test_where_the_frontier_answered_all_the_bill_is_known_exactly():
    found = all_frontier(billed_usd=3.0, pairs=[], rest=0.0, rest_requests=0, weights=WEIGHTS)
    assert (found.usd, found.low, found.high) == (3.0, 3.0, 3.0)


def test_too_few_answers_of_both_give_the_list_price_and_no_interval():
    rest = WEIGHTS.of(1_000_000, 100_000)
    found = all_frontier(
        billed_usd=1.0, pairs=[(1.0, 1.0)], rest=rest, rest_requests=9, weights=WEIGHTS
    )
    assert found.usd == pytest.approx(1.0 + 5.0 + 2.5)
    assert (found.low, found.high) == (None, None)
    assert "1 of the 20" in found.why


def test_without_a_price_only_the_ratio_can_tell():
    unknown = weights_of("a model of our own")
    few = all_frontier(billed_usd=1, pairs=[], rest=9.0, rest_requests=9, weights=unknown)
    assert few.usd is None
    assert "unpriced: name its price in LOOP_PRICES_FILE" in few.why
    pairs = [(unknown.of(100, 10), 0.003)] * MIN_PAIRS
    rest = unknown.of(100_000, 10_000)
    found = all_frontier(billed_usd=0, pairs=pairs, rest=rest, rest_requests=1000, weights=unknown)
    assert found.usd == pytest.approx(3.0)
