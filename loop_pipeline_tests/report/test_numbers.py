import pandas as pd
import pytest

from loop_pipeline.report.numbers import cluster_points, lessons, percent
from loop_pipeline_tests.report.examples import everything


def test_a_group_without_prices_has_no_cost_ratio() -> None:
    priced = everything().groups[0]
    assert priced.cost_ratio == pytest.approx(0.25)
    assert priced.model_copy(update={"frontier_usd": None}).cost_ratio is None
    assert priced.model_copy(update={"routed_usd": None}).cost_ratio is None


def test_cluster_points_are_an_even_sample_that_keeps_the_unassigned() -> None:
    members = pd.DataFrame(
        {
            "prompt_id": [f"{i:04}" for i in range(1000)],
            "group_id": ["a", "unassigned"] * 500,
            "x": 0.123456,
            "y": range(1000),
        }
    )
    groups = pd.DataFrame({"group_id": ["a", "b"], "name": ["refunds", "other"]})
    everyone = cluster_points(members, groups)
    assert len(everyone) == 1000
    assert everyone[0] == (0.1235, 0.0, "refunds")
    sample = cluster_points(members, groups, limit=300)
    assert 200 <= len(sample) <= 300
    assert {name for *_, name in everyone} == {"refunds", "unassigned"}


def test_percentages_for_people() -> None:
    shares = [percent(share) for share in (0.8123, 0.0034, 0.0, None)]
    assert shares == ["81.2%", "0.34%", "0.0%", "–"]


def test_lessons_are_said_in_words_and_once() -> None:
    said = lessons({"sft": 11_621, "kto_pos": 11_621, "dpo": 210, "kto_neg": 480})
    assert said == "11,621 answers to learn from, 210 edits, 480 refusals"
    assert lessons({}).startswith("nothing to learn from yet")
