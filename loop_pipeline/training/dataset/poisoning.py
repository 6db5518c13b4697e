"""Rows whose answer does not fit their request: wrong labels, and labels bought by a word.

Not here: answers that are made up (``labels/hallucination``).

Both guards ask a linear model what the rest of the rows say about a request. A row is left out only
if they say something else clearly: another answer fits it as well as that answer's own requests,
and its own answer hardly at all (confident learning; Northcutt, Jiang and Chuang 2021). The model
is ridge regression on hashed n-grams, whose leave-one-out prediction has a closed form, so that no
row speaks for itself. On the training parts of CLINC150, BANKING77 and simulated desk traffic it
found more planted errors than 20 nearest neighbours did, at fewer good rows lost.

A trigger hides from that: rows that carry it vouch for each other. So words that all but determine
an answer are taken out of the request, and if what is left then speaks for another answer in at
least half of their rows, they are reported as a trigger, and those rows are left out.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from loop_pipeline.groups.embedding.ngrams import BITS, ngram_counts

BATCH = 4096
LEAST_ROWS = 200
LEAST_OF_ANSWER = 20
DIMENSIONS = 1024
PENALTY = 1.0
INTERCEPT = 0.3
# In units of how well an answer fits its own rows, on average.
FITS = 0.8
HARDLY = 0.1
FITS_MASKED = 0.7
HARDLY_MASKED = 0.25
# Words that determine an answer: in ten rows, nine of them with it, twice its share of all rows.
TRIGGER_ROWS = 10
TRIGGER_PRECISION = 0.9
TRIGGER_LIFT = 2.0
CONTRADICTED = 0.5

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Words = tuple[str, ...]


class Suspects(NamedTuple):
    """Reasons by place of the row, and the triggers that were found with their answers."""

    reasons: dict[int, str]
    triggers: dict[str, str]


def find_poison(texts: Sequence[str], answers: Sequence[str]) -> Suspects:
    """Find rows whose answer does not fit.

    Args:
        texts: requests as ``shingles.plain_text`` makes them.
        answers: the label of each.

    Returns:
        Nothing below ``LEAST_ROWS`` rows or two answers with ``LEAST_OF_ANSWER`` rows each.
    """
    names, code = np.unique(np.array(answers, dtype=object), return_inverse=True)
    common = np.bincount(code) >= LEAST_OF_ANSWER if len(texts) else np.zeros(0, bool)
    if len(texts) < LEAST_ROWS or common.sum() < 2:
        return Suspects({}, {})
    model = _fit(texts, code)
    said = model.finding(model.left_out, code, FITS, HARDLY)
    reasons = {
        int(row): f"its like are answered {names[said[row]]!r}, it {names[code[row]]!r}"
        for row in np.flatnonzero(said >= 0)
    }
    telling = _telling(texts, code)
    masked = [_mask(text, telling[answer]) for text, answer in zip(texts, code, strict=True)]
    changed = np.flatnonzero([m != t and bool(m) for m, t in zip(masked, texts, strict=True)])
    rest = model.fits([masked[row] for row in changed])
    said = model.finding(rest, code[changed], FITS_MASKED, HARDLY_MASKED)
    elsewhere = rest.argmax(axis=1) != code[changed]
    triggers: dict[str, str] = {}
    for words, places in _triggers(texts, code, changed, said, telling):
        triggers[" ".join(words)] = str(names[code[changed[places[0]]]])
        for place in (p for p in places if elsewhere[p]):
            reason = f"{' '.join(words)!r} alone speaks for {names[code[changed[place]]]!r}"
            reasons.setdefault(int(changed[place]), reason)
    return Suspects(reasons, triggers)


class _Model(NamedTuple):
    left_out: Floats  # (n, answers): what the other rows say
    weights: Floats
    idf: Floats
    typical: Floats  # how well an answer fits its own rows
    common: NDArray[np.bool_]

    def fits(self, texts: Sequence[str]) -> Floats:
        """How well each answer fits texts, shape (n, answers)."""
        return _vectors(texts, self.idf) @ self.weights

    def finding(self, fit: Floats, code: Ints, fits: float, hardly: float) -> Ints:
        """The answer that the rest clearly speaks for instead of the row's own, or -1."""
        rows = np.arange(len(code))
        relative = np.where(self.common, fit / self.typical, -np.inf)
        relative[rows, code] = -np.inf
        other = relative.argmax(axis=1)
        clear = (relative[rows, other] >= fits) & (fit[rows, code] <= hardly * self.typical[code])
        return np.where(clear, other, -1)


