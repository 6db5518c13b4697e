"""What many answers to a template have in common is their form."""

from __future__ import annotations

from loop_pipeline.gateway.asking import answer_forms
from loop_pipeline.gateway.asking.answer_forms import EVERY, AnswerForms
from loop_pipeline.labels.hallucination.habits.wording_habit import STRICT, Habit, Said, usual_stems


def say(number: int) -> Said:
    return Said(f"Customer asks for item{number}.", f"I want item{number}")


def test_it_is_what_the_offline_check_learns_from_the_same_answers() -> None:
    forms = AnswerForms()
    for number in range(3 * EVERY):
        assert (not forms.habit("t").form) == (number < EVERY)
        forms.saw("t", *say(number))
    assert forms.habit("t").form == usual_stems([say(i) for i in range(3 * EVERY)])
    assert forms.habit("other") == STRICT


def test_old_answers_and_old_templates_are_forgotten() -> None:
    forms = AnswerForms()
    for number in range(answer_forms.KEPT):
        forms.saw("t", *say(number))
    refunds = [Said("Refund of the order.", f"order {i}") for i in range(2 * answer_forms.KEPT)]
    for refund in refunds:
        forms.saw("t", *refund)
    assert forms.habit("t").form == usual_stems(refunds)
    for number in range(answer_forms.MOST_TEMPLATES):
        forms.saw(f"t{number}", "x", "y")
    assert forms.habit("t") == STRICT
    assert len(forms._answers) == answer_forms.MOST_TEMPLATES


def test_what_the_daily_step_learned_goes_before_what_a_worker_saw() -> None:
    learned: dict[str, Habit] = {}
    forms = AnswerForms(lambda: learned)
    for number in range(EVERY):
        forms.saw("t", *say(number))
    learned["t"] = Habit(told="source", sources=400)
    assert forms.habit("t") == learned["t"]
    forms.saw("t", *say(1))
    assert forms._answers == {}
