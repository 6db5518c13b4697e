import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from loop_pipeline.training.gate import decide, holm, lower_bound, mcnemar_worse


def answers(agrees: np.ndarray, valid: np.ndarray | None = None) -> pd.DataFrame:
    ids = [f"p{i}" for i in range(len(agrees))]
    ok = np.ones(len(agrees), bool) if valid is None else valid
    return pd.DataFrame({"prompt_id": ids, "agrees": agrees, "valid": ok})


def students(
    rng: np.random.Generator, n: int, worse_by: float, *, errors: float = 0.07
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two students who share half of their errors; the candidate is worse by so much, truly."""
    draw = rng.random(n)
    own = errors / 2
    champion_wrong = draw < errors
    candidate_wrong = (draw > own) & (draw < errors + own + worse_by)
    valid = [rng.random(n) > 0.005 for _ in range(2)]
    return answers(~candidate_wrong, valid[0]), answers(~champion_wrong, valid[1])


@pytest.mark.parametrize(("n", "trials"), [(700, 200), (1500, 100)])
def test_a_worse_candidate_is_refused_and_an_equal_one_passes(n: int, trials: int) -> None:
    rng = np.random.default_rng(n)
    groups = pd.Series({f"p{i}": f"g{i % 6}" for i in range(n)})
    passed = {
        loss: sum(decide(*students(rng, n, loss), groups=groups).approved for _ in range(trials))
        for loss in (0.0, 0.03)
    }
    slack = 3 * math.sqrt(trials * 0.2 * 0.8)
    assert passed[0.0] >= 0.80 * trials - slack
    assert passed[0.03] <= 0.10 * trials + 3 * math.sqrt(trials * 0.1 * 0.9)


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


def test_few_rows_are_a_reason_of_their_own() -> None:
    right = np.ones(50, bool)
    decision = decide(answers(right), answers(right))
    assert not decision.approved
    assert "cannot be ruled out with 50 gold rows" in decision.reasons[0]
    assert decide(answers(np.ones(200, bool)), answers(np.ones(200, bool))).approved


def test_one_group_that_gets_worse_refuses_a_candidate_that_is_equal_overall() -> None:
    n, group = 2000, np.arange(2000) // 200
    champion, candidate = np.ones(n, bool), np.ones(n, bool)
    champion[:60] = False  # group 0 gains 60 ...
    candidate[200:250] = False  # ... group 1 loses 50 of 200
    groups = pd.Series([f"g{g}" for g in group], index=[f"p{i}" for i in range(n)])
    decision = decide(answers(candidate), answers(champion), groups=groups)
    assert not decision.approved
    assert decision.reasons[0].startswith("Worse by more than 3 points in a group: g1: -25.0")
    assert decide(answers(candidate), answers(champion)).approved
    few = groups.where(groups != "g1")  # rows without a group are judged together only
    assert decide(answers(candidate), answers(champion), groups=few).approved


def test_broken_contracts_refuse() -> None:
    right = np.ones(1000, bool)
    invalid = np.arange(1000) >= 12
    decision = decide(answers(right, invalid), answers(right))
    assert not decision.approved
    assert decision.reasons[0].startswith("98.8% of the answers keep their contract")


def test_without_a_champion_the_base_has_to_be_beaten() -> None:
    base = answers(np.arange(1000) < 300)
    assert decide(answers(np.arange(1000) < 900), None, base=base).approved
    same = decide(answers(np.arange(1000) < 305), None, base=base)
    assert same.approved is True  # five rows gained, none lost: p = 1/32
    worse = decide(answers(np.arange(1000) < 300), None, base=base)
    assert not worse.approved
    assert "not significantly better" in worse.reasons[0]
    with pytest.raises(ValueError, match="answer the gold rows with the base model first"):
        decide(base, None)


def test_only_rows_both_answered_count() -> None:
    new, old = answers(np.ones(400, bool)), answers(np.arange(400) >= 100)
    decision = decide(new, old.iloc[100:])
    assert (decision.figures["n"], decision.figures["difference"]) == (300, 0.0)
    other = old.assign(prompt_id="x" + old["prompt_id"])
    none = decide(new, other)
    assert not none.approved
    assert none.reasons == ["No gold row was answered by both the candidate and the champion."]


def test_unusable_frames_are_refused_by_name() -> None:
    right = answers(np.ones(10, bool))
    with pytest.raises(ValueError, match=r"lack the columns \['valid'\]"):
        decide(right.drop(columns="valid"), right)
    with pytest.raises(ValueError, match="'p0' is answered twice"):
        decide(pd.concat([right, right]), right)


def test_figures_are_plain_json() -> None:
    rng = np.random.default_rng(0)
    groups = pd.Series({f"p{i}": f"g{i % 3}" for i in range(700)})
    decision = decide(*students(rng, 700, 0.0), groups=groups)
    again = json.loads(json.dumps({"reasons": decision.reasons, "figures": decision.figures}))
    assert again["figures"]["n"] == 700
    assert len(again["figures"]["groups"]) == 3


def test_holm() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([])).shape == (0,)