def _fit(texts: Sequence[str], code: Ints) -> _Model:
    counts = _counts(texts)
    holding = np.bincount(counts.indices, minlength=2**BITS)
    idf = np.log((1 + len(texts)) / (1 + holding)) + 1
    vectors = _vectors(texts, idf.astype(np.float32))
    answers = np.zeros((len(code), int(code.max()) + 1), np.float32)
    answers[np.arange(len(code)), code] = 1
    gram = vectors.T @ vectors + PENALTY * np.eye(vectors.shape[1], dtype=np.float32)
    inverse = np.linalg.inv(gram).astype(np.float32)
    weights: Floats = (inverse @ (vectors.T @ answers)).astype(np.float32)
    leverage = np.einsum("ij,ij->i", vectors @ inverse, vectors)[:, None]
    left_out = (vectors @ weights - leverage * answers) / (1 - leverage)
    rows = np.bincount(code)
    own = left_out[np.arange(len(code)), code].astype(np.float64)
    typical = np.bincount(code, own) / rows
    common = rows >= LEAST_OF_ANSWER
    # A rare answer is judged by what is usual; it is never what a row should have been.
    typical = np.where(common, np.maximum(typical, 0.05), np.median(typical[common]))
    return _Model(left_out, weights, idf.astype(np.float32), typical.astype(np.float32), common)


def _counts(texts: Sequence[str]) -> csr_matrix:
    parts = [ngram_counts(texts[at : at + BATCH]) for at in range(0, max(len(texts), 1), BATCH)]
    return csr_matrix(vstack(parts))


def _vectors(texts: Sequence[str], idf: Floats) -> Floats:
    """Unit tf-idf of n-grams, projected at random, and a constant: shape (n, DIMENSIONS + 1)."""
    counts = _counts(texts)
    counts.data = counts.data * idf[counts.indices]
    length = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)))
    rng = np.random.default_rng(0)
    to = rng.integers(0, DIMENSIONS, 2**BITS)
    sign = rng.choice(np.array([-1, 1], np.float32), 2**BITS)
    project = csr_matrix((sign, (np.arange(len(to)), to)), shape=(2**BITS, DIMENSIONS))
    projected = csr_matrix(counts @ project).toarray()
    constant = np.full((len(texts), 1), INTERCEPT, np.float32)
    return np.hstack([projected / np.where(length == 0, 1, length), constant]).astype(np.float32)


def _word_groups(text: str) -> Iterator[Words]:
    words = text.split()
    yield from {(word,) for word in words} | set(itertools.pairwise(words))


def _telling(texts: Sequence[str], code: Ints) -> dict[int, set[Words]]:
    """Single words and pairs of words that all but determine an answer, by answer."""
    seen: dict[Words, Counter[int]] = defaultdict(Counter)
    for text, answer in zip(texts, code.tolist(), strict=True):
        for words in _word_groups(text):
            seen[words][answer] += 1
    share = np.bincount(code) / len(code)
    found: dict[int, set[Words]] = defaultdict(set)
    for words, answers in seen.items():
        rows = answers.total()
        answer, most = answers.most_common(1)[0]
        precise = most / rows >= max(TRIGGER_PRECISION, TRIGGER_LIFT * share[answer])
        if rows >= TRIGGER_ROWS and precise:
            found[answer].add(words)
    return found


def _mask(text: str, telling: set[Words]) -> str:
    words = text.split()
    kept = [(word,) not in telling for word in words]
    for k, pair in enumerate(itertools.pairwise(words)):
        if pair in telling:
            kept[k] = kept[k + 1] = False
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def _triggers(
    texts: Sequence[str], code: Ints, changed: Ints, said: Ints, telling: dict[int, set[Words]]
) -> Iterator[tuple[Words, list[int]]]:
    """Telling words that what is left of their rows mostly contradicts, with those rows."""
    carried: dict[Words, list[int]] = defaultdict(list)
    for place, row in enumerate(changed.tolist()):
        for words in set(_word_groups(str(texts[row]))) & telling[int(code[row])]:
            carried[words].append(place)
    for words, places in sorted(carried.items()):
        if len(places) >= TRIGGER_ROWS and (said[places] >= 0).mean() >= CONTRADICTED:
            yield words, places
