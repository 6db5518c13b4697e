"""What a model answered, and how sure it was of each token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# What an answer without a single token counts as: surely wrong, yet a finite number.
NO_TOKENS = -100.0


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
        return float(np.quantile(self.token_logprobs, 0.1)) if self.token_logprobs else NO_TOKENS

    @property
    def logprob_mean(self) -> float:
        """Its mean over the tokens."""
        return float(np.mean(self.token_logprobs)) if self.token_logprobs else NO_TOKENS

    @property
    def logprob_sum(self) -> float:
        """Its sum: the log of the probability of the whole answer, end mark included."""
        return float(sum(self.token_logprobs)) if self.token_logprobs else NO_TOKENS
