"""Personal data that is hidden from a student and from the disk, and given back in its answer.

Not here: what counts as personal data; that is what hides it.

A student is asked what it was trained on: texts with placeholders such as ``<EMAIL_1>``. What it
answers with them goes out with the values of the request, which are in memory only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from loop_pipeline.answers.contract import check_contract

Values = dict[str, str]
"""What each placeholder of a request stands for."""

Hide = Callable[[str, Values], str]
"""Takes personal data out of a text. It adds to the values what it has put in, and puts the same
placeholder again where a value is there already: the texts of a request come one after the other.
"""

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_\d+>")


def as_it_is(text: str, values: Values) -> str:
    """Hides nothing."""
    del values
    return text


def hidden(value: Any, hide: Hide, values: Values) -> Any:
    """Every text in it hidden; names of fields stay."""
    if hide is as_it_is:
        return value
    if isinstance(value, str):
        return hide(value, values)
    if isinstance(value, list):
        return [hidden(item, hide, values) for item in value]
    if isinstance(value, dict):
        return {name: hidden(item, hide, values) for name, item in value.items()}
    return value


def given_back(answer: str, values: Mapping[str, str] | None) -> str:
    """The answer with the values of the request; None: nothing was hidden."""
    if not values:
        return answer
    return _PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), answer)


def not_to_be_given(
    answer: str,
    values: Mapping[str, str] | None,
    *,
    asked: str,
    raw: str,
    contract: Mapping[str, Any] | None,
) -> str | None:
    """Why an answer cannot go out with the values of its request; None if it can.

    Args:
        answer: as the student gave it.
        values: of the request; None: nothing hides anything here.
        asked: the text that the student was asked.
        raw: the text of the request as it came.
        contract: of the answer. A value may have a quote that ends a JSON string.
    """
    if values is None:
        return None
    for name in _PLACEHOLDER.findall(answer):
        if name not in values and name not in asked:
            return f"it holds {name}, which the request does not"
    full = given_back(answer, values)
    if full != answer and (broken := check_contract(full, contract, raw)):
        return f"with the values of the request {broken[0]}"
    return None
