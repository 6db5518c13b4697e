"""Traffic made with known truth: which templates do words tell of, and what do they tell?"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.habits.wording_habit import (
    MIN_ANSWERS,
    STRICT,
    UNKNOWN,
    Habit,
    Said,
    learn_habit,
    learn_habits,
    usual_stems,
)
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_score import shipped

SYLLABLES = [a + b for a in "bdfgklmnprtvz" for b in "aeiou"]
ROWS = 240


def words_of(rng: random.Random, number: int) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=3)) for _ in range(number)]


def copied(rng: random.Random, source: list[str]) -> list[str]:
    start = rng.randrange(len(source) - 12)
    return source[start : start + 12]


def reworded(rng: random.Random, source: list[str], least: float, most: float) -> list[str]:
    """Some words of the source in an order of their own, the others new."""
    new = round(12 * rng.uniform(least, most))
    found = rng.sample(source, 12 - new) + words_of(rng, new)
    rng.shuffle(found)
    return found


def invented(rng: random.Random, source: list[str]) -> list[str]:
    return copied(rng, source)[: rng.randint(2, 7)] + words_of(rng, 8)


def template(
    good: Callable[[random.Random, list[str]], list[str]],
    share_invented: float = 0.0,
    share_foreign: float = 0.0,
    seed: int = 0,
) -> tuple[list[Said], np.ndarray]:
    """Answers and which of them are bad: inventions, then such that rest on another source."""
    rng = random.Random(seed)
    sources = [words_of(rng, 80) for _ in range(ROWS)]
    said, bad = [], []
    for i, source in enumerate(sources):
        draw = rng.random()
        bad.append(draw < share_invented + share_foreign)
        maker = invented if draw < share_invented else good
        rests_on = (
            sources[i - 1] if share_invented <= draw < share_invented + share_foreign else source
        )
        said.append(Said(" ".join(maker(rng, rests_on)) + ".", " ".join(source) + "."))
    return said, np.array(bad)


def paraphrase(rng: random.Random, source: list[str]) -> list[str]:
    return reworded(rng, source, 0.05, 0.6)


def open_ended(rng: random.Random, source: list[str]) -> list[str]:
    return reworded(rng, source, 0.85, 1.0)


def flagged(said: list[Said], make_traces: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    rows = [
        {"output": one.output, "context": one.source, "template_hash": "t", "messages": []}
        for one in said
    ]
    return flag_hallucinations(make_traces(*rows), tiers=Tiers())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.8])
def test_where_answers_copy_the_line_holds_however_many_are_invented(make_traces, share) -> None:
    said, bad = template(copied, share_invented=share)
    assert learn_habit(said, shipped()).told == "words"
    flags = flagged(said, make_traces)
    assert not flags["flag"][~bad].any()
    assert flags["flag"][bad].all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_rewording_is_not_invention_and_a_wrong_source_is_found(make_traces, share) -> None:
    said, bad = template(paraphrase, share_foreign=share)
    assert learn_habit(said, shipped()).told == "source"
    flags = flagged(said, make_traces)
    assert (flags["score"][~bad] >= 0.5).mean() > 0.2  # the score alone flags a fifth and more
    assert flags["flag"][~bad].mean() <= 0.02
    assert not share or flags["flag"][bad].mean() >= 0.9
    unsure = flags["grounded"] == "cannot_tell"
    assert set(flags["grounded"][~bad]) >= {"yes", "cannot_tell"}
    assert flags.loc[unsure, "reasons"].map(str).str.contains("worded freely").all()


def test_what_does_not_retell_its_source_is_never_called_made_up(make_traces) -> None:
    said, _ = template(open_ended)
    assert learn_habit(said, shipped()).told == "nothing"
    flags = flagged(said, make_traces)
    assert set(flags["grounded"]) == {"cannot_tell"}
    assert not flags["flag"].any()
    assert (flags["score"] == 0.5).all()


def test_few_answers_are_flagged_only_without_any_relation(make_traces) -> None:
    said, _ = template(paraphrase)
    few = said[: MIN_ANSWERS - 1]
    assert learn_habit(few, shipped()) == UNKNOWN
    assert not flagged(few, make_traces)["flag"].any()
    stranger = Said(few[0].output, said[-1].source)
    assert flagged([*few[1:], stranger], make_traces)["flag"].tolist()[-1]


def test_templates_of_one_answer_each_are_looked_at_together() -> None:
    said, _ = template(copied, share_invented=0.2)
    habits = learn_habits([(f"t{i}", one) for i, one in enumerate(said)], shipped())
    assert len(habits) == ROWS
    assert {habit.told for habit in habits.values()} == {"words"}


def test_the_order_of_rows_changes_nothing() -> None:
    said, _ = template(paraphrase, share_foreign=0.2)
    mixed = random.Random(5).sample(said, len(said))
    assert learn_habit(mixed, shipped()) == learn_habit(said, shipped())
    assert learn_habit(mixed, shipped()).version == learn_habit(said, shipped()).version


def test_answers_to_one_source_are_one_voice_about_the_form() -> None:
    same = [Said(f"The kettle leaks {i}.", "a kettle") for i in range(200)]
    assert usual_stems(same) == frozenset()
    forms = [Said("Customer asks about it.", f"kettle {i}") for i in range(40)]
    assert {"customer"} <= usual_stems(forms)


def test_a_flag_names_the_habit_it_was_made_by(make_traces) -> None:
    row = {"output": "The lamp came.", "context": "The lamp came on Monday.", "template_hash": "t"}
    [plain] = flag_hallucinations(make_traces(row), tiers=Tiers())["version"]
    other = Habit(told="nothing", sources=90)
    flags = flag_hallucinations(make_traces(row), tiers=Tiers(), habits={"t": other})
    assert plain == f"{Tiers().version} habit-{UNKNOWN.version}"
    assert flags["version"].tolist() == [f"{Tiers().version} habit-{other.version}"]
    assert flags["grounded"].tolist() == ["cannot_tell"]


def test_reviews_of_a_template_go_before_its_habit(make_traces) -> None:
    said, _ = template(paraphrase)
    strange = next(o for o in said if flagged([o], make_traces)["grounded"][0] == "cannot_tell")
    detector = shipped()
    own = detector.calibration | {"t": detector.calibration[""]}
    tiers = Tiers(detector.model_copy(update={"calibration": own}))
    row = {
        "output": strange.output,
        "context": strange.source,
        "template_hash": "t",
        "messages": [],
    }
    assert flag_hallucinations(make_traces(row), tiers=tiers)["grounded"].tolist() == ["no"]
    assert STRICT.told == "words"
