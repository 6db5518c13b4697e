"""Streams are cut into the same events wherever their chunks were cut."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats.sse import DONE, KEEP_ALIVE, Events, data_of, event_of

EVENTS = [
    b": a comment\n\n",
    b'data: {"a":1}\n\n',
    b"event: x\ndata: one\ndata: two\n\n",
    b"data:none\n\n",
    b"id: 7\nretry: 3\ndata: \xe6\x97\xa5\xe6\x9c\xac\n\n",
    b"data: [DONE]\n\n",
]


def test_a_stream_cut_at_any_byte_gives_the_same_events():
    for events in (EVENTS, [event.replace(b"\n", b"\r\n") for event in EVENTS]):
        stream = b"".join(events)
        for at in range(len(stream) + 1):
            cutter = Events()
            assert cutter.feed(stream[:at]) + cutter.feed(stream[at:]) == events
            assert cutter.rest() == b""


def test_a_stream_in_single_bytes_gives_the_same_events():
    for events in (EVENTS, [event.replace(b"\n", b"\r\n") for event in EVENTS]):
        cutter = Events()
        found = [event for n in b"".join(events) for event in cutter.feed(bytes([n]))]
        assert found == events


@given(
    st.lists(st.sampled_from([*EVENTS, *(e.replace(b"\n", b"\r\n") for e in EVENTS)])),
    st.lists(st.integers(0, 200)),
    st.binary(max_size=5),
)
def test_no_byte_is_lost_or_added(events: list[bytes], cuts: list[int], tail: bytes):
    stream = b"".join(events) + tail
    marks = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    cutter = Events()
    found = [event for a, b in itertools.pairwise(marks) for event in cutter.feed(stream[a:b])]
    assert found[: len(events)] == events
    assert b"".join(found) + cutter.rest() == stream


def test_what_comes_after_the_last_empty_line_can_still_be_had():
    cutter = Events()
    assert cutter.feed(b"data: 1\n\ndata: [DONE]\n") == [b"data: 1\n\n"]
    assert cutter.rest() == b"data: [DONE]\n"
    assert cutter.rest() == b""


def test_the_data_of_an_event_is_its_data_lines_joined():
    assert [data_of(event) for event in EVENTS] == [
        b"",
        b'{"a":1}',
        b"one\ntwo",
        b"none",
        b"\xe6\x97\xa5\xe6\x9c\xac",
        b"[DONE]",
    ]
    assert data_of(b"event: x\r\ndata: one\r\n\r\n") == b"one"
    assert data_of(b"data: one\r\n\n") == b"one"
    assert data_of(b"data: one") == b"one"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_breaks_out_of_the_event_it_is_in(text: str):
    event = event_of({"text": text}, "named")
    assert Events().feed(event) == [event]
    assert event.count(b"\n") == 3
    assert json.loads(data_of(event)) == {"text": text}


def test_what_is_sent_beside_data_never_ends_an_event():
    assert KEEP_ALIVE == b": keep-alive\n"
    assert data_of(DONE) == b"[DONE]"
