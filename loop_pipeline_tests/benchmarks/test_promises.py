"""The table of promises: worlds are as they say, a broken promise is seen, a kept one is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from benchmarks import promises, record
from benchmarks.promise_worlds import (
    INDEPENDENT,
    NOISY,
    REPEATS,
    UNITS,
    WORLDS,
    Cell,
    World,
    latent,
    mean,
    repeated,
    rows,
    share,
    true_error,
)
from benchmarks.promises import PROMISES, Promise

SOME = 20_000


def broken_in(chance: float, allowed: float | None = 0.05) -> Promise:
    """A promise that is broken with a known chance."""

    def measure(world: World, draws: int, rng: np.random.Generator) -> Cell:
        return share(int((rng.random(draws) < chance).sum()), draws, allowed)

    return Promise("made up", measure, 400, (INDEPENDENT,))


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("chance", "allowed", "verdict", "code"),
    [
        (0.15, 0.05, "OVER", 1),
        (0.05, 0.05, "kept", 0),
        (0.0, 0.05, "kept", 0),
        (0.15, None, "not promised", 0),
    ],
)
def test_a_promise_that_is_broken_more_often_than_allowed_fails_the_command(
    chance: float, allowed: float | None, verdict: str, code: int, results: Path
) -> None:
    assert promises.main([], [broken_in(0.0), broken_in(chance, allowed)]) == code
    stored = json.loads((results / "promises.json").read_text())
    assert [row["verdict"] for row in stored["tables"][0]["rows"]] == ["kept", verdict]


def test_a_quick_run_says_as_much_and_writes_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promises.main(["--quick"], [broken_in(1.0)]) == 1
    assert "1 of 1 cells are over" in capsys.readouterr().out
    assert not list(results.iterdir())


def test_chance_alone_is_seldom_called_over_and_a_doubled_share_nearly_always_is() -> None:
    rng = np.random.default_rng(0)
    called = {
        chance: np.mean([share(int(rng.binomial(400, chance)), 400).over for _ in range(2_000)])
        for chance in (0.05, 0.12)
    }
    assert called[0.05] <= 0.005
    assert called[0.12] >= 0.95


def test_a_mean_has_the_interval_of_three_standard_errors() -> None:
    values = np.random.default_rng(1).normal(0.03, 0.01, 400)
    cell = mean(values, 0.02)
    assert cell.over
    assert cell.high - cell.low == pytest.approx(6 * 0.01 / 20, rel=0.1)
    assert not mean(values, 0.03).over


@pytest.mark.parametrize("world", [INDEPENDENT, *UNITS, NOISY], ids=lambda world: world.name)
def test_rows_are_wrong_as_often_as_the_truth_says(world: World) -> None:
    drawn = rows(np.random.default_rng(2), world, SOME)
    slack = 4 * np.sqrt(0.1 * 0.9 * world.unit / SOME)
    for at in (0.0, 0.3):
        taken = drawn.score >= at
        assert drawn.wrong[taken].mean() == pytest.approx(true_error(at, world), abs=slack)


def test_units_have_the_correlation_they_say_and_others_have_none() -> None:
    z, unit = latent(np.random.default_rng(3), SOME, 5, 0.6)
    assert np.corrcoef(z[:-1:5], z[1::5])[0, 1] == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(z[4:-5:5], z[5:-4:5])[0, 1] == pytest.approx(0.0, abs=0.05)
    assert (np.bincount(unit) == 5).all()
    assert (z < ndtri(0.1)).mean() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("world", REPEATS[:-1], ids=lambda world: world.name)
def test_repeated_requests_are_drawn_by_how_often_they_are_asked(world: World) -> None:
    drawn, traffic = repeated(np.random.default_rng(4), world, SOME)
    assert drawn.times.sum() == SOME
    assert len(np.unique(drawn.unit)) == len(drawn.unit)
    assert traffic.weight.sum() == pytest.approx(1)
    seen = np.average(drawn.wrong, weights=drawn.times)
    assert seen == pytest.approx(true_error(-1.0, world, traffic), abs=0.01)


def test_a_request_that_is_held_out_whole_has_all_its_repeats() -> None:
    drawn, traffic = repeated(np.random.default_rng(5), REPEATS[-1], SOME)
    asked = drawn.times.sum() / (10 * len(traffic.weight))
    assert traffic.weight[drawn.unit].sum() == pytest.approx(asked, abs=0.03)
    assert len(drawn.unit) == pytest.approx(SOME * 0.75, rel=0.2)


def test_every_promise_can_be_tried_and_every_world_tries_one() -> None:
    tried = {world for promise in PROMISES for world in promise.worlds}
    assert tried == set(WORLDS)
    one_each = [promise._replace(worlds=promise.worlds[:1], draws=2) for promise in PROMISES]
    lines = promises.measured(one_each)
    assert [line["promise"] for line in lines] == [promise.name for promise in PROMISES]
    assert all(line["broken low"] <= line["broken"] <= line["broken high"] for line in lines)
