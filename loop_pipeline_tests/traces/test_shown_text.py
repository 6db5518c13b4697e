"""What users and models wrote is only shown, whatever a page makes of Markdown."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from loop_pipeline.traces.shown_text import shown, text_block, text_list, text_table

LIVE = re.compile(r"(?<!\\)[\[\]|`*]|<|://|www\.|\w@\w")


@pytest.mark.parametrize(
    "text",
    [
        "![p](http://a.example/p.png)",
        "[click](https://a.example)",
        "<img src=x onerror=alert(1)>",
        "see https://a.example/x or www.a.example or mail me@a.example",
        "a | b |\n|---|\n| c",
        "`code` **bold** __under__ ~~gone~~ $x$",
        r"\![p](http://a.example)",
        "[ref]: http://a.example",
    ],
)
def test_no_picture_link_tag_or_column_is_live(text: str) -> None:
    assert not LIVE.search(shown(text)), shown(text)
    assert "\n" not in shown(text)
    made = text_table(pd.DataFrame({"model": [text], "n": [1]}), index=False)
    body = made.splitlines()[2]
    assert len(re.findall(r"(?<!\\)\|", body)) == 3
    counted = text_table(pd.Series([text]).value_counts())
    assert len(re.findall(r"(?<!\\)\|", counted.splitlines()[2])) == 3


def test_figures_and_plain_words_stay_as_they_are() -> None:
    frame = pd.DataFrame({"name": ["delivery, 3.5 kg - soon"], "share": [0.25], "n": [7]})
    assert text_table(frame, index=False) == frame.to_markdown(index=False)


def test_sentences_and_blocks_are_only_shown():
    """Names of tasks and reviewers come from traffic."""
    listed = text_list(["task ![x](http://evil.example/a.png) waits", "two\n# lines"])
    assert listed.count("\n") == 1
    assert "![" not in listed
    assert "http://" not in listed
    block = text_block("group ```\n![x](http://evil.example/)\n````")
    assert block.startswith("`````\n")
    assert block.endswith("\n`````")
    assert text_block("plain") == "```\nplain\n```"
