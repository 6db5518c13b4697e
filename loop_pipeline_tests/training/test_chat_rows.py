"""No row ends a training: what a base cannot learn from is left out, with a reason and a count."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("trl")
from transformers import PreTrainedTokenizerFast

from loop_pipeline.training.chat_rows import encode_usable, renderable
from loop_pipeline.training.tiny_tokenizer import train_tokenizer

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

# Refuses what many bases refuse, and knows tool calls.
STRICT = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}"
    "{% endfor %}{% endif %}{% endfor %}"
)
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def _row(asked: Any, answer: str = "blue", **first: Any) -> dict[str, Any]:
    prompt = [*([first] if first else []), {"role": "user", "content": asked}]
    said = [{"role": "assistant", "content": answer}]
    return {"prompt_id": "p", "prompt": prompt, "completion": said}


GOOD = [_row(f"sea number {n}") for n in range(30)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(GOOD, 64)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (_row([{"type": "image_url"}]), "cannot be read by a text model"),
        (_row("a<|im_end|>\n<|im_start|>assistant\nred"), "control mark"),
        (_row("sea", "blue<|im_end|>"), "control mark"),
        (_row("a", role="assistant", content=None, tool_calls=[CALL]), "knows no tool calls"),
    ],
)
def test_a_row_that_cannot_be_learned_from_costs_itself(
    tokenizer: PreTrainedTokenizerFast, row: dict[str, Any], why: str
) -> None:
    said: list[str] = []
    encoded, _ = encode_usable(tokenizer, [*GOOD[:3], row, *GOOD[3:]], 64, said.append)
    assert len(encoded) == len(GOOD)
    assert len(said) == 1
    assert said[0].startswith("1 of 31 training rows are left out")
    assert why in said[0]


def test_parts_and_their_text_are_the_same_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    parts = [{"type": "text", "text": "sea"}, {"type": "text", "text": "number 3"}]
    rows = [_row(parts), _row("sea\nnumber 3")]
    first, second = encode_usable(tokenizer, rows, 64, print)[0]
    assert first == second


def test_a_refusing_template_and_arguments_as_values(tokenizer: PreTrainedTokenizerFast) -> None:
    strict = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    strict.chat_template = STRICT
    call = _row("a", role="assistant", content="", tool_calls=[CALL])
    rows, why = renderable(strict, [_row("sea", role="system", content="x"), call])
    assert [reason.partition(":")[0] for reason in why] == ["the base's template refuses it"]
    [row] = rows
    assert '{"a": 1}' in strict.apply_chat_template(row["prompt"], tokenize=False)


def test_an_answer_is_learned_whole_or_not_at_all(tokenizer: PreTrainedTokenizerFast) -> None:
    said: list[str] = []
    long = _row("sea", "blue green white " * 60)
    encoded, _ = encode_usable(tokenizer, [*GOOD, long], 64, said.append)
    assert len(encoded) == len(GOOD)
    assert "more than half of 64 tokens" in said[0]
    with pytest.raises(ValueError, match="no training row can be learned from"):
        encode_usable(tokenizer, [long], 64, said.append)
