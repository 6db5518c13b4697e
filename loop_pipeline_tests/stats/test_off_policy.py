"""Off-policy estimates on simulated logs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from loop_pipeline.stats.off_policy import Logged, effective_size, estimate, outcome_model, refusal

DRAWS = 150
# The product shadows 2% of what the student serves; its check asks for an effective sample of 200.
PRODUCT_COIN, PRODUCT_ROWS = 0.02, 10_000
RARE = 4.5  # about 98% of the answers agree


def chance(x, group, level=1.5):
    return 1 / (1 + np.exp(-(level + 1.2 * x + 0.5 * (group == 1))))


def logged(seed, n=3_000, *, coin=0.1, wrong=False):
    """Hard requests were always observed, easy ones only by the shadow coin."""
    rng = np.random.default_rng(seed)
    x, group = rng.normal(size=n), rng.integers(0, 3, n)
    good = (rng.random(n) < chance(x, group)).astype(float)
    p = np.where(x < 0, 1.0, coin)
    reward = np.where(rng.random(n) < p, good, np.nan)
    features = rng.normal(size=(n, 2)) if wrong else np.column_stack([x, group == 1])
    guess = outcome_model(reward, p, features, group, clusters=np.arange(n))
    return Logged(reward, p, guess), x


@pytest.fixture(scope="module")
def truth() -> float:
    rng = np.random.default_rng(99)
    return chance(rng.normal(size=2_000_000), rng.integers(0, 3, 2_000_000)).mean()


@pytest.mark.parametrize("wrong", [False, True], ids=["good model", "useless model"])
def test_both_cover_the_truth_that_the_plain_mean_misses(truth, wrong):
    found = [estimate(*logged(seed, wrong=wrong)[0]) for seed in range(DRAWS)]
    naive = np.mean([np.nanmean(logged(seed)[0].reward) for seed in range(20)])
    assert naive < truth - 0.08
    at_most_missed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)
    for kind in ("snips", "dr"):
        values = np.array([getattr(e, kind) for e in found])
        missed = [
            not getattr(e, f"{kind}_low") <= truth <= getattr(e, f"{kind}_high") for e in found
        ]
        assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(DRAWS)
        assert np.mean(missed) <= at_most_missed
    width = {k: np.mean([getattr(e, f"{k}_high") - getattr(e, f"{k}_low") for e in found])
             for k in ("snips", "dr")}  # fmt: skip
    if not wrong:
        assert width["dr"] < 0.97 * width["snips"]


def test_the_coin_of_the_product_covers_the_truth_as_well(truth):
    found = [estimate(*logged(seed, PRODUCT_ROWS, coin=PRODUCT_COIN)[0]) for seed in range(DRAWS)]
    assert all(refusal(e.effective, e.max_weight) is None for e in found)
    for kind in ("snips", "dr"):
        values = np.array([getattr(e, kind) for e in found])
        missed = [
            not getattr(e, f"{kind}_low") <= truth <= getattr(e, f"{kind}_high") for e in found
        ]
        assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(DRAWS)
        assert np.mean(missed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)


def both_sources(rng, gold, live, level=RARE):
    """Gold requests, always answered by everybody, and live ones that the 2% coin shadowed."""
    source = np.repeat(["gold", "live"], [gold, live])
    p = np.where(source == "gold", 1.0, PRODUCT_COIN)
    x, group = rng.normal(size=len(p)), rng.integers(0, 3, len(p))
    good = (rng.random(len(p)) < chance(x, group, level)).astype(float)
    reward = np.where(rng.random(len(p)) < p, good, np.nan)
    features = np.column_stack([x, group == 1])
    guess = outcome_model(reward, p, features, group, clusters=np.arange(len(p)))
    return Logged(reward, p, guess), source


def mean_chance(level):
    rng = np.random.default_rng(99)
    return chance(rng.normal(size=2_000_000), rng.integers(0, 3, 2_000_000), level).mean()


@pytest.mark.parametrize(
    ("gold", "live", "level"),
    [(1_000, 2_000, RARE), (1_000, 10_000, RARE), (0, 10_000, RARE), (0, 10_000, 6.0)],
)
def test_rare_errors_are_covered_at_the_coin_of_the_product(gold, live, level):
    """About 98% agree, in the last case 99.6%: 200 shadowed requests hold one error or none."""
    real, missed = mean_chance(level), {"snips": 0, "dr": 0}
    for seed in range(DRAWS):
        part, source = both_sources(np.random.default_rng(seed), gold, live, level)
        found = estimate(*part, sources=source)
        for kind in missed:
            low, high = getattr(found, f"{kind}_low"), getattr(found, f"{kind}_high")
            missed[kind] += not low <= real <= high
    assert max(missed.values()) / DRAWS <= 0.07 + 2 * np.sqrt(0.05 * 0.95 / DRAWS)


def test_more_evidence_never_turns_a_pass_into_a_refusal():
    rng = np.random.default_rng(0)
    before = 0.0
    for live in (0, 500, 2_000, 5_000, 10_000):
        part, source = both_sources(rng, 1_000, live)
        found = estimate(*part, sources=source)
        assert refusal(found.effective, found.max_weight) is None, live
        assert found.effective >= max(before - 20, 1_000), "rows only add"
        before = found.effective


def test_sources_are_weighed_by_what_each_is_worth():
    """1,000 direct observations at 0.9, and 50 that were drawn with chance 0.02, at 0.5."""
    reward = np.concatenate([np.arange(1_000) >= 100, np.arange(50) % 2, np.full(2_450, np.nan)])
    reward = reward.astype(float)
    p = np.repeat([1.0, 0.02], [1_000, 2_500])
    found = estimate(reward, p, np.full(3_500, 0.8), sources=p)
    assert found.snips == pytest.approx((1_000 * 0.9 + 50 * 0.5) / 1_050)
    assert found.effective == pytest.approx(1_050)
    few = estimate(reward[:1_200], p[:1_200], np.full(1_200, 0.8), sources=p[:1_200])
    assert few.snips == pytest.approx(0.9), "of 200 requests the coin shows about four: too few"


@pytest.mark.parametrize(("unit", "shared"), [(5, 0.6), (10, 0.6), (5, 0.9)])
def test_conversations_that_err_together_are_covered(unit, shared):
    rng, rows, missed, loose = np.random.default_rng(4), 1_000, 0, 0
    names = np.arange(rows) // unit
    for _ in range(250):
        luck = np.sqrt(shared) * np.repeat(rng.normal(size=rows // unit), unit)
        luck += np.sqrt(1 - shared) * rng.normal(size=rows)
        reward = (luck < norm.ppf(0.93)).astype(float)
        found = estimate(reward, np.ones(rows), np.full(rows, 0.93), clusters=names)
        alone = estimate(reward, np.ones(rows), np.full(rows, 0.93))
        missed += not found.dr_low <= 0.93 <= found.dr_high
        loose += not alone.dr_low <= 0.93 <= alone.dr_high
    assert missed / 250 <= 0.07 + 2 * np.sqrt(0.05 * 0.95 / 250)
    assert loose > 1.5 * missed, "rows counted one by one are too sure"


def test_a_mean_within_what_is_served(truth):
    """Of a mean over some of the requests numerator and denominator are both estimated."""
    del truth
    missed, values = [], []
    rng = np.random.default_rng(5)
    x = rng.normal(size=2_000_000)
    group = rng.integers(0, 3, len(x))
    real = chance(x, group)[x > -0.5].mean()
    for seed in range(DRAWS):
        part, x = logged(seed)
        serves = (x > -0.5).astype(float)
        inside = Logged(serves, np.ones(len(x)), serves)
        right = Logged(part.reward * serves, part.propensity, part.predicted * serves)
        found = estimate(*right, within=inside)
        values.append(found.dr)
        missed.append(not found.dr_low <= real <= found.dr_high)
        assert found.observed == (np.isfinite(part.reward) & (serves == 1)).sum()
    assert np.mean(values) == pytest.approx(real, abs=0.005)
    assert np.mean(missed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)


def test_where_everything_was_observed_all_of_it_is_the_plain_mean():
    rng = np.random.default_rng(0)
    reward, ones = (rng.random(400) < 0.9).astype(float), np.ones(400)
    found = estimate(reward, ones, np.full(400, 0.3))
    assert (found.snips, found.dr) == pytest.approx((reward.mean(), reward.mean()))
    half = 1.96 * reward.std() / 20
    assert (found.dr_high - found.dr_low) / 2 == pytest.approx(half, rel=0.01)
    assert found.dr - found.dr_low > found.dr_high - found.dr, "errors are the rarer kind"
    assert (found.effective, found.max_weight) == (400, 1)


def test_the_effective_sample_is_kishs():
    assert effective_size(np.array([1.0, 1.0, 2.0, 0.0])) == pytest.approx(16 / 6)
    assert effective_size(np.zeros(3)) == 0
    reward = np.concatenate([np.ones(100), [1.0, 0.0], np.full(98, np.nan)])
    p = np.concatenate([np.ones(100), np.full(100, 0.02)])
    found = estimate(reward, p, np.full(200, 0.5))
    assert found.effective == pytest.approx(200**2 / (100 + 2 * 2_500))
    assert found.max_weight == pytest.approx(50)
    assert found.snips == pytest.approx(150 / 200)


def test_copies_of_a_request_are_one_observation():
    rng = np.random.default_rng(1)
    reward = np.repeat((rng.random(300) < 0.8).astype(float), 9)
    ones, names = np.ones(len(reward)), np.repeat(np.arange(300), 9)
    alone = estimate(reward[::9], ones[::9], ones[::9])
    assert estimate(reward, ones, ones, clusters=names).dr_high == pytest.approx(alone.dr_high)
    assert estimate(reward, ones, ones).dr_high < alone.dr_high


def test_rewards_that_never_vary_still_leave_doubt():
    found = estimate(np.ones(60), np.ones(60), np.ones(60))
    assert found.dr == 1
    assert 0.93 < found.dr_low < 0.95  # exact binomial of 60 of 60


def test_with_few_rows_the_model_is_the_mean_of_the_group():
    reward = np.array([1.0, 1, 1, 1, 0, 0, 0, 0] * 3)
    groups = np.array(["a"] * 4 + ["b"] * 4)
    guess = outcome_model(
        reward, np.ones(24), np.zeros((24, 8)), np.tile(groups, 3), clusters=np.arange(24)
    )
    assert (guess[:4] > 0.5).all()
    assert (guess[4:8] < 0.5).all()


def test_the_model_never_sees_the_row_it_guesses():
    rng = np.random.default_rng(3)
    reward, x = (rng.random(200) < 0.5).astype(float), rng.normal(size=(200, 3))
    names = np.arange(200) // 2
    one = outcome_model(reward, np.ones(200), x, names, clusters=names)
    changed = reward.copy()
    changed[:2] = 1 - changed[:2]
    other = outcome_model(changed, np.ones(200), x, names, clusters=names)
    assert one[:2] == pytest.approx(other[:2], abs=1e-12)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("effective", "weight", "says"),
    [
        (199.4, 1.0, "worth 199 direct observations of this policy, at least 200"),
        (5_000.0, 51.0, "count for 51, at most 50 is allowed"),
        (200.0, 50.0, None),
    ],
)
def test_what_is_too_weak_is_refused_in_words(effective, weight, says):
    found = refusal(effective, weight)
    assert found is None if says is None else says in str(found)


def test_nothing_observed_is_an_error_and_so_is_no_chance():
    with pytest.raises(ValueError, match="no reward was observed"):
        estimate(np.full(3, np.nan), np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="not in"):
        estimate(np.ones(3), np.array([1.0, 0.0, 1.0]), np.zeros(3))
