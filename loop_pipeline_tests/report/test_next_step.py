from __future__ import annotations

import pytest

from loop_pipeline.report.next_step import next_step
from loop_pipeline.report.numbers import LoopNumbers
from loop_pipeline.report.summary import summary
from loop_pipeline_tests.report.examples import everything, nothing


def own(**fields: object) -> LoopNumbers:
    return everything().model_copy(update={"simulated": False, "warnings": [], **fields})


REFUSED = "The student was refused, so nothing of it serves: the frontier answers every request."


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (everything(), "bring your own traffic"),
        (nothing(), "`loop import FILE`"),
        (own(pairs={}), "`loop review`"),
        (own(agreement=None), "`make_base`"),
        (own(agreement=None, warnings=[REFUSED]), "`retrain` again"),
        (own(coverage=None), "materialize `routing_policy`"),
        (own(), "let the policy route"),
    ],
)
def test_each_state_of_the_loop_names_its_next_step(numbers: LoopNumbers, words: str) -> None:
    assert words in next_step(numbers)
    assert "Next: " in summary(numbers)


def test_without_a_certificate_the_doctor_is_next() -> None:
    coverage = own().coverage
    assert coverage is not None
    none = own(coverage=coverage.model_copy(update={"certified": 0.0}))
    assert next_step(none).startswith("`loop doctor` says what each group lacks")


def test_below_the_break_even_no_step_is_sold() -> None:
    costs = own().costs
    assert costs is not None
    poor = costs.model_copy(update={"logged_requests_per_hour": 24.0}).at_logged_load()
    assert next_step(own(costs=poor)).startswith("nothing, unless your real load is higher")
