"""Readable names: what the requests of a group say that those of other groups do not.

Not here: names that people give (``groups/lineage.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import regex
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from loop_pipeline.answers.words import SPACELESS

TERMS = 8
IN_NAME = 3
EXEMPLARS = 3
# Where words are not spaced: of Chinese characters every two are a term (most words of Chinese have
# two) unless so few stand together that they are a word; Katakana is a word as it stands; of Thai
# and the like every four.
HAN_WORD, HAN_TERM, THAI_TERM = 4, 2, 4
_WORD = regex.compile(rf"(?:(?![{SPACELESS}])[\p{{L}}\p{{M}}])+|[\p{{Katakana}}\u30FC]{{2,}}")
_HAN = regex.compile(r"\p{Han}{2,}")
_THAI = regex.compile(r"(?:[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*)+")
_LETTER = regex.compile(r"\p{L}\p{M}*")
_LATIN = regex.compile(r"\p{Latin}{1,2}")


def terms(text: str) -> Iterator[str]:
    """What may name a group: words of two letters, of Latin ones three, and parts of stretches."""
    for word in _WORD.findall(text):
        if len(word) > 1 and not _LATIN.fullmatch(word):
            yield word
    if text.isascii():
        return
    for stretch in _HAN.findall(text):
        yield from [stretch] if len(stretch) <= HAN_WORD else _runs(stretch, HAN_TERM)
    for stretch in _THAI.findall(text):
        yield from _runs(_LETTER.findall(stretch), THAI_TERM)


def _runs(letters: Sequence[str], size: int) -> Iterator[str]:
    return ("".join(letters[at : at + size]) for at in range(len(letters) - size + 1))


def class_terms(texts: pd.Series, groups: pd.Series) -> dict[str, list[str]]:
    """Top terms of each group by class-based TF-IDF (after Grootendorst 2022).

    A word's rate in the group times the log of how much higher that is than its rate over all
    groups: with few groups, the usual inverse frequency would let greetings win.

    Args:
        texts: requests.
        groups: group id of each request, same index.
    """
    counts: dict[str, Counter[str]] = {
        str(group): Counter(
            w for text in own for w in set(terms(str(text).lower())) - ENGLISH_STOP_WORDS
        )
        for group, own in texts.groupby(groups)
    }
    total = Counter[str]()
    for own in counts.values():
        total.update(own)
    words = sum(total.values())

    def ranked(own: Counter[str]) -> list[str]:
        size = sum(own.values())
        weight = {w: n * math.log((n / size) / (total[w] / words)) for w, n in own.items()}
        if len(counts) == 1:
            weight = dict(own)
        return sorted(weight, key=lambda w: (-weight[w], w))[:TERMS]

    return {group: ranked(own) for group, own in counts.items()}


def describe(
    frame: pd.DataFrame, groups: Sequence[str | None], distances: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Task, terms, exemplars and name of each group.

    Args:
        frame: columns prompt_id, text, task.
        groups: group of each row, None when unassigned.
        distances: of each row to its centroid.

    Returns:
        By group id: ``task`` (the most frequent), ``terms``, ``exemplars`` (prompt ids nearest to
        the centroid, so that erasing a trace erases its text here too) and ``name``.
    """
    rows = frame.copy()
    rows["group"], rows["distance"] = list(groups), list(distances)
    rows = rows.dropna(subset=["group"])
    terms = class_terms(rows["text"], rows["group"])
    found: dict[str, dict[str, Any]] = {}
    alone = rows.groupby("task")["group"].nunique() == 1
    for group, own in rows.groupby("group"):
        tasks = own["task"].dropna().value_counts().sort_index().sort_values(kind="stable")
        task = str(tasks.index[-1]) if len(tasks) else None
        nearest = own.sort_values(["distance", "prompt_id"]).drop_duplicates("text")
        words = " ".join(terms[str(group)][:IN_NAME])
        found[str(group)] = {
            "task": task,
            "terms": terms[str(group)],
            "exemplars": nearest["prompt_id"].head(EXEMPLARS).tolist(),
            "name": task if task and alone[task] else f"{task}: {words}" if task else words,
        }
    return found
