"""Gold that no gate has used: it stays apart, is renewed, and does not flatter the best of five."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_pipeline.evaluation.unspent_gold import KEPT_FROM, KEPT_SHARE, MOST_KEPT, kept_back


def gold(n: int, unit: int = 1, start: int = 0) -> pd.DataFrame:
    at = np.arange(start, start + n)
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in at],
            "cluster": [f"u{i // unit}" for i in at],
            "ts": pd.Timestamp("2026-09-01", tz="UTC") + pd.to_timedelta(at, unit="min"),
        }
    )


@settings(max_examples=40)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=8), st.integers(1, 7))
def test_what_is_quoted_was_never_seen_by_a_gate(arrivals: list[int], unit: int) -> None:
    """However gold comes: rows that a gate has used are never kept again, and units stay whole."""
    spent: set[str] = set()
    total = 0
    for new in arrivals:
        total += new
        rows = gold(total, unit)
        kept = kept_back(rows, spent)
        assert not kept & spent
        clusters = rows.set_index("prompt_id")["cluster"]
        rest = set(rows["prompt_id"]) - kept
        assert not set(clusters[list(kept)]) & set(clusters[list(rest)])
        assert len(kept) <= min(MOST_KEPT, KEPT_SHARE * total + 1) + unit
        spent |= rest


def test_a_fifth_is_kept_and_older_ones_go_to_the_gate() -> None:
    first = kept_back(gold(1000), set())
    assert 150 <= len(first) <= 200
    assert kept_back(gold(KEPT_FROM - 1), set()) == frozenset()
    spent = set(gold(1000)["prompt_id"]) - first
    later = kept_back(gold(4000), spent)
    assert MOST_KEPT - 1 <= len(later) <= MOST_KEPT
    assert not later & spent
    assert first - later, "kept once, and for the gate now"


def test_the_best_of_five_equal_students_is_not_flattered() -> None:
    rng, gained, quoted = np.random.default_rng(3), [], []
    rows = gold(1250)
    kept = rows["prompt_id"].isin(kept_back(rows, set())).to_numpy()
    for _ in range(300):
        right = rng.random((5, len(rows))) < 0.93
        best = right[:, ~kept].mean(axis=1).argmax()
        gained.append(right[best, ~kept].mean())
        quoted.append(right[best, kept].mean())
    assert np.mean(gained) > 0.93 + 0.005, "on the rows that it was chosen by"
    assert abs(np.mean(quoted) - 0.93) <= 3 * np.std(quoted) / np.sqrt(300)
