"""Two groups are seen, one continuum is not."""

from __future__ import annotations

import numpy as np

from loop_pipeline.labels.hallucination.habits.two_groups import two_groups


def test_groups_that_were_made_are_found() -> None:
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(-3, 0.5, 60), rng.normal(2, 1.5, 240)])
    found = two_groups(numbers)
    assert found.gain > 0.1
    assert found.apart > 2
    assert np.allclose(found.means, (-3, 2), atol=0.3)
    assert np.allclose(found.spreads, (0.5, 1.5), atol=0.3)
    assert np.allclose(found.shares, (0.2, 0.8), atol=0.05)
    assert two_groups(rng.permutation(numbers)) == found


def test_one_group_is_one() -> None:
    rng = np.random.default_rng(1)
    gains = [two_groups(rng.normal(0, 2, 300)).gain for _ in range(20)]
    assert max(gains) < 0.05


def test_equal_numbers_are_no_two_groups() -> None:
    assert two_groups(np.zeros(40)).gain < 0
