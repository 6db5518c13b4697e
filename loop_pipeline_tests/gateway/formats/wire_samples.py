"""Requests and answers that the tests of all wire formats share, and any JSON at all."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx2
from hypothesis import strategies as st

from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.formats.sse import Events

SAID = "Ça va — 日本 \U0001f600\nid: 1\n\ndata: [DONE]\n\n"
ANSWER = Reply(
    text=SAID, finish_reason="stop", tokens_in=11, tokens_cached=4, tokens_out=7, model="adapter-7"
)
BY = {"prompt_id": "p1", "created": 1_800_000_000, "system_fingerprint": "loop-a7"}

# Any JSON value, with what parsers stumble over: NUL, lone surrogates, numbers beyond 64 bits.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["\x00", "\ud83d", "user", "text", "type", "system", "auto", "json_schema"])
)
words = st.sampled_from(["type", "text", "role", "content", "index", "id", "name", "function"])
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON value."""
    found = [at]
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(part, (*at, key))
    return found


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at that path."""
    if not at:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return changed


@st.composite
def spoiled(draw: st.DrawFn, good: Any) -> Any:
    """A good body with one or two of its values replaced by anything."""
    body = good
    for _ in range(draw(st.integers(1, 2))):
        body = put(body, draw(st.sampled_from(places(body))), draw(anything))
    return body


def raw(value: Any) -> bytes:
    """JSON in ASCII: half a surrogate pair is written as an escape, as JavaScript does."""
    return json.dumps(value).encode()


def read_through(reader: Any, stream: bytes) -> bytes:
    """What passes a stream reader."""
    return b"".join(reader.take(event) for event in Events().feed(stream))


def transport(body: bytes, kind: str = "application/json", status: int = 200) -> Any:
    """A transport for the vendors' clients that answers everything with these bytes."""
    headers = {"content-type": kind}
    return httpx2.MockTransport(lambda _: httpx2.Response(status, headers=headers, content=body))
