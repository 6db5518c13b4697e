"""Reading JSON that anyone may have written: every getter gives the type it promises.

Not here: what a field means (the module of each wire format).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from loop_pipeline.gateway.formats.exchange import BadRequest

# Larger counts are no counts of tokens, and a database's integer does not hold them.
MAX_COUNT = 2**31 - 1

# orjson writes 254 levels: what is nested deeper can be read, but not be kept in a trace.
MAX_DEPTH = 240

# A field's name stands in a header and in the trace; what is not like this is not repeated there.
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")

Check = Callable[[Any], bool]


def load(body: bytes) -> tuple[Any, bool]:
    """The JSON value of some bytes, and whether they keep the standard to the letter.

    Half of a surrogate pair, which JavaScript writes when a text is cut inside an emoji, becomes a
    question mark: such a text cannot be stored. All values that come back can be written again.

    Raises:
        ValueError: these bytes are no JSON, or are nested too deep, or hold an infinite number.
    """
    strict = True
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        strict, value = False, _load_leniently(body, error)
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value, strict


def _load_leniently(body: bytes, reason: Exception) -> Any:
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"))
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise ValueError(str(reason)) from None


def _check_depth(value: Any) -> None:
    try:
        orjson.dumps([[[[[[[[[[value]]]]]]]]]])  # a trace holds it some levels down
    except TypeError:
        raise ValueError(f"nested over {MAX_DEPTH} deep") from None


def load_request(body: bytes) -> tuple[dict[str, Any], bool]:
    """The JSON object of a request, and whether it keeps the standard to the letter.

    Raises:
        BadRequest: it is no JSON object.
    """
    try:
        value, strict = load(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    return value, strict


def load_reply(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    try:
        return as_dict(load(body)[0])
    except ValueError:
        return {}


def model_of(body: Mapping[str, Any]) -> str:
    """The model that is asked for.

    Raises:
        BadRequest: there is none.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' is missing or is no text", "model")
    return model


def messages_of(body: Mapping[str, Any], field: str = "messages") -> list[dict[str, Any]]:
    """The messages as they came, each an object with a role.

    Raises:
        BadRequest: names the message that is none.
    """
    messages = body.get(field)
    if not isinstance(messages, list) or not messages:
        raise BadRequest(f"'{field}' is missing or is no list with something in it", field)
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadRequest(f"'{field}[{number}]' is no object", f"{field}[{number}]")
        if not isinstance(message.get("role"), str):
            raise BadRequest(f"'{field}[{number}].role' is no text", f"{field}[{number}].role")
        if not isinstance(message.get("content"), str | list | None):
            at = f"{field}[{number}].content"
            raise BadRequest(f"'{at}' is neither text nor a list of parts", at)
    return messages


def first_obstacle(body: Mapping[str, Any], askable: Mapping[str, Check]) -> str | None:
    """The first field that a student may not be asked with: unknown, or its check fails.

    A field that is null counts as not given.
    """
    for name, value in body.items():
        if value is None:
            continue
        check = askable.get(name)
        if check is None or not check(value):
            return field_name(name)
    return None


def field_name(name: str) -> str:
    """The name of a field, if it looks like one."""
    return name if _NAME.match(name) else "a field with an odd name"


def chosen(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of these fields that are given."""
    return {name: body[name] for name in names if body.get(name) is not None}


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """The value if it is text, else none."""
    return value if isinstance(value, str) else ""


def text_or_none(value: Any) -> str | None:
    """The value if it is text with something in it."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int:
    """The value if it can be a count of tokens, else 0."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0


def smallest_count(*values: Any) -> int | None:
    """The smallest of those that are counts over 0, if any."""
    return min((value for value in values if count(value)), default=None)


def stops_of(value: Any) -> tuple[str, ...]:
    """Stop strings, given as one or as a list."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(stop for stop in as_list(value) if isinstance(stop, str) and stop)


def anything(value: Any) -> bool:
    """True: the field is no obstacle, or is looked at elsewhere."""
    return value is not None


def is_bool(value: Any) -> bool:
    """True or false."""
    return value is True or value is False


def is_text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def is_int(value: Any) -> bool:
    """A whole number; booleans are none."""
    return type(value) is int


def is_limit(value: Any) -> bool:
    """A count of tokens over 0."""
    return count(value) > 0


def is_share(value: Any) -> bool:
    """A number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def is_zero(value: Any) -> bool:
    """The number 0."""
    return type(value) in (int, float) and value == 0


def is_object(value: Any) -> bool:
    """A JSON object."""
    return isinstance(value, dict)


def is_empty(value: Any) -> bool:
    """An empty list or object."""
    return value == [] or value == {}


def is_false(value: Any) -> bool:
    """False, not 0."""
    return value is False


def is_stop(value: Any) -> bool:
    """One stop string or a list of them, none of them empty."""
    given = [value] if isinstance(value, str) else value
    return isinstance(given, list) and len(stops_of(given)) == len(given)
