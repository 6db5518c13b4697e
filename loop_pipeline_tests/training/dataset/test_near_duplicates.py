from __future__ import annotations

import random

import numpy as np
from datasketch import MinHash, MinHashLSH

from loop_pipeline.demo import phrases
from loop_pipeline.training.dataset.near_duplicates import (
    PERMUTATIONS,
    components,
    jaccard,
    signatures,
    similar_pairs,
)
from loop_pipeline.training.dataset.shingles import shingle


def _texts(n: int, seed: int = 3) -> list[str]:
    """Requests from a small grammar, some of them edited a little: pairs at every similarity."""
    rng = random.Random(seed)
    words = sorted({w for bodies in phrases.BODIES.values() for b in bodies for w in b.split()})
    words = [w.lower() for w in words if w.isalpha()]
    texts = [" ".join(rng.choices(words, k=rng.randrange(8, 20))) for _ in range(n)]
    for text in list(texts):
        parts = text.split()
        for at in rng.sample(range(len(parts)), rng.randrange(0, 4)):
            parts[at] = rng.choice(words)
        texts.append(" ".join(parts))
    return sorted(set(texts))


def _all_pairs(texts: list[str]) -> dict[tuple[int, int], float]:
    sets = shingle(texts)
    first, second = np.triu_indices(len(texts), 1)
    return dict(
        zip(
            zip(first.tolist(), second.tolist(), strict=True),
            jaccard(sets, first, sets, second),
            strict=True,
        )
    )


def test_every_like_pair_is_found_and_nothing_else() -> None:
    texts = _texts(400)
    truth = {pair for pair, likeness in _all_pairs(texts).items() if likeness >= 0.7}
    first, second, likeness = similar_pairs(texts, 0.7)
    assert len(truth) > 100
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == truth
    assert likeness.min() >= 0.7


def test_signatures_estimate_like_those_of_datasketch() -> None:
    texts = _texts(60)
    truth = _all_pairs(texts)
    pairs = [pair for pair, likeness in truth.items() if likeness > 0.3]
    expected = np.array([truth[pair] for pair in pairs])
    ours = signatures(shingle(texts))
    theirs = []
    for text in texts:
        known = MinHash(num_perm=PERMUTATIONS)
        known.update_batch([f" {text} "[i : i + 5].encode() for i in range(len(text) - 2)])
        theirs.append(known)
    mine = np.array([(ours[a] == ours[b]).mean() for a, b in pairs]) - expected
    oracle = np.array([theirs[a].jaccard(theirs[b]) for a, b in pairs]) - expected
    assert abs(mine.mean()) < 0.02
    assert mine.std() < 1.2 * max(oracle.std(), np.sqrt((expected * (1 - expected) / 128).mean()))
    index = MinHashLSH(threshold=0.8, num_perm=PERMUTATIONS)
    for place, known in enumerate(theirs):
        index.insert(place, known)
    first, second, _ = similar_pairs(texts, 0.8)
    for a, b in zip(first, second, strict=True):
        assert b in index.query(theirs[a]) or truth[int(a), int(b)] < 0.9


def test_another_number_is_another_request() -> None:
    long = "i am writing about the order that i placed with your shop last week number {} thanks"
    texts = [long.format(48213), long.format(48214), "hi " + long.format(48213)]
    first, second, _ = similar_pairs(texts, 0.8)
    assert (first.tolist(), second.tolist()) == ([0], [2])


def test_kinds_are_not_compared() -> None:
    texts = ["where is my card please"] * 2 + ["where is my card please now"] * 2
    first, second, _ = similar_pairs(texts, 0.7, kinds=np.array([0, 1, 0, 1]))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 2), (1, 3)]


def test_a_large_bucket_becomes_one_group_without_all_its_pairs() -> None:
    rng = random.Random(1)
    text = "please tell me where the card is that i have ordered from you two weeks ago"
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = sorted({f"{text} {''.join(rng.choices(letters, k=3))}" for _ in range(3000)})
    first, second, _ = similar_pairs(texts, 0.8)
    assert len(set(components(len(texts), first, second).tolist())) == 1
    assert len(first) < 100 * len(texts)


def test_nothing_and_next_to_nothing() -> None:
    for texts in ([], [""], ["", "ok"], ["", "", "a"]):
        first, second, likeness = similar_pairs(texts, 0.7)
        assert len(first) == len(second) == len(likeness) == 0
    assert components(0, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
