import math
import re
from html.parser import HTMLParser

import pytest

from loop_pipeline.report.numbers import LEXICAL, LoopNumbers
from loop_pipeline.report.page import page
from loop_pipeline_tests.report.examples import PARTS, everything, nothing

VOID = {"meta", "br", "line", "circle", "polyline"}


class Nesting(HTMLParser):
    """Fails on a tag that is closed out of order; collects the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID or (tag == "circle" and ("class", "dot") in attrs):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("numbers", [nothing(), everything(), everything(groups=1)])
def test_is_well_formed_and_asks_nobody_for_anything(numbers: LoopNumbers) -> None:
    html = page(numbers)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    parsed = Nesting()
    parsed.feed(html)
    assert not parsed.open
    assert not {name for name, _ in parsed.attributes} & {"src", "href", "onload", "onerror"}
    assert not re.search(r"\bnan\b|\binf\b|None", html)


def test_user_text_is_escaped_everywhere() -> None:
    html = page(everything())
    assert "<script" not in html
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; $x_" in html


def test_headline_shows_covered_and_blended_cost_side_by_side() -> None:
    numbers = everything()
    assert numbers.costs
    assert numbers.costs.covered_ratio
    strip = page(numbers).split('class="tiles"')[1].split("Cost and coverage by group")[0]
    for value in (
        0.94,
        0.812,
        numbers.costs.covered_ratio,
        numbers.costs.blended_ratio,
    ):
        assert f"<strong>{value:.1%}</strong>" in strip


def test_simulated_is_said_in_the_banner_and_at_every_figure() -> None:
    html = page(everything())
    assert "<b>Simulated traffic.</b>" in html
    plain = {"Notes", "Where each number comes from"}
    headings = set(re.findall(r"<h2>(.*?)</h2>", html)) - plain
    assert len(headings) == 8
    assert all("(simulated" in heading for heading in headings)
    assert "imulated" not in page(everything().model_copy(update={"simulated": False}))


def test_texts_are_called_lexical_agreement() -> None:
    assert LEXICAL.replace(">", "&gt;") in page(everything())


def test_every_missing_part_says_why() -> None:
    missing = {part: f"no {part} <yet>" for part in PARTS}
    html = page(LoopNumbers.model_validate({"title": "", "simulated": False, "missing": missing}))
    for part in PARTS:
        assert f"no {part} &lt;yet&gt;" in html
    assert "<svg" not in html


def test_a_loss_that_blew_up_does_not_take_the_report_along() -> None:
    numbers = LoopNumbers(title="t", simulated=False, loss=[(1, 2.0), (2, math.nan)])
    assert "2.000 at last" in page(numbers)
    assert "nothing recorded" in page(numbers.model_copy(update={"loss": [(1, math.nan)]}))


def test_survives_a_round_trip_through_json_and_stays_small() -> None:
    numbers = everything()
    again = LoopNumbers.model_validate_json(numbers.model_dump_json())
    assert page(again) == page(numbers)
    assert len(page(numbers)) < 400_000
