import re
from html.parser import HTMLParser

import pandas as pd

from loop_pipeline.evaluation.gallery import MOST, to_html, to_markdown, wins_and_losses

EVIL = '<script>alert(1)</script> | `x` & "quotes"\nnew line'


def judged(agrees: list[bool], confidence: list[float]) -> pd.DataFrame:
    n = len(agrees)
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(n)],
            "task": "route",
            "messages": [
                [{"role": "system", "content": "secret"}, {"role": "user", "content": EVIL}]
            ]
            * n,
            "output": [f"answer {i} {EVIL}" for i in range(n)],
            "frontier_output": "right",
            "agrees": agrees,
            "confidence": confidence,
            "reasons": [["not in the set"]] * n,
        }
    )


def test_the_most_confident_errors_come_first() -> None:
    new = judged([False, False, True, True, False], [0.2, 0.9, 0.5, 0.6, 0.99])
    old = judged([True, True, False, True, False], [0.5, 0.5, 0.7, 0.5, 0.5])
    entries = wins_and_losses(new, old)
    assert [(e["kind"], e["prompt_id"]) for e in entries] == [
        *(("loss", "p1"), ("loss", "p0"), ("win", "p2"))
    ]
    assert entries[0]["request"] == EVIL, "the system prompt is the same for all"
    assert entries[0]["candidate_confidence"] == 0.9
    many = wins_and_losses(judged([False] * 99, [0.5] * 99), judged([True] * 99, [0.5] * 99))
    assert len(many) == MOST


def test_the_page_is_whole_and_harmless() -> None:
    entries = wins_and_losses(judged([False, True], [0.5, 0.5]), judged([True, False], [0.5, 0.5]))
    page = to_html(entries, f"student-1: {EVIL}")
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

    Tags().feed(page)
    assert "script" not in found
    assert found.count("article") == 2
    assert "url(" not in page
    assert "! not in the set" in page


def test_markdown_keeps_its_columns() -> None:
    entries = wins_and_losses(judged([False] * 9, [0.5] * 9), judged([True] * 9, [0.5] * 9))
    table = to_markdown(entries)
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 5
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert "<script>" not in table
    assert "**Wins** (0 of the 0 kept)" in table
