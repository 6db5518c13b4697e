"""Kappa against its textbook value, and an interval that holds where rows are few or alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from loop_pipeline.stats import kappa as module
from loop_pipeline.stats.kappa import Kappa, cohens_kappa

Yes = NDArray[np.bool_]


def _table(both: int, first: int, second: int, neither: int) -> tuple[Yes, Yes]:
    x = [True] * (both + first) + [False] * (second + neither)
    y = [True] * both + [False] * first + [True] * second + [False] * neither
    return np.array(x), np.array(y)


def _kappa(*args: Yes, **more: NDArray) -> Kappa:
    found = cohens_kappa(*args, **more)
    assert found is not None
    return found


def test_it_is_the_textbooks_figure() -> None:
    found = _kappa(*_table(20, 5, 10, 15))  # Wikipedia's example: 0.4
    assert found.kappa == pytest.approx(0.4)
    assert (found.agreement, found.first_says_yes, found.second_says_yes) == (0.7, 0.5, 0.6)
    assert found.low < 0.4 < found.high
    assert found.effective == pytest.approx(50)


def test_two_who_never_differ_are_not_certain_on_ten_rows() -> None:
    ten, many = _kappa(*_table(5, 0, 0, 5)), _kappa(*_table(500, 0, 0, 500))
    assert ten.kappa == many.kappa == 1
    assert ten.low < 0.75
    assert many.low > 0.98


def test_one_answer_of_both_tells_nothing_and_no_rows_are_none() -> None:
    same = _kappa(*_table(40, 0, 0, 0))
    assert same.kappa is None
    assert same.low < 0.1
    assert _kappa(*_table(40, 10, 0, 0)).kappa == 0  # a kappa beside a base rate of 100%
    assert cohens_kappa(np.zeros(0, bool), np.zeros(0, bool)) is None


@pytest.mark.parametrize("design", ["independent", "three to one", "units of five"])
def test_its_interval_covers_the_truth(monkeypatch: pytest.MonkeyPatch, design: str) -> None:
    monkeypatch.setattr(module, "DRAWS", 2000)
    rng, n, repeats = np.random.default_rng(3), 200, 300
    base, finds_good, finds_bad = 0.85, 0.9, 0.6
    said_good = base * finds_good + (1 - base) * (1 - finds_bad)
    same = base * finds_good + (1 - base) * finds_bad
    chance = base * said_good + (1 - base) * (1 - said_good)
    truth, covered = (same - chance) / (1 - chance), 0
    units = np.arange(n) // 5 if design == "units of five" else np.arange(n)

    def uniform(rows: int, of: NDArray[np.int_]) -> NDArray[np.float64]:
        shared = np.sqrt(0.6) * rng.normal(size=rows)[of] if len(set(of)) < rows else 0.0
        own = rng.normal(size=rows) * (np.sqrt(0.4) if len(set(of)) < rows else 1.0)
        return norm.cdf(shared + own)

    for _ in range(repeats):
        rows = 6 * n if design == "three to one" else n
        of = np.arange(rows) if design == "three to one" else units
        good = uniform(rows, of) < base
        judge = np.where(uniform(rows, of) < np.where(good, finds_good, finds_bad), good, ~good)
        if design == "three to one":
            p = np.where(judge, 0.12, 0.36)
            drawn = rng.random(rows) < p
            found = _kappa(good[drawn], judge[drawn], weights=1 / p[drawn])
        else:
            found = _kappa(good, judge, units=units)
        covered += found.low <= truth <= found.high
    assert covered / repeats >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)
