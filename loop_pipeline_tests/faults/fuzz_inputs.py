"""Damaged inputs by the hundred thousand: each is made from its number, and again the same.

Not here: what is done with them (``fuzz_targets.py``), and how many (``test_fuzz.py``).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 1e308, -0.0, 0.1),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "0", "null", "NaN", "true", "\0"),
    *([], {}, [[]], [None], {"": None}, [{}], {"a": {"b": []}}, "\ud83d", "\udc00x", "e\u0301"),
    *("\u2028", "\x85", "\ufeff", "\u202e", "\x1b[31m", "=1+1", "x" * 3000, "é" * 900, "👍🏽"),
    *("2026-09-04T08:30:00Z", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", 1788510600),
    *(1788510600123456789, "2026-02-30T00:00:00Z", "Fri, 04 Sep 2026 08:30:00 +0200", "24:00"),
    *("frontier", "review", "accepted", "dwell", "chatcmpl-x", ["text"], {"type": "text"}),
    *([{"type": "text", "text": "x"}], [{"role": "user", "content": "x"}], {"kind": "label"}),
    {"kind": "json", "schema": {"pattern": "(a|aa)+$"}},
)
FIELDS = (
    *("prompt_id", "ts", "messages", "output", "model", "user", "contract", "tokens_in", "kind"),
    *("tokens_cached", "cost_usd", "latency_ms", "feedback", "value", "actor", "edited_output"),
    *("tools", "tool_calls", "logprobs", "route", "response_id", "app", "tags", "content", "role"),
    *("finish_reason", "producer", "context", "task", "conversation_id", "first_byte_ms", "name"),
)
ODD_BYTES = (
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r", b"\n", b"\r\n", b"\t"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\u0000", b"\\ud800", b"\xe2\x80\xa8"),
    *(b"NaN", b"1e999", b"-", b"9" * 5000, b"\xef\xbb\xbf", b"\x1f\x8b", b"'", b"null", b";"),
)
ENCODINGS = ("latin-1", "utf-16-le", "utf-16", "utf-8-sig", "utf-32", "cp1252")
DEPTHS = (50, 101, 240, 900, 3000)


class Inputs:
    """Damaged copies of sound and of odd inputs."""

    def __init__(self, seeds: Sequence[bytes]) -> None:
        """Take the inputs to begin with, of which none may be empty."""
        self.seeds = list(seeds)

    def made(self, number: int, name: str = "") -> bytes:
        """The input of this number; ``name`` tells apart those of several kinds."""
        rng = random.Random(f"{name}-{number}")
        seed = rng.choice(self.seeds)
        if rng.random() < 0.55 and (value := _value_of(seed)) is not None:
            return self._changed(value, rng)
        return self.damaged(seed, rng)

    def damaged(self, raw: bytes, rng: random.Random) -> bytes:
        """Bytes changed without a thought for what they mean."""
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            raw = rng.choice(BYTE_CHANGES)(raw, rng.choice(self.seeds), rng)
        return raw

    def _changed(self, value: Any, rng: random.Random) -> bytes:
        """JSON changed at some places, and still JSON, or nearly."""
        other = _value_of(rng.choice(self.seeds))
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = _at_some_place(value, other, rng)
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.2:
            text = _with_key_twice(text, rng)
        return text.encode("utf-8", "surrogatepass")


def _value_of(raw: bytes) -> Any | None:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _at_some_place(value: Any, other: Any, rng: random.Random) -> Any:
    """The value with something changed somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        name = rng.choice(list(value))
        return _object_changed(value, name, other, rng)
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        inside = _at_some_place(value[place], other, rng)
        return [*value[:place], inside, *value[place + 1 :]]
    return _odd(value, rng)


def _object_changed(value: dict[str, Any], name: str, other: Any, rng: random.Random) -> Any:
    do = rng.randrange(8)
    if do == 0:
        return {key: item for key, item in value.items() if key != name}
    if do == 1:
        return value | {rng.choice(FIELDS): rng.choice(ODD_VALUES)}
    if do == 2 and isinstance(other, dict) and other:
        taken = rng.choice(list(other))
        return value | {taken: other[taken]}
    if do == 3:
        return {(rng.choice(FIELDS) if key == name else key): v for key, v in value.items()}
    if do == 4:
        return value | {name: _odd(value[name], rng)}
    return value | {name: _at_some_place(value[name], other, rng)}


def _odd(value: Any, rng: random.Random) -> Any:
    do = rng.randrange(6)
    if do == 0:
        return [value]
    if do == 1:
        return str(value)
    if do == 2:
        deep: Any = value
        for _ in range(rng.choice(DEPTHS[:3])):
            deep = [deep] if rng.random() < 0.5 else {"content": deep}
        return deep
    if do == 3 and isinstance(value, str):
        odd = rng.choice([one for one in ODD_VALUES if isinstance(one, str)])
        place = rng.randint(0, len(value))
        return value[:place] + odd + value[place:]
    return rng.choice(ODD_VALUES)


def _with_key_twice(text: str, rng: random.Random) -> str:
    place = text.find("{")
    if place < 0:
        return text
    pair = f"{json.dumps(rng.choice(FIELDS))}: {json.dumps(rng.choice(ODD_VALUES))}, "
    return text[: place + 1] + pair + text[place + 1 :]


def _flipped(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    if not raw:
        return b"\xff"
    place = rng.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << rng.randrange(8)]) + raw[place + 1 :]


def _cut(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randint(0, len(raw))]


def _without_a_piece(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(raw))
    return raw[:start] + raw[start + rng.choice((1, 2, 8, 40)) :]


def _with_odd_bytes(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(raw))
    return raw[:place] + rng.choice(ODD_BYTES) + raw[place:]


def _spliced(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randint(0, len(raw))] + other[rng.randint(0, len(other)) :]


def _repeated(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(raw))
    piece = raw[start : start + rng.choice((1, 4, 60))]
    return raw[:start] + piece * rng.choice((2, 3, 30)) + raw[start:]


def _twice(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    return raw + rng.choice((b"\n", b"\r\n", b"", b",", b"\r")) + raw


def _recoded(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    return raw.decode(errors="replace").encode(rng.choice(ENCODINGS), errors="replace")


def _nested(raw: bytes, _: bytes, rng: random.Random) -> bytes:
    depth = rng.choice(DEPTHS)
    return b"[" * depth + raw + b"]" * depth


BYTE_CHANGES: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    *(_flipped, _cut, _without_a_piece, _with_odd_bytes, _spliced, _repeated, _twice, _recoded),
    *(_nested, _flipped, _with_odd_bytes),
)
