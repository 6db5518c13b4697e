"""How long do a million requests take to be grouped, in how much memory, and is it right?

    python -m benchmarks.dedup [rows]

Every fifth request is a variant of another one: greeted, thanked for, shouted, mistyped, or with a
word more. A planted pair counts as found if both ended in one group, and a group's pairs are right
if they come from one request. Planted pairs below the threshold are not expected to be found.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Start, record, table
from loop_pipeline.training.dataset.near_duplicates import components, jaccard, similar_pairs
from loop_pipeline.training.dataset.selection import COPIES
from loop_pipeline.training.dataset.shingles import plain_text, shingle

ROWS = 1_000_000
WORDS = 30_000
VARIANTS = 0.2
SYLLABLES = [a + b for a in ("b", "cr", "d", "f", "g", "l", "m", "pl", "st", "t") for b in "aeiou"]
GREETINGS = ("Hello, {}", "Hi there. {}", "{} Thanks!", "Good morning, {} Many thanks.")


def requests(rows: int, seed: int = 7) -> tuple[list[str], NDArray[np.int64]]:
    """Texts in no order, and for each the request that it is a variant of.

    Words are drawn as natural ones are, a few often and most seldom; lengths from 6 to 30 words.
    """
    rng = np.random.default_rng(seed)
    words = np.array(
        ["".join(rng.choice(SYLLABLES, size)) for size in rng.integers(1, 5, WORDS)], dtype=object
    )
    frequency = 1 / np.arange(10, WORDS + 10)
    originals = int(rows * (1 - VARIANTS))
    lengths = rng.integers(6, 31, originals)
    drawn = words[rng.choice(WORDS, int(lengths.sum()), p=frequency / frequency.sum())]
    texts = [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]
    source = np.concatenate([np.arange(originals), rng.integers(0, originals, rows - originals)])
    texts += [_variant(texts[i], rng) for i in source[originals:]]
    order = rng.permutation(rows)
    return [texts[i] for i in order], source[order]


def _variant(text: str, rng: np.random.Generator) -> str:
    kind = rng.integers(6)
    if kind < len(GREETINGS):
        return GREETINGS[kind].format(text)
    at = int(rng.integers(1, len(text) - 1))
    return text.upper() if kind == len(GREETINGS) else f"{text[: at - 1]}{text[at:]}"


def main(rows: int = ROWS) -> None:
    """Print the figures, and write them down."""
    start = Start()
    texts, source = requests(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, used = time.monotonic(), time.process_time()
    code: dict[str, int] = {}
    plain = [
        code.setdefault(plain_text([{"role": "user", "content": text}]), len(code))
        for text in texts
    ]
    distinct = list(code)
    first, second, _ = similar_pairs(distinct, COPIES)
    group = components(len(distinct), first, second)[np.array(plain)]
    wall, used = time.monotonic() - wall, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    original = np.zeros(int(source.max()) + 1, np.int64)
    seen = np.unique(source, return_index=True)
    original[seen[0]] = seen[1]
    planted = np.flatnonzero(original[source] != np.arange(rows))
    found = group[planted] == group[original[source[planted]]]
    pairs = [[plain[i] for i in side] for side in (planted, original[source[planted]])]
    sets = [shingle([distinct[i] for i in side]) for side in pairs]
    places = np.arange(len(planted))
    near = (jaccard(sets[0], places, sets[1], places) >= COPIES) | (
        np.array(pairs[0]) == np.array(pairs[1])
    )
    grouped = np.argsort(group, kind="stable")
    together = group[grouped][1:] == group[grouped][:-1]
    right = source[grouped][1:][together] == source[grouped][:-1][together]
    figures = {
        "requests": rows,
        "distinct texts": len(distinct),
        "time": wall,
        "processor time": used,
        "peak memory": peak / 1e6,
        "memory before grouping": before / 1e6,
        "planted variants": len(planted),
        f"of them at a likeness of {COPIES} or more": int(near.sum()),
        "of these, found": found[near].mean(),
        "of all planted, found": found.mean(),
        "neighbours in a group": len(right),
        "of these, of one request": right.mean(),
    }
    units = dict.fromkeys(("time", "processor time"), "s")
    units |= dict.fromkeys(("peak memory", "memory before grouping"), "GB")
    units |= {
        name: "share" for name in figures if name.startswith("of ") and "likeness" not in name
    }
    for name, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        sys.stdout.write(f"{name:36} {shown}\n")
    record(__file__, __doc__, [table("One grouping from scratch", [figures], units)], start)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
