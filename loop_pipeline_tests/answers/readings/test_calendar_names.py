import pytest
from babel import Locale

from loop_pipeline.answers.readings.calendar_names import MONTHS, WEEKDAYS

SPACED = ("en", "de", "fr", "es", "ar", "hi")


@pytest.mark.parametrize("language", SPACED)
def test_months_are_those_of_cldr(language: str) -> None:
    months = Locale.parse(language).months
    for form in ("format", "stand-alone"):
        for width in ("wide", "abbreviated"):
            for number, name in months[form][width].items():
                assert MONTHS[name.lower().rstrip(".॰")] == number, name


@pytest.mark.parametrize("language", [*SPACED, "zh", "ja"])
def test_weekdays_are_those_of_cldr(language: str) -> None:
    for number, name in Locale.parse(language).days["format"]["wide"].items():
        assert (
            WEEKDAYS[name.lower().removesuffix("日") if language == "ja" else name.lower()]
            == number
        )
