"""What of an answer was said: without the thoughts before it, and whether it came to its end.

Not here: whether it is right (``contract.py``, ``agreement.py``).
"""

from __future__ import annotations

import re

# Tags that models put around what they think before they answer.
TAGS = "think|thinking|thought|thoughts|reasoning|reflection|analysis"
THOUGHT = re.compile(rf"\s*<({TAGS})>.*?</\1>", re.DOTALL | re.IGNORECASE)
OPEN_THOUGHT = re.compile(rf"\s*<({TAGS})>", re.IGNORECASE)
# Where the template has opened the thought, the answer only closes it.
CLOSING = "</think>"
# The last channel of an answer in the own format of OpenAI's open models.
FINAL = "<|channel|>final<|message|>"
END_MARKS = ("<|return|>", "<|end|>")
# What providers say where an answer was cut off.
CUT = frozenset(
    {
        *("length", "max_tokens", "max_output_tokens", "max_new_tokens", "token_limit"),
        *("model_length", "model_context_window_exceeded", "context_length_exceeded"),
        *("incomplete", "finish_reason_length", "finish_reason_max_tokens", "max_length"),
    }
)
CUT_OFF = "cut off at the token limit"
EMPTY = "the answer is empty"


def said(output: str) -> str:
    """The answer without thoughts before it; a thought that never ends is all there is."""
    if "<" not in output:
        return output
    text = output
    if FINAL in text:
        text = text.rpartition(FINAL)[2]
        for mark in END_MARKS:
            text = text.partition(mark)[0]
    while match := THOUGHT.match(text):
        text = text[match.end() :]
    if OPEN_THOUGHT.match(text):
        return ""
    end = text.casefold().find(CLOSING)
    if end >= 0 and "<think>" not in text[:end].casefold():
        text = text[end + len(CLOSING) :]
    return output if text == output else text.strip()


def was_cut(finish_reason: object) -> bool:
    """Whether the provider says that the answer was cut off, in whose words ever."""
    return isinstance(finish_reason, str) and finish_reason.strip().casefold() in CUT


def no_target(output: str, finish_reason: object) -> str | None:
    """Why an answer can never be learned from, however much it was liked; None if it can."""
    if was_cut(finish_reason):
        return CUT_OFF
    return None if said(output).strip() else EMPTY
