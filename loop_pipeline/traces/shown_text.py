"""Texts of traffic in tables that a web page renders: shown as they are, and never live.

Not here: HTML (``report``), sheets (``labels/reviews/spreadsheets.py``).

What users and models write goes into Markdown, which a page turns into pictures that are fetched,
links and columns. Marks are escaped; addresses get a space of no width, since pages make links of
bare ones after they have taken escapes away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

MARKS = re.compile(r"([\\`*_{}\[\]()#!|~$^])")
ADDRESS = re.compile(r"(?<=[a-z0-9])(:)(?=//)|(?<=\bwww)(\.)|(?<=\S)(@)(?=\S)", re.IGNORECASE)
NO_WIDTH = "\u200b"


def shown(text: str) -> str:
    """The text for a Markdown cell: one line, no mark, no tag, no address that is live."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = ADDRESS.sub(lambda match: NO_WIDTH + match[0] + NO_WIDTH, line)
    return MARKS.sub(r"\\\1", line)


def text_list(sentences: Iterable[str]) -> str:
    """Sentences as a Markdown list; a task or a reviewer in them may have any name."""
    return "\n".join(f"- {shown(sentence)}" for sentence in sentences)


def text_block(text: str) -> str:
    """Text as a Markdown block of code, which ends where the text does."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def text_table(frame: pd.DataFrame | pd.Series, **style: Any) -> str:
    """A frame as a Markdown table in which every text, names included, is only shown.

    Args:
        frame: of texts and figures; what is neither is shown as it prints.
        style: as ``to_markdown`` takes it.
    """
    shown_frame = frame.to_frame() if isinstance(frame, pd.Series) else frame.copy()
    for place, name in enumerate(shown_frame.columns):
        column = shown_frame.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column):
            shown_frame = shown_frame.assign(**{str(name): column.astype(object).map(_cell)})
    shown_frame.index = pd.Index([_cell(name) for name in shown_frame.index], dtype=object)
    return shown_frame.to_markdown(**style)


def _cell(value: Any) -> Any:
    """Figures stay figures, so that columns are aligned and rounded."""
    if isinstance(value, str | list | tuple | dict):
        return shown(str(value))
    return value
