"""Is rewording told from inventing, and does a template on which words tell nothing say so?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.paraphrase

Each set is one template of traffic. "Before": the score's own line for every answer, as it was
shipped; "after": by what the template's own answers show that wording can tell. No label is used
for either. Human summaries are all good; a wrong source is that of another row. Rules were chosen
with the figures of the development parts in sight; none was set by the training part of SciTLDR,
but its figures were seen before the last ones. Nothing here is held back.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from benchmarks.data import load
from benchmarks.hallucination import begin, halueval, summedits, traffic
from benchmarks.record import Start, record, table
from loop_pipeline.labels.hallucination.flags import (
    flag_hallucinations,
    habits_of,
    text_traces,
)
from loop_pipeline.labels.hallucination.habits.wording_habit import STRICT, UNKNOWN, Habit
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_fit import Row

TEMPLATE = "t"
SIZES = (120, 250)
DRAWS = 4
WRONG = (0.1, 0.25, 0.5)
SUMMARIES = ("SciTLDR dev, all summaries", "DialogSum dev")


def summaries() -> dict[str, list[Row]]:
    """What people wrote."""
    parts = {
        name: [json.loads(line) for line in load("scitldr", f"{name}.jsonl.gz").splitlines()]
        for name in ("dev", "train")
    }
    talks = map(json.loads, load("dialogsum", "dialogsum.dev.jsonl.gz").splitlines())
    dev, train = (
        [Row(" ".join(row["source"]), target, False) for row in rows for target in row["target"]]
        for rows in parts.values()
    )
    firsts = [Row(" ".join(r["source"]), r["target"][0], False) for r in parts["dev"]]
    return {
        SUMMARIES[0]: dev,
        "SciTLDR dev, the authors' summaries": firsts,
        SUMMARIES[1]: [Row(row["dialogue"], row["summary"], False) for row in talks],
        "SciTLDR train": train,
    }


def sets() -> dict[str, list[Row]]:
    """All of them."""
    attributed = {f"BEGIN {name}": rows for name, rows in begin(generic=False).items()}
    edited = {f"SummEdits {name}": rows for name, rows in summedits().items()}
    return summaries() | attributed | edited | {"HaluEval general, no source": halueval()}


def beside_others(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """Each answer beside the source of another row."""
    rng, sources = random.Random(seed), [row.source for row in rows]
    found = []
    for row in rows:
        other = row.source
        while other == row.source:
            other = rng.choice(sources)
        found.append(row._replace(source=other, bad=True))
    return found


def habit_of(rows: Sequence[Row]) -> Habit:
    """What is learned of a template from its answers alone."""
    return habits_of(text_traces(traffic(rows, TEMPLATE)), Tiers()).get(TEMPLATE, UNKNOWN)


def judged(rows: Sequence[Row], habit: Habit) -> pd.DataFrame:
    """Flags of T0 and T1, with ``bad``."""
    flags = flag_hallucinations(traffic(rows, TEMPLATE), tiers=Tiers(), habits={TEMPLATE: habit})
    return flags.assign(bad=[row.bad for row in rows])


def _found(flags: pd.DataFrame, name: str) -> dict[str, float]:
    made_up = flags["flag"].astype(bool)
    good, bad = made_up[~flags["bad"]].mean(), made_up[flags["bad"]].mean()
    by_words = (made_up & (flags["tier"] == "T1"))[~flags["bad"]].mean()
    return {
        f"good flagged {name}": good,
        f"of these by T1 {name}": by_words,
        f"bad found {name}": bad,
        f"balanced accuracy {name}": (1 - good + bad) / 2,
    }


def line(name: str, rows: Sequence[Row]) -> dict[str, object]:
    """One set, before and after."""
    habit, others = habit_of(rows), beside_others(rows)
    before, after = judged(rows, STRICT), judged(rows, habit)
    found: dict[str, object] = {"measured": name, "rows": len(rows), "told by": habit.told}
    for label, flags, by in (("before", before, STRICT), ("after", after, habit)):
        found |= _found(flags, label)
        found[f"wrong source found {label}"] = judged(others, by)["flag"].mean()
    return found | {"cannot tell after": (after["grounded"] == "cannot_tell").mean()}


def mixed_lines(named: dict[str, list[Row]]) -> Iterable[dict[str, object]]:
    """Templates in which some answers rest on another source, and nobody says which."""
    for name in SUMMARIES:
        for share in WRONG:
            rows, rng = named[name], random.Random(1)
            others = beside_others(rows)
            wrong = set(rng.sample(range(len(rows)), int(share * len(rows))))
            mixed = [others[i] if i in wrong else row for i, row in enumerate(rows)]
            flags = judged(mixed, habit_of(mixed))
            found = _found(flags, "after")
            yield {
                "measured": name,
                "wrong sources": share,
                "human summaries flagged": found["good flagged after"],
                "wrong source found": found["bad found after"],
            }


def size_lines(named: dict[str, list[Row]]) -> Iterable[dict[str, object]]:
    """How often so few answers lead to the kind that all of them lead to."""
    rng = random.Random(0)
    for name, rows in named.items():
        if name.startswith("HaluEval") or "train" in name:
            continue
        told = habit_of(rows).told
        counts = {
            f"{size} answers": np.mean(
                [habit_of(rng.sample(rows, size)).told == told for _ in range(DRAWS)]
            )
            for size in SIZES
        }
        yield {"measured": name, "told by": told} | counts


def main() -> None:
    """Print the tables, and write them down."""
    start, named = Start(), sets()
    lines = pd.DataFrame([line(name, rows) for name, rows in named.items()])
    parts = {
        "Each set as one template": lines,
        "Human summaries, some of them beside a wrong source": pd.DataFrame(mixed_lines(named)),
        f"The same kind from fewer answers, of {DRAWS} draws": pd.DataFrame(size_lines(named)),
    }
    for title, found in parts.items():
        sys.stdout.write(f"{title}\n{found.round(4).to_string(index=False)}\n\n")
    tables = []
    for title, found in parts.items():
        shares = [n for n in found.columns if n not in ("measured", "rows", "told by")]
        tables.append(table(title, found, dict.fromkeys(shares, "share")))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
