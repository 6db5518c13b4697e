import re

import pytest

from loop_pipeline.report.numbers import LEXICAL, LoopNumbers
from loop_pipeline.report.page import page
from loop_pipeline.report.summary import summary
from loop_pipeline_tests.report.examples import everything, nothing


@pytest.mark.parametrize("numbers", [nothing(), everything(), everything(groups=1)])
def test_fits_one_screen(numbers: LoopNumbers) -> None:
    lines = summary(numbers).split("\n")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_the_covered_ratio_never_stands_without_the_blended_one() -> None:
    numbers = everything()
    line = next(li for li in summary(numbers).split("\n") if "covered requests" in li)
    assert numbers.costs
    assert numbers.costs.covered_ratio
    assert f"{numbers.costs.covered_ratio:.1%}" in line
    assert f"(blended) {numbers.costs.blended_ratio:.1%}" in line
    assert "7,200 requests/h" in summary(numbers)


def test_every_simulated_block_says_so() -> None:
    text = summary(everything())
    headings = [li for li in text.split("\n")[2:] if re.match(r"(?!Note: |Next: )[A-Z]", li)]
    assert len(headings) == 5
    assert all(heading.endswith("(simulated)") for heading in headings)
    assert "simulated" not in summary(everything().model_copy(update={"simulated": False}))


def test_texts_are_called_lexical_agreement() -> None:
    numbers = everything()
    assert LEXICAL in summary(numbers)
    tasks = [task for task in numbers.agreement_by_task if not task.lexical]
    groups = [group.model_copy(update={"lexical": False}) for group in numbers.groups]
    labels = numbers.model_copy(update={"agreement_by_task": tasks, "groups": groups})
    assert "lexical" not in summary(labels)


def test_a_warning_comes_first_and_is_not_cut() -> None:
    said = "The training was cut short by max_minutes: " + "a reason, " * 30 + "train again."
    numbers = everything().model_copy(update={"warnings": [said]})
    lines = summary(numbers).split("\n")
    assert lines[2].startswith("Warning: The training was cut short")
    assert said in " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= 100


def test_what_is_missing_says_why() -> None:
    numbers = LoopNumbers(
        title="Half",
        simulated=False,
        missing={"coverage": "41 calibration rows, 59 needed", "costs": "no coverage"},
    )
    assert "no certificate: 41 calibration rows, 59 needed" in summary(numbers)
    assert "no cost figures: no coverage" in summary(numbers)


def test_below_the_break_even_the_screen_and_the_page_claim_no_saving() -> None:
    numbers = everything()
    assert numbers.costs
    poor = numbers.costs.model_copy(update={"logged_requests_per_hour": 24.0}).at_logged_load()
    groups = [group.model_copy(update={"routed_usd": None}) for group in numbers.groups]
    numbers = numbers.model_copy(update={"groups": groups})
    assert numbers.costs is not None
    text = summary(numbers.model_copy(update={"costs": poor}))
    assert "no saving at the logged load" in text
    assert "24 requests/h" in text
    assert f"{numbers.costs.blended_ratio:.1%}" not in text
    html = page(numbers.model_copy(update={"costs": poor}))
    assert "No saving at the logged load" in html
    assert f"{numbers.costs.blended_ratio:.1%}" not in html
