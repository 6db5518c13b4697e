"""The simulated frontier's answers against the truth of the simulation, which it never reads."""

from __future__ import annotations

import datetime as dt
import random

from loop_pipeline.demo import phrases
from loop_pipeline.demo.desk_answers import PLAIN, desk_answer
from loop_pipeline.demo.simulated_desk import TASKS, visits, write_request


def _ask(task: str, text: str) -> str:
    system = {"role": "system", "content": TASKS[task][1]}
    return desk_answer([system, {"role": "user", "content": text}])


def test_of_2000_requests_the_clear_ones_are_answered_right_and_nearly_all_of_the_hard_ones() -> (
    None
):
    rng = random.Random(11)
    wrong: dict[bool, list[str]] = {True: [], False: []}
    asked = {True: 0, False: 0}
    for visit in visits(rng, 2000, 21, dt.date(2026, 9, 1)):
        request = write_request(rng, visit)
        asked[request.hard] += 1
        if _ask(visit.task, request.text) != request.truth:
            wrong[request.hard].append(request.text)
    assert wrong[False] == []
    # Of requests with two meanings, the truth is a coin.
    assert len(wrong[True]) < 0.2 * asked[True]


def test_words_of_somebodys_own_get_a_label_that_is_in_the_contract() -> None:
    assert _ask("classify", "Hey, my parcel arrived and the vase was broken!") in phrases.LABELS
    tags = _ask("tag", "my login is blocked, and I am furious").split(", ")
    assert set(tags) <= set(phrases.TAGS)


def test_what_it_does_not_know_it_says_so() -> None:
    assert desk_answer([{"role": "user", "content": "Write a poem."}]) == PLAIN
    assert desk_answer([]) == PLAIN
    assert _ask("summarise", "xyzzy") == PLAIN


def test_the_newest_request_of_a_conversation_is_answered_and_parts_are_read() -> None:
    messages = [
        {"role": "developer", "content": "Classify the request."},
        {"role": "user", "content": "please cancel my order 12345"},
        {"role": "assistant", "content": "cancellation"},
        {"role": "user", "content": [{"type": "text", "text": "where is my order 54321"}]},
    ]
    assert desk_answer(messages) == "delivery_status"
