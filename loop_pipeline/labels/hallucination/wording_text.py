"""Words of a text, and everything about a source that answers are held against.

Not here: what is measured on them (``wording_features.py``); what a word is in which script
(``answers/words.py``).

Stems, stop words, negations and opposites are English; of Chinese and Japanese only the signs that
carry grammar are known. In other languages an inflected word is a new one, so that scores are
higher there; ``wording_habit.py`` finds out whether they still tell anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from loop_pipeline.answers.words import words as words_of

SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
# A capital inside a sentence: a name. At its start everybody has one.
NAME = re.compile(r"(?<=[^\W_][\s,;:(]) ?\b[A-Z][^\W_]+")
FAR = 20
"""Words further apart than this have nothing to do with each other."""


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Crude English stem: refunded, refunds and refund are one word."""
    for ending in ("ing", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def stems(text: str) -> list[str]:
    """Stems of all words of a text, in their order."""
    return [stem(word) for word in words_of(text)]


def grams(text: str) -> list[str]:
    """Runs of five characters, case and punctuation aside."""
    plain = " ".join(words_of(text))
    return [plain[i : i + 5] for i in range(len(plain) - 4)]


# Hiragana writes grammar, as these Chinese signs do.
SPACELESS_GLUE = frozenset(map(chr, range(0x3041, 0x3097))) | frozenset(
    "的了在是将把被和与及也都就会要已有这那您你我他她它们吗呢吧"
)
STOP_WORDS = SPACELESS_GLUE | frozenset(
    stems("""
    a about after again all also am an and any are as at be because been before being but by can
    could d did do does doing don down each few for from further get go had has have having he her
    here hers him his how i if in into is it its just know like ll m me more most my no nor not
    now of off on once one only or other our out over own really re s same she so some such t than
    that the their them then there these they thing think this those through to too under until up
    us ve very was we well were what when where which while who whom why will with would yes you
    your
    """)
)
SPEAKER = frozenset({"i", "me", "my", "we"})
NEGATIONS = frozenset(
    stems("""
    aren cannot couldn didn doesn don fail hardly isn lack neither never no none nor not unable
    wasn without won wouldn
    """)
)
PREFIXES = ("un", "in", "im", "ir", "dis", "non", "anti")


def _opposites(pairs: str) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for pair in pairs.split(";"):
        one, other = stems(pair)
        found[one] = found.get(one, frozenset()) | {other}
        found[other] = found.get(other, frozenset()) | {one}
    return found


OPPOSITES = _opposites(
    "increase decrease; rise fall; more less; most least; many few; all some; always never; "
    "high low; higher lower; maximum minimum; large small; big small; long short; before after; "
    "first last; early late; start end; begin finish; open close; arrive leave; old new; "
    "modern traditional; existing novel; accept reject; allow forbid; include exclude; "
    "include without; support oppose; agree disagree; encourage discourage; win lose; buy sell; "
    "borrow lend; send receive; give take; good bad; better worse; best worst; positive negative; "
    "improve worsen; improve reduce; enhance diminish; enhance reduce; optimize hinder; "
    "boost lower; save waste; save spend; streamline complicate; easy difficult; simple complex; "
    "simple complicated; fast slow; strong weak; cheap expensive; affordable expensive; free paid; "
    "discount surcharge; same different; similar different; success failure; succeed fail; "
    "advantage disadvantage; safe dangerous; internal external; public private; active passive; "
    "inside outside; near far; up down; single multiple; local global; online offline; "
    "supervised unsupervised; outperform underperform; exactly approximately"
)


class Source:
    """A text that answers are held against. Made once however many answers rest on it."""

    def __init__(self, text: str) -> None:
        self.words = stems(text)
        self.known = frozenset(self.words)
        self.grams = frozenset(grams(text))
        self.sentences = [frozenset(part) for p in SENTENCE.split(text) if (part := stems(p))]
        self.places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            self.places.setdefault(word, []).append(place)
        self.denied = [place for n in NEGATIONS for place in self.places.get(n, ())]

    def distance(self, one: str, other: str) -> int:
        """Words between the nearest occurrences of two words it holds; at most ``FAR``."""
        here, there = self.places[one], self.places[other]
        best, i, j = FAR, 0, 0
        while i < len(here) and j < len(there):
            best = min(best, abs(here[i] - there[j]))
            if here[i] < there[j]:
                i += 1
            else:
                j += 1
        return best

    def longest_run(self, words: Sequence[str]) -> int:
        """Length of the longest run of these words that stands in the source as it is."""
        best, runs = 0, {}
        for word in words:
            runs = {place: runs.get(place - 1, 0) + 1 for place in self.places.get(word, ())}
            best = max(best, max(runs.values(), default=0))
        return best

    def closest(self, words: frozenset[str]) -> frozenset[str]:
        """Its sentence that has most of these words in common; the first of equals."""
        return max(self.sentences, key=lambda part: len(words & part), default=frozenset())

    def denies_near(self, words: Sequence[str]) -> bool:
        """Whether any of these words has a negation within four words."""
        return any(
            abs(place - denied) <= 4
            for word in words
            for place in self.places.get(word, ())
            for denied in self.denied
        )


@lru_cache(maxsize=2048)
def source_of(text: str) -> Source:
    """The source of a text; the newest ones are kept."""
    return Source(text)
