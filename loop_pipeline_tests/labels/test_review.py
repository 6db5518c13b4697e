import numpy as np
import pandas as pd

from loop_pipeline.labels.review import (
    coin,
    draw_reviews,
    review_probability,
    reviews_needed,
    uniform_sample,
)
from loop_pipeline.labels.signals import signals


def _draw(traces, frame, **change):
    options = {"seed": 1, "base_rate": 0.1, "already": set()} | change
    return draw_reviews(traces, frame, **options)


def test_draw_is_repeatable_logged_and_as_frequent_as_it_says(desk) -> None:
    traces, feedback, flags, _ = desk
    frame = signals(traces, feedback, flags)
    drawn = _draw(traces, frame)
    again = _draw(traces.sample(frac=1, random_state=2), frame)
    assert set(drawn["prompt_id"]) == set(again["prompt_id"])
    chance = review_probability(frame, base_rate=0.1)
    assert set(np.round(drawn["p_review"], 6)) == {0.1, 0.3}
    for p in (0.1, 0.3):
        members = chance.index[np.isclose(chance, p)]
        slack = 3 * np.sqrt(p * (1 - p) / len(members))
        assert abs(members.isin(drawn["prompt_id"]).mean() - p) <= slack
    assert set(_draw(traces, frame, seed=2)["prompt_id"]) != set(drawn["prompt_id"])
    assert _draw(traces, frame, already=set(drawn["prompt_id"])).empty


def test_late_feedback_only_adds_to_the_draw(desk) -> None:
    traces, feedback, flags, _ = desk
    before = set(_draw(traces, signals(traces, feedback.iloc[:0], flags))["prompt_id"])
    after = set(_draw(traces, signals(traces, feedback, flags))["prompt_id"])
    assert before < after


def test_thinned_reviews_are_a_uniform_sample() -> None:
    p = pd.Series(
        np.where(np.arange(60_000) % 2, 0.3, 0.1), index=pd.RangeIndex(60_000).astype(str)
    )
    drawn = p[[coin(0, str(name)) < chance for name, chance in p.items()]]
    kept = drawn[uniform_sample(drawn)]
    share = (kept == 0.3).mean()
    assert abs(share - 0.5) <= 3 * np.sqrt(0.25 / len(kept))


def test_reviews_needed() -> None:
    promise = {"target_precision": 0.95, "delta": 0.05}
    assert reviews_needed(0, **promise) == 100
    assert reviews_needed(150, **promise) == 0
    some = reviews_needed(100, **promise, error_rate=0.02)
    assert some is not None
    assert 100 < some < 600
    assert reviews_needed(100, **promise, error_rate=0.06) is None
