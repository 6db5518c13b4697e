"""Wording that the requests of one template share: it tells the template, not what is asked.

Not here: vectors (``embedder.py``).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

from pydantic import BaseModel

# distinct texts, and share of them, that make a wording a template's
LEAST = 20
SHARE = 0.02
WORDS = 4
# at each word nearly all texts of a template go on in a few ways
WAYS = 8
COVERED = 0.9
OWN = 3  # words of a template that are kept: they tell it from others and weigh little
LOOK = 400  # words from either end
_WORD = re.compile(r"\S+\s*")
_LETTER = re.compile(r"\w")


class Boilerplate(BaseModel):
    """Learned beginnings, ends and lines. Immutable, so threads may share it."""

    starts: list[tuple[str, str]] = []
    """Beginning, and the words of it that not every template's beginning has: they stay."""
    ends: list[tuple[str, str]] = []
    lines: list[str] = []

    @property
    def empty(self) -> bool:
        """Whether there is nothing to strip."""
        return not (self.starts or self.ends or self.lines)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.lines)

    def without(self, text: str) -> str:
        """What a request says besides its template; the whole of it if that is nothing."""
        rest, kept = text, ""
        for start, own in self.starts:
            if rest.startswith(start):
                rest, kept = rest[len(start) :], own
                break
        for end, own in self.ends:
            if rest.endswith(end):
                rest, kept = rest[: -len(end)], f"{kept} {own}"
                break
        if self.lines and "\n" in rest:
            lines = rest.split("\n")
            rest = "\n".join(line for line in lines if line.strip() not in self._known)
        if not _LETTER.search(rest):
            return text
        return f"{kept.strip()} {rest.lstrip()}" if kept.strip() else rest


def learn(texts: Sequence[str]) -> Boilerplate:
    """Find what the texts of a template share, without being told the templates.

    A beginning is a template's if at each of its words nearly all texts that came so far go on in
    one of a few ways, and after it they scatter; people's own openings ("can you tell me") scatter
    at once. Ends likewise, read backwards. A line is a template's if 2% of the texts have it.

    Args:
        texts: of the train split.
    """
    distinct = sorted({t for t in texts if t.strip()})
    least = max(LEAST, int(SHARE * len(distinct)))
    if len(distinct) < LEAST:
        return Boilerplate()
    split = [_WORD.findall(t) for t in distinct]
    starts = ["".join(p).rstrip() for p in _shared([w[:LOOK] for w in split], least)]
    # Reversed, a word has its space before it.
    tails = [re.findall(r"\s*\S+", t)[-LOOK:][::-1] for t in distinct]
    ends = ["".join(reversed(p)).lstrip() for p in _shared(tails, least)]
    pairs = Boilerplate(starts=_with_own(starts), ends=_with_own(ends))
    plain = {"starts": [(s, "") for s, _ in pairs.starts], "ends": [(e, "") for e, _ in pairs.ends]}
    bare = Boilerplate.model_validate(plain)
    seen: Counter[str] = Counter()
    for text in (bare.without(t) for t in distinct if "\n" in t):
        seen.update({line.strip() for line in text.split("\n")[:LOOK]})
    lines = sorted(x for x, n in seen.items() if n >= least and len(x.split()) >= WORDS)
    return Boilerplate(starts=pairs.starts, ends=pairs.ends, lines=lines)


def _shared(words: Sequence[Sequence[str]], least: int) -> Iterator[tuple[str, ...]]:
    """Sequences that many texts begin with, as far as nearly all of them go on the same ways."""
    waiting: list[tuple[tuple[str, ...], list[int]]] = [((), list(range(len(words))))]
    while waiting:
        prefix, rows = waiting.pop()
        depth = len(prefix)
        ways: defaultdict[str, list[int]] = defaultdict(list)
        for row in rows:
            if depth < len(words[row]):
                ways[words[row][depth]].append(row)
        large = {word: own for word, own in ways.items() if len(own) >= least}
        covered = sum(map(len, large.values())) / len(rows)
        few = 0 < len(large) <= WAYS and covered >= COVERED
        goes_on = few or depth == 0
        if goes_on:
            waiting += [((*prefix, word), own) for word, own in sorted(large.items())]
        # Also where it branches: a text that goes another way still has this much of the template.
        if depth >= WORDS and not (goes_on and len(large) == 1 and covered == 1):
            yield prefix


def _with_own(found: Sequence[str]) -> list[tuple[str, str]]:
    """Each wording, longest first, with the first of its words that not all of them have."""
    spread_over = set(found)
    spread = Counter(w for text in spread_over for w in {*re.findall(r"\w+", text.lower())})
    pairs = []
    for text in sorted(spread_over, key=lambda t: (-len(t), t)):
        own = [w for w in re.findall(r"\w+", text) if spread[w.lower()] < len(spread_over)]
        pairs.append((text, " ".join(own[:OWN])))
    return pairs
