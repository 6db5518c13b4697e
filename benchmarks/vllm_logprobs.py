"""What do token log-probabilities cost? Requests a second with and without them, one server.

    python -m benchmarks.vllm_logprobs

A random two-layer Qwen2 with a LoRA adapter on vLLM, 16 new tokens a request, 16 in flight. The
variants alternate, round after round, because other jobs share the machine: only the ratios of
one round are compared. The student's answers are asked with ``logprobs`` (the chosen token's).
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import requests

from benchmarks.record import Start, record, table
from benchmarks.server import serving, vllm_release

ROUNDS = 12
REQUESTS = 96
IN_FLIGHT = 16
TOKENS = 16
VARIANTS: dict[str, dict[str, Any]] = {
    "without": {},
    "logprobs": {"logprobs": True},
    "top 5": {"logprobs": True, "top_logprobs": 5},
}


def rate(url: str, session: requests.Session, extra: dict[str, Any], salt: int) -> float:
    """Requests a second; a request that fails ends the benchmark."""

    def ask(number: int) -> None:
        body = {
            "model": "student",
            "messages": [{"role": "user", "content": f"route request {salt} {number}"}],
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            **extra,
        }
        session.post(f"{url}/v1/chat/completions", json=body, timeout=300).raise_for_status()

    start = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(ask, range(REQUESTS)))
    return REQUESTS / (time.perf_counter() - start)


def main() -> None:
    """Print requests a second of each variant and its ratio to the one without; write them down."""
    start = Start()
    with serving(adapters=1) as world, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))
        world.server.load("student", world.adapters[0])
        for extra in VARIANTS.values():
            rate(world.server.url, session, extra, -1)  # warm-up, not counted
        rounds = [
            {n: rate(world.server.url, session, extra, i) for n, extra in VARIANTS.items()}
            for i in range(ROUNDS)
        ]
    rates = pd.DataFrame(rounds)
    ratios = rates.div(rates["without"], axis=0)
    summary = pd.DataFrame(
        {
            "requests a second": rates.median(),
            "of those without": ratios.median(),
            "of those without low": ratios.quantile(0.25),
            "of those without high": ratios.quantile(0.75),
        }
    )
    summary = summary.rename_axis("log-probabilities").reset_index()
    note = (
        f"Medians and quartiles of {ROUNDS} rounds of {REQUESTS} requests, {IN_FLIGHT} in flight, "
        f"{TOKENS} tokens each; {vllm_release()}"
    )
    sys.stdout.write(f"{summary.round(3).to_string()}\n{note}\n")
    record(__file__, __doc__, [table(note, summary)], start)


if __name__ == "__main__":
    main()
