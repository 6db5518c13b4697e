"""How the answers to a template use words, learned from its own traffic without any label.

Not here: the score that is read in this light (``wording_score.py``), and the verdict
(``answer_check.py``).

A human summary says its source in other words, and T1 alone takes that for invention. What can be
told is a matter of the template. Three things are measured on its answers:

- Do they fall into two groups, of which one keeps to its source? Then straying from it is told by
  words, and the score's own line holds. Where they are one continuum, no line divides rewording
  from inventing.
- How far is an answer from its source, and how far from another answer's source? What is as far as
  nearly all of those rests on nothing, however freely the template rewords.
- If many are that far, and not as a group of their own, the template is no retelling of its
  source: its words tell nothing.

None of it takes a majority of sound answers: the group near its source may be the smaller one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from loop_pipeline.hashing import digest, seal_of
from loop_pipeline.labels.hallucination.habits.two_groups import Groups, two_groups
from loop_pipeline.labels.hallucination.wording_features import QUESTION, asks, design_of
from loop_pipeline.labels.hallucination.wording_score import Detector
from loop_pipeline.labels.hallucination.wording_text import STOP_WORDS, source_of, stems

Floats = NDArray[np.float64]

# Answers: with fewer, subsamples of BEGIN and SciTLDR are often taken for another kind.
MIN_ANSWERS = 60
# Distinct ones, or there is nothing to exchange.
MIN_SOURCES = 10
# Answers that a habit is learned from: more do not change what is found, and take time.
SAMPLE = 300
# A word in this share of the answers is their form; of stop words and questions nearly all.
FORM = 0.1
FORM_GLUE = 0.8
MIN_FORM = 30
# A word that so many sources hold says nothing of which one an answer rests on.
COMMON = 0.1
# Fewer words of content than this are too few to call an answer unrelated.
FEW_WORDS = 3
# So many answers beside another source may be nearer than what is called unrelated.
NEAR_BY_CHANCE = 0.04
# As far as this an answer is unrelated where nothing is known of its template.
UNRELATED = 0.8
LEAST_UNRELATED = 0.5
# More answers than this without relation to their source, and not as a group: no retelling.
MANY_UNRELATED = 0.22
# Fewer answers with a relation to their source show no groups.
MIN_RELATED = 20
# Two groups: what each row gains in BIC, and how far apart they are in their spreads (Ashman's D).
GAIN = 0.12
APART = 1.5
# Of a normal distribution, 95% lie below.
NEARLY_ALL = 1.645

Told = Literal["words", "source", "nothing"]


class Habit(BaseModel):
    """What is known of the answers to a template, and so what their wording can tell."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    told: Told = "source"
    """words: the score's line holds. source: only whether an answer rests on its source at all."""
    unrelated_from: float = UNRELATED
    """Share of its telling words from which an answer rests on another source, or none."""
    form: frozenset[str] = frozenset()
    """Stems that belong to the form of such answers ("customer asks"), not to their claims."""
    common: frozenset[str] = frozenset()
    """Stems that many sources hold."""
    sources: int = 0
    """Distinct ones it was learned from; 0: nothing is known of the template."""

    @property
    def version(self) -> str:
        """Names its content."""
        plain = self.model_dump() | {"form": sorted(self.form), "common": sorted(self.common)}
        return seal_of(plain)[:8]

    def unrelated(self, output: str, source: str) -> bool:
        """Whether an answer rests on this source no more than on any other."""
        share, words = self._strangers(output, source)
        return words >= FEW_WORDS and share >= self.unrelated_from

    def strangers(self, output: str, source: str) -> float:
        """Share of the telling words of an answer that a source does not hold."""
        return self._strangers(output, source)[0]

    def _strangers(self, output: str, source: str) -> tuple[float, int]:
        known = source_of(source).known
        telling = {*stems(output)} - STOP_WORDS - self.form - self.common
        return len(telling - known) / max(len(telling), 1), len(telling)


UNKNOWN = Habit()
"""Nothing is known of the template: only what has no relation to its source is called made up."""
STRICT = Habit(told="words")
"""The score's line holds, as where reviews of the template have fitted it."""


