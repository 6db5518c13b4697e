"""The doctor's page and text: the same figures, self-contained, and readable."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from loop_pipeline.doctor.diagnosis import Diagnosis
from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.html_report import page
from loop_pipeline.doctor.terminal_report import text
from loop_pipeline_tests.doctor.test_examine import BIG, N, made, routed


@pytest.fixture(scope="module")
def report() -> Diagnosis:
    return diagnose(made(), resamples=50)


def test_the_verdict_comes_first_and_every_control_is_there(report):
    for shown in (text(report), page(report)):
        assert shown.index("It earns its keep") < shown.index("random, same share")
        for line in report.routers:
            assert line.name in shown
        for group in report.groups:
            assert group.name in shown


def test_the_page_is_one_file_that_asks_nobody(report):
    html = page(report)
    assert not re.search(r"(?:src|href)\s*=|<script|url\(|@import", html)
    assert html.count("<svg class") == 3

    class Balanced(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "line", "circle", "polyline", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            if tag not in ("line", "circle", "polyline"):
                assert self.open_tags.pop() == tag

    parser = Balanced()
    parser.feed(html)
    assert parser.open_tags == []


def test_names_are_escaped(report):
    bad = "<script>alert(1)</script>"
    groups = [group.model_copy(update={"name": bad}) for group in report.groups]
    html = page(report.model_copy(update={"source": bad, "reference": bad, "groups": groups}))
    assert "<script>" not in html


def test_without_a_promise_and_without_a_gap_it_still_shows(report):
    still = np.full(N, BIG)
    nothing = replace(made(), weak=BIG, chosen=still, certified=[])
    for outcomes in (
        nothing,
        routed(made(), np.zeros(N, bool), certified=[]),
        routed(made(quality=np.ones((N, 2))), np.ones(N, bool)),
        replace(made(), cost=np.zeros((N, 2)), paid=np.zeros(N)),
        made(n=2),
        made(n=1),
    ):
        found = diagnose(outcomes, resamples=20)
        assert "nan" not in text(found).lower().split()
        assert "NaN" not in page(found)
        assert found.to_json()
    assert "Not here" in page(diagnose(nothing, resamples=20))
