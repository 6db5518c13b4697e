import math

import numpy as np
import pytest
from scipy.stats import binomtest

from loop_pipeline.stats.paired import holm, lower_bound, mcnemar_worse, paired_bootstrap


def test_the_lower_bound_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    n, gain, loss = 700, 0.03, 0.04
    drawn = rng.multinomial(n, [gain, loss, 1 - gain - loss], size=1000)
    above = sum(lower_bound(int(g), int(x), n, 0.05) > gain - loss for g, x, _ in drawn)
    assert above <= 1000 * 0.05 + 3 * math.sqrt(1000 * 0.05 * 0.95)
    assert above >= 20, "the bound is not idle either"


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 0), (0, 3), (10, 25), (40, 12)])
def test_mcnemar_is_the_exact_binomial(gained: int, lost: int) -> None:
    total = gained + lost
    wanted = binomtest(lost, total, 0.5, alternative="greater").pvalue if total else 1.0
    assert mcnemar_worse(gained, lost) == pytest.approx(wanted)
    bound = lower_bound(gained, lost, 1000, 0.05)
    assert -1 <= bound < (gained - lost) / 1000 or total == 0


def test_holm() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([])).shape == (0,)


def test_the_bootstrap_covers_the_truth_of_clustered_rows() -> None:
    """Pairs of rows that mostly share their fate: rows drawn one by one would be too sure."""
    rng = np.random.default_rng(0)
    clusters, trials = 250, 500
    truth = 0.95 * (0.03 - 0.06)
    missed = {"whole": 0, "single": 0}
    belongs = np.repeat(np.arange(clusters), 2)
    for trial in range(trials):
        gain = np.repeat(rng.choice([-1, 0, 1], p=[0.06, 0.91, 0.03], size=clusters), 2)
        own = rng.random(2 * clusters) < 0.05
        gain = np.where(own, rng.choice([-1, 1], size=2 * clusters), gain)
        for name, grouping in (("whole", belongs), ("single", np.arange(2 * clusters))):
            found = paired_bootstrap(gain, 0 * gain, grouping, draws=800, seed=trial)
            missed[name] += not found.low <= truth <= found.high
    assert missed["whole"] / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert missed["whole"] / trials >= 0.02
    assert missed["single"] > 1.5 * missed["whole"]


def test_the_bootstrap_of_rows_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(3)
    new, old = rng.random(400) < 0.8, rng.random(400) < 0.7
    gain = new.astype(float) - old
    plain = [gain[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    found = paired_bootstrap(new, old, np.arange(400), draws=4000)
    assert found.difference == pytest.approx(gain.mean())
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(plain, [0.025, 0.975])), abs=0.006
    )


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    new, old = rng.random((2, 5_000)) < 0.9
    clusters = rng.integers(0, 4_000, 5_000)
    first = paired_bootstrap(new, old, clusters)
    assert first == paired_bootstrap(new, old, clusters)


def test_no_difference_is_no_certainty() -> None:
    right = np.ones(100)
    found = paired_bootstrap(right, right, np.arange(100))
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 100))
    with pytest.raises(ValueError, match="no row was answered by both"):
        paired_bootstrap([], [], [])
    one = paired_bootstrap([1, 0], [0, 0], ["a", "a"])
    assert (one.difference, one.low, one.high) == (0.5, 0.5, 0.5)