class Said(NamedTuple):
    """An answer and what it rests on."""

    output: str
    source: str


def learn_habits(said: Sequence[tuple[str, Said]], detector: Detector) -> dict[str, Habit]:
    """Habits of templates, from (template, answer) rows in any order.

    Templates with few sources are looked at together: a system prompt that names each user makes a
    template of every request, and they are alike.
    """
    rows: dict[str, list[Said]] = {}
    for template, one in said:
        rows.setdefault(template, []).append(one)
    small = {name for name, own in rows.items() if not _enough(own)}
    together = learn_habit([one for name in sorted(small) for one in rows[name]], detector)
    found = {name: learn_habit(own, detector) for name, own in rows.items() if name not in small}
    for name in small:
        form = usual_stems(rows[name])
        found[name] = together.model_copy(update={"form": form}) if form else together
    return found


def learn_habit(said: Sequence[Said], detector: Detector) -> Habit:
    """The habit of answers that belong together; ``UNKNOWN`` where they are too few."""
    if not _enough(said):
        return UNKNOWN
    sources = {one.source for one in said}
    drawn = sorted(said, key=lambda one: digest(*one))[:SAMPLE]
    habit = Habit(form=usual_stems(said), common=_common(sources), sources=len(sources))
    raw = detector.raw(design_of([(one.output, one.source, habit.form) for one in drawn]))
    own = np.array([habit.strangers(*one) for one in drawn])
    beside = np.array([habit.strangers(*one) for one in _exchanged(drawn)])
    chance = float(np.quantile(beside, NEAR_BY_CHANCE))
    line = min(1.0, max(chance, LEAST_UNRELATED))
    told = _told(raw, own, line)
    return habit.model_copy(update={"told": told, "unrelated_from": round(line, 4)})


def usual_stems(said: Sequence[Said]) -> frozenset[str]:
    """Stems (and "?") that the answers to many of a template's sources hold: their common form.

    An invention that so many answers repeat is taken for form; reviews catch that, words cannot.
    """
    by_source: dict[str, set[str]] = {}
    for one in said:
        words = by_source.setdefault(one.source, set())
        words.update(stems(one.output))
        if asks(one.output):
            words.add(QUESTION)
    if len(by_source) < MIN_FORM:
        return frozenset()
    counts = Counter(word for words in by_source.values() for word in words)
    least = {True: FORM_GLUE * len(by_source), False: max(3, FORM * len(by_source))}
    glue = STOP_WORDS | {QUESTION}
    return frozenset(word for word, n in counts.items() if n >= least[word in glue])


def _enough(said: Sequence[Said]) -> bool:
    return len(said) >= MIN_ANSWERS and len({one.source for one in said}) >= MIN_SOURCES


def _common(sources: set[str]) -> frozenset[str]:
    drawn = sorted(sources, key=digest)[:SAMPLE]
    counts = Counter(word for source in drawn for word in source_of(source).known)
    return frozenset(word for word, n in counts.items() if n >= COMMON * len(drawn))


def _exchanged(drawn: Sequence[Said]) -> list[Said]:
    """Each answer beside the source of the next row that has another one."""
    found = []
    for place, one in enumerate(drawn):
        others = (drawn[(place + step) % len(drawn)].source for step in range(1, len(drawn)))
        found.append(Said(one.output, next(s for s in others if s != one.source)))
    return found


def _told(raw: Floats, own: Floats, line: float) -> Told:
    """What the wording of such answers can tell."""
    related = raw[own < line]
    if len(related) >= MIN_RELATED:
        groups = two_groups(related)
        near = groups.means[0] + groups.spreads[0] < 0
        if groups.gain >= GAIN and groups.apart >= APART and near:
            return "words"
        if related.mean() + NEARLY_ALL * related.std() < 0:
            return "words"
    if (own >= line).mean() <= MANY_UNRELATED or _stand_apart(own):
        return "source"
    return "nothing"


def _stand_apart(own: Floats) -> bool:
    """Whether the answers without relation are a group of their own, and not a tail."""
    groups: Groups = two_groups(own, least_spread=0.05)
    return groups.gain >= GAIN and groups.apart >= 2 * APART - 1
