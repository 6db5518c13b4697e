"""How far an answer strays from the words of its source, as numbers.

Not here: the score made of them (``wording_score.py``).

Wording, not meaning: where answers stay close to their source this is strong, on free paraphrase
it is near chance. Novelty and copying are those of extractive fragments (Grusky et al. 2018,
arXiv 1804.11283); the rest looks for what one changed word leaves behind: an opposite, a name, a
negation, a new word between two copied ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.answers.facts import joined, unsupported_facts, without_list_marks
from loop_pipeline.answers.words import word_spans
from loop_pipeline.labels.hallucination.wording_text import (
    FAR,
    NAME,
    NEGATIONS,
    OPPOSITES,
    PREFIXES,
    SENTENCE,
    SPEAKER,
    STOP_WORDS,
    Source,
    grams,
    source_of,
    stem,
    stems,
)

FEATURES = (
    "novel_words",  # share of the words that the source does not hold
    "novel_content",  # of those that are no stop words
    "novel_glue",  # of the stop words
    "worst_sentence",  # share of novel words in the sentence that has most of them
    "novel_characters",  # share of runs of five characters
    "not_copied",  # share of the words outside of the longest copied run
    "scattered",  # distance in the source between neighbouring content words, in FAR
    "facts",  # whether a number, id or address is unsupported
    "names",  # share of names
    "names_count",  # how many names, 3 and more alike
    "opposite",  # whether a novel word is the opposite of one the source holds
    "denied",  # whether a sentence has a negation and its closest sentence has none
    "denied_near",  # whether a negation stands by words that no negation is near to
    "replaced",  # novel content words between two that stand together in the source, up to 3
    "speaker",  # whether it says I or we and the source does not
    "question",  # whether it asks something
)
QUESTION = "?"
QUESTION_MARKS = "?？؟"


def features(output: str, source: str, usual: frozenset[str] = frozenset()) -> list[float]:
    """One number per name in ``FEATURES``, from 0 to 1, each higher the further the answer strays.

    Args:
        output: the answer.
        source: everything it may rest on.
        usual: stems that belong to the form of such answers ("customer asks"), not to their claims.
    """
    held, output = source_of(source), without_list_marks(output)
    # A word of the form that the source holds as well is no news either way: it counts as held.
    usual = usual - held.known
    parts = [[w for w in stems(part) if w not in usual] for part in SENTENCE.split(output)]
    sentences = [part for part in parts if part]
    words = [word for part in sentences for word in part]
    content = [word for word in words if word not in STOP_WORDS]
    names = [word for match in NAME.findall(output) for word in stems(match) if word not in usual]
    return [
        _novel(words, held.known),
        _novel(content, held.known),
        _novel([word for word in words if word in STOP_WORDS], held.known),
        max((_novel(part, held.known) for part in sentences), default=0.0),
        _novel([gram for run in _runs(output, usual) for gram in grams(run)], held.grams),
        1 - held.longest_run(words) / len(words) if words else 0.0,
        _scattered(content, held),
        float(bool(unsupported_facts(output, source))),
        _novel(names, held.known),
        min(3, sum(name not in held.known for name in names)) / 3,
        float(any(_is_opposite(word, held.known) for word in {*words} - held.known)),
        float(any(_denied(part, held) for part in sentences)),
        float(any(_denied_near(part, held) for part in sentences)),
        min(3, sum(_replaced(part, held) for part in sentences)) / 3,
        float(bool(SPEAKER.intersection(words) - held.known)),
        float(asks(output) and QUESTION not in usual and not asks(source)),
    ]


def design_of(texts: Iterable[tuple[str, str, frozenset[str]]]) -> NDArray[np.float64]:
    """Features of (output, source, usual) rows, shape (n, len(FEATURES))."""
    found = [features(*text) for text in texts]
    return np.array(found, dtype=float).reshape(-1, len(FEATURES))


def novel_words(output: str, source: str, usual: frozenset[str]) -> list[tuple[int, int]]:
    """Where an answer has words that its source does not hold; neighbours are one range.

    Returns:
        (start, end) in characters of ``output``, in order.
    """
    known = source_of(source).known | usual | STOP_WORDS
    words = word_spans(without_list_marks(output))
    new = ((start, end) for start, end, word in words if stem(word) not in known)
    return joined(output, new)


def asks(text: str) -> bool:
    """Whether a text asks something."""
    return any(mark in text for mark in QUESTION_MARKS)


def _runs(output: str, usual: frozenset[str]) -> list[str]:
    """The answer without the words of its form: what stands between them."""
    if not usual:
        return [output]
    runs = [""]
    for _, _, word in word_spans(output):
        if stem(word) in usual:
            runs.append("")
        else:
            runs[-1] += f" {word}"
    return runs


def _novel(items: Sequence[object], known: Set[object]) -> float:
    return sum(item not in known for item in items) / len(items) if items else 0.0


def _scattered(content: Sequence[str], held: Source) -> float:
    pairs = [*pairwise([word for word in content if word in held.known])]
    if not pairs:
        return _novel(content, held.known)
    return sum(held.distance(*pair) for pair in pairs) / len(pairs) / FAR


def _is_opposite(word: str, known: Set[str]) -> bool:
    if not known.isdisjoint(OPPOSITES.get(word, ())):
        return True
    return any(
        (word.startswith(prefix) and len(word) > len(prefix) + 3 and word[len(prefix) :] in known)
        or (len(word) > 3 and prefix + word in known)
        for prefix in PREFIXES
    )


def _denied(part: Sequence[str], held: Source) -> bool:
    if NEGATIONS.isdisjoint(part):
        return False
    closest = held.closest(frozenset(part) - STOP_WORDS)
    return NEGATIONS.isdisjoint(closest)


def _denied_near(part: Sequence[str], held: Source) -> bool:
    for place, word in enumerate(part):
        if word not in NEGATIONS:
            continue
        around = part[max(0, place - 3) : place + 4]
        near = [w for w in around if w not in STOP_WORDS and w in held.known]
        if near and not held.denies_near(near):
            return True
    return False


def _replaced(part: Sequence[str], held: Source) -> int:
    return sum(
        word not in held.known
        and word not in STOP_WORDS
        and any(
            a in held.known and b in held.known and 1 <= held.distance(a, b) <= 4
            for a in part[max(0, place - 2) : place]
            for b in part[place + 1 : place + 3]
        )
        for place, word in enumerate(part)
    )
