import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from loop_pipeline.stats.paired import (
    RowsByUnit,
    bound_by_units,
    holm,
    lower_bound,
    mcnemar_worse,
    paired_bootstrap,
    worse_by_units,
)


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


def of_units(rng: np.random.Generator, unit: int, shared: float, loss: float) -> RowsByUnit:
    """1,000 rows of which 8% are discordant; those of a unit are won or lost together."""
    luck = np.sqrt(shared) * np.repeat(rng.normal(size=1000 // unit), unit)
    luck += np.sqrt(1 - shared) * rng.normal(size=1000)
    gain = (luck > norm.ppf(0.96 + loss / 2)).astype(int) - (luck < norm.ppf(0.04 + loss / 2))
    return RowsByUnit.of(gain, np.arange(1000) // unit)


@pytest.mark.parametrize(("unit", "shared"), [(1, 0.0), (5, 0.6), (10, 0.6), (5, 0.9), (10, 0.9)])
def test_a_loss_of_three_points_is_ruled_out_in_one_draw_of_twenty(
    unit: int, shared: float
) -> None:
    """With rows that count one by one it is in 7% to 18% of the draws."""
    rng, draws = np.random.default_rng(7), 1000
    lost = [of_units(rng, unit, shared, 0.03) for _ in range(draws)]
    passed = [r.gained - r.lost >= -10 and bound_by_units(r, 0.05) > -0.03 for r in lost]
    assert np.mean(passed) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    same = [worse_by_units(of_units(rng, unit, shared, 0.0)) <= 0.05 for _ in range(draws)]
    assert np.mean(same) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60))
def test_with_a_row_a_unit_the_tests_are_those_of_rows(gain: list[int]) -> None:
    rows = RowsByUnit.of(gain, range(len(gain)))
    assert worse_by_units(rows) == pytest.approx(mcnemar_worse(rows.gained, rows.lost))
    bound = lower_bound(rows.gained, rows.lost, len(gain), 0.05)
    assert bound_by_units(rows, 0.05) == pytest.approx(bound)


def test_units_of_several_rows_take_their_sign_as_a_whole() -> None:
    """Two units lost three rows each: both signs fall so with chance 1/4, not 1/64."""
    rows = RowsByUnit.of([-1, -1, -1, -1, -1, -1, 0, 0], [1, 1, 1, 2, 2, 2, 3, 4])
    assert worse_by_units(rows) == pytest.approx(1 / 4)
    assert worse_by_units(RowsByUnit.of([0, 0], [1, 2])) == 1


def test_one_giant_unit_proves_nothing() -> None:
    units = np.where(np.arange(1000) < 600, 0, np.arange(1000))
    assert bound_by_units(RowsByUnit.of(np.zeros(1000), units), 0.05) == -1
    assert bound_by_units(RowsByUnit.of(np.zeros(1000), np.arange(1000) // 5), 0.05) > -0.03


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
