"""Gold rows find a broken promise, or say that they cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.routing.gold_check import chance_to_find, verdicts

DRAWS, DELTA = 300, 0.05


def checked(rng: np.random.Generator, served: int, agreement: float, groups: int = 6):
    """What gold rows of six groups say, of which the student answers so many each."""
    good = rng.binomial(served, agreement, size=groups)
    names = [*(f"g{i}" for i in range(groups)), "all"]
    n, right = np.append(np.full(groups, served), served * groups), np.append(good, good.sum())
    rows = pd.DataFrame({"group_id": names, "served": n, "worth": n.astype(float)})
    return verdicts(
        rows.assign(agreement=right / n, target_agreement=0.95, delta=DELTA, who="champion")
    )


@pytest.mark.parametrize("served", [60, 150])
def test_a_true_agreement_of_90_percent_fails_mostly(served: int) -> None:
    """Group by group it did in 14% (60 served gold rows each) and 43% (150)."""
    rng = np.random.default_rng(5)
    found = [(checked(rng, served, 0.90)["verdict"] == "broken").any() for _ in range(DRAWS)]
    assert np.mean(found) >= 0.9


def test_promises_that_are_just_kept_are_rarely_called_broken() -> None:
    rng = np.random.default_rng(6)
    found = [(checked(rng, 150, 0.95)["verdict"] == "broken").any() for _ in range(DRAWS)]
    assert np.mean(found) <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / DRAWS)


def test_a_group_with_few_rows_says_that_it_cannot_tell() -> None:
    table = checked(np.random.default_rng(7), 60, 0.96)
    assert set(table["verdict"][:-1]) <= {"cannot tell", "broken"}
    assert (table["found"][:-1] < 0.5).all()
    assert table["verdict"].iloc[-1] == "kept"
    assert chance_to_find(0, target=0.95, level=0.05) == 0
    assert chance_to_find(1000, target=0.95, level=0.05) > 0.99
