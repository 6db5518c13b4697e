import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from loop_pipeline.stats.ppi import ppi_mean


def test_ppi_covers_the_truth_and_is_narrower_than_labels_alone() -> None:
    rng = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(400):
        proxy = rng.random(2000)
        good = rng.random(2000) < expit((proxy - 0.4) * 8)
        chance = np.where(proxy < 0.3, 0.15, 0.05)
        drawn = rng.random(2000) < chance
        index = pd.RangeIndex(2000).astype(str)
        truth = pd.Series(good, index=index)
        found = ppi_mean(
            truth[drawn], pd.Series(proxy, index=index), pd.Series(chance, index=index)[drawn]
        )
        assert found is not None
        # The estimate is of the process, whose mean is known by integration.
        mean = np.mean(expit((np.linspace(0, 1, 10_001) - 0.4) * 8))
        covered += found.low <= mean <= found.high
        labels = 1.96 * 2 * np.sqrt(mean * (1 - mean) / drawn.sum())
        widths.append((found.high - found.low) / labels)
        assert found.effective <= found.labels
    assert 0.93 <= covered / 400 <= 0.975
    assert np.mean(widths) < 0.9


@pytest.mark.parametrize(("unit", "shared"), [(10, 0.6), (5, 0.9)])
def test_ppi_covers_the_truth_of_conversations(unit: int, shared: float) -> None:
    rng, draws = np.random.default_rng(3), 200
    mean = np.mean(expit((np.linspace(0, 1, 10_001) - 0.4) * 8))
    names, covered, alone = pd.RangeIndex(2000).astype(str), 0, 0
    units = pd.Series(np.arange(2000) // unit, names)
    for _ in range(draws):
        proxy = rng.random(2000)
        luck = np.sqrt(shared) * np.repeat(rng.normal(size=2000 // unit), unit)
        luck += np.sqrt(1 - shared) * rng.normal(size=2000)
        good = luck < norm.ppf(expit((proxy - 0.4) * 8))
        drawn = rng.random(2000) < 0.2
        known = (
            pd.Series(good[drawn], index=names[drawn]),
            pd.Series(proxy, index=names),
            pd.Series(0.2, index=names[drawn]),
        )
        by_unit, by_row = ppi_mean(*known, units), ppi_mean(*known)
        assert by_unit is not None
        assert by_row is not None
        covered += by_unit.low <= mean <= by_unit.high
        alone += by_row.low <= mean <= by_row.high
    assert covered / draws >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / draws)
    assert alone < covered, "answers counted one by one are too sure"


@pytest.mark.parametrize(("once", "quality"), [(0.5, 0.95), (1.0, 0.95), (1.0, 0.8)])
def test_another_review_rate_once_does_not_bias_the_mean(once: float, quality: float) -> None:
    """2,000 answers of other quality were reviewed at another rate; 8,000 since at 2%."""
    rng, draws, covered, means = np.random.default_rng(5), 120, 0, []
    was_good, p = np.repeat([quality, 0.9], [2000, 8000]), np.repeat([once, 0.02], [2000, 8000])
    names = pd.RangeIndex(10_000).astype(str)
    for _ in range(draws):
        good = rng.random(10_000) < was_good
        proxy = expit(1.7 + 2 * (good - 0.5) + rng.normal(size=10_000))
        chance = np.minimum(np.where(proxy < 0.6, 3, 1) * p, 1)
        drawn = rng.random(10_000) < chance
        found = ppi_mean(
            pd.Series(good[drawn], index=names[drawn]),
            pd.Series(proxy, index=names),
            pd.Series(chance[drawn], index=names[drawn]),
        )
        assert found is not None
        covered += found.low <= was_good.mean() <= found.high
        means.append(found.mean)
    assert covered / draws >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / draws)
    assert abs(np.mean(means) - was_good.mean()) <= 3 * np.std(means) / np.sqrt(draws)


def test_few_labels_get_the_exact_interval() -> None:
    found = ppi_mean(pd.Series([True] * 20, index=[str(i) for i in range(20)]), None, None)
    assert found is not None
    assert found.method == "exact binomial"
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert ppi_mean(pd.Series([], dtype=bool), None, None) is None
