"""How a student is asked, what it answered, and how sure it was of each token.

Not here: HTTP. Whoever asks a student, the loop (``student_server.py``) or live traffic
(``gateway``), asks with this body and reads with this function, so that what was evaluated is what
is served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loop_pipeline.confidence.answer_score import ROUNDING, lowest_tenth
from loop_pipeline.traces.student_turns import NotAText, student_turns

# What an answer without a single token counts as: surely wrong, yet a finite number.
NO_TOKENS = -100.0

Messages = Sequence[Mapping[str, Any]]


class NonsenseReply(ValueError):
    """The reply is no answer of a vLLM server. One line, without the prompt."""


@dataclass(frozen=True)
class Answer:
    """What a model answered, and how sure it was of each token."""

    text: str
    token_logprobs: list[float]
    tokens_in: int
    tokens_out: int
    finish_reason: str
    latency_ms: float

    @property
    def logprob_min(self) -> float:
        """Natural log of the least probable token's probability."""
        return min(self.token_logprobs, default=NO_TOKENS)

    @property
    def logprob_p10(self) -> float:
        """Its 10% quantile over the tokens, interpolated."""
        return lowest_tenth(self.token_logprobs) if self.token_logprobs else NO_TOKENS

    @property
    def logprob_mean(self) -> float:
        """Its mean over the tokens."""
        known = self.token_logprobs
        return sum(known) / len(known) if known else NO_TOKENS

    @property
    def logprob_sum(self) -> float:
        """Its sum: the log of the probability of the whole answer, end mark included."""
        return float(sum(self.token_logprobs)) if self.token_logprobs else NO_TOKENS

    @property
    def logprobs(self) -> dict[str, float]:
        """The summary that ``logprobs`` of its trace holds, and the router's score is made of."""
        return {
            "sum": self.logprob_sum,
            "min": self.logprob_min,
            "p10": self.logprob_p10,
            "mean": self.logprob_mean,
        }


def question_body(model: str, messages: Messages, max_tokens: int) -> dict[str, Any]:
    """The body of a chat completion that asks for one greedy answer with log-probabilities.

    Args:
        model: adapter name, or ``base``.
        messages: the request.
        max_tokens: of the answer, at most.
    """
    return {
        "model": model,
        "messages": _readable(messages),
        "max_tokens": max_tokens,
        "temperature": 0,
        # As in training; a template without this switch is not given it by vLLM.
        "chat_template_kwargs": {"enable_thinking": False},
        "logprobs": True,
    }


def _readable(messages: Messages) -> list[Any]:
    """The turns as they are learned; what a student cannot read the server refuses by itself."""
    try:
        return student_turns(messages)
    except NotAText:
        return list(messages)


def too_long(status: int, words: str) -> bool:
    """Whether a refusal says that the request does not fit into the model's context."""
    return status == 400 and "context length" in words


def read_answer(reply: Any, latency_ms: float) -> Answer:
    """What a reply to ``question_body`` says.

    Args:
        reply: its JSON.
        latency_ms: how long it took.

    Raises:
        NonsenseReply: it lacks something, or holds what no vLLM server sends.
    """
    try:
        choice, usage = reply["choices"][0], reply["usage"]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
        counts = usage["prompt_tokens"], usage["completion_tokens"]
    except (KeyError, IndexError, TypeError) as error:
        raise NonsenseReply(
            f"it lacks {error!r}; is it a vLLM server with log-probabilities?"
        ) from error
    if not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise NonsenseReply(f"its content is {type(text).__name__}, not a text")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise NonsenseReply(f"its token counts are {counts!r:.60}")
    for value in logprobs:
        if type(value) not in (int, float) or not math.isfinite(value) or value > ROUNDING:
            raise NonsenseReply(f"a log-probability is {value!r:.40}, not a number up to 0")
    known = [min(float(value), 0.0) for value in logprobs]
    return Answer(text or "", known, *counts, finish or "", latency_ms)
