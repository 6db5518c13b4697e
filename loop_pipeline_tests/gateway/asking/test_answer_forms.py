"""What many answers to a template have in common is their form."""

from __future__ import annotations

from loop_pipeline.gateway.asking import answer_forms
from loop_pipeline.gateway.asking.answer_forms import AnswerForms
from loop_pipeline.labels.hallucination.wording_features import usual_stems


def say(number: int) -> str:
    return f"Customer asks for item{number}."


def test_it_is_what_the_offline_check_learns_from_the_same_answers() -> None:
    forms = AnswerForms()
    for number in range(60):
        assert (not forms.usual("t")) == (number < 20)
        forms.saw("t", say(number))
    assert forms.usual("t") == usual_stems([say(i) for i in range(60)])
    assert forms.usual("other") == frozenset()


def test_old_answers_and_old_templates_are_forgotten() -> None:
    forms = AnswerForms()
    for number in range(answer_forms.KEPT):
        forms.saw("t", say(number))
    for _ in range(answer_forms.KEPT):
        forms.saw("t", "Refund of the order.")
    assert forms.usual("t") == usual_stems(["Refund of the order."] * 20)
    for number in range(answer_forms.MOST_TEMPLATES):
        forms.saw(f"t{number}", "x")
    assert forms.usual("t") == frozenset()
    assert len(forms._answers) == answer_forms.MOST_TEMPLATES
