from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl")
from transformers import AutoTokenizer

from loop_pipeline.training.qlora import tokens as rows
from loop_pipeline_tests.training.conftest import colour_rows

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

# What Qwen3's own template does with the switch and with the last turn, without its tools.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ THOUGHT }}{% endif %}"
    "{{ m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def test_a_long_row_keeps_its_answer(work: Path):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    [row] = colour_rows(0, 1)
    row["prompt"][1]["content"] = "sea " * 500
    [(prompt, answer)], cut = rows.encode(tokenizer, [row], 32)
    assert cut == 1
    assert len(prompt) + len(answer) == 32
    assert tokenizer.decode(answer) == "blue<|im_end|>"


def test_a_long_answer_is_learned_whole_or_not_at_all():
    encoded = [(list(range(4)), list(range(10)))]
    assert rows.cut(encoded, 14) == (encoded, 0)
    assert rows.cut(encoded, 13) == ([], 0)


def test_one_row_in_a_hundred_is_longer_than_the_p99_length():
    encoded = [([0] * n, [1]) for n in [*range(1, 100), 5000]]
    assert rows.p99_length(encoded) == 104
    _, cut = rows.cut(encoded, 104)
    assert cut == 1


@pytest.mark.parametrize("thought", ["'<think>\n\n</think>\n\n'", "''"])
def test_thinking_is_off_and_the_prompt_is_the_one_that_is_served(work: Path, thought: str):
    """Also where the template drops the empty thought once the turn is answered."""
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    tokenizer.chat_template = QWEN3.replace("THOUGHT", thought)
    [row] = colour_rows(0, 1)
    assert rows.template_arguments(tokenizer) == {"enable_thinking": False}
    [(prompt, answer)], _ = rows.encode(tokenizer, [row], 256)
    served = tokenizer.apply_chat_template(
        row["prompt"], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert tokenizer.decode(prompt) == served
    assert served.endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(answer) == "blue<|im_end|>\n"


def test_a_template_without_the_switch_gets_none(work: Path):
    assert rows.template_arguments(AutoTokenizer.from_pretrained(work / "base")) == {}


def test_an_empty_training_set_is_said_so(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"train\.jsonl is empty: no validated pair"):
        rows.read_rows(tmp_path)


@pytest.mark.parametrize("line", ['{"prompt_id": "p1"}', "{", '{"prompt_id": "p", "prompt": []}'])
def test_a_broken_row_is_named(tmp_path: Path, line: str):
    (tmp_path / "train.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"train\.jsonl:1: .*not a prompt/completion row"):
        rows.read_rows(tmp_path)
