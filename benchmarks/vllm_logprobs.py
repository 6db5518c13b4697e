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

import numpy as np
import pandas as pd
import requests

from benchmarks.server import serving

ROUNDS, REQUESTS, IN_FLIGHT, TOKENS = 12, 96, 16, 16
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
    """Print requests a second of each variant and its ratio to the one without."""
    with serving(adapters=1) as world, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT))
        world.server.load("student", world.adapters[0])
        for extra in VARIANTS.values():
            rate(world.server.url, session, extra, -1)  # warm-up, not counted
        rounds = [
            {n: rate(world.server.url, session, extra, i) for n, extra in VARIANTS.items()}
            for i in range(ROUNDS)
        ]
    table = pd.DataFrame(rounds)
    ratios = table.div(table["without"], axis=0)
    summary = pd.DataFrame(
        {
            "requests/s (median)": table.median(),
            "ratio (median)": ratios.median(),
            "ratio (25%)": ratios.quantile(0.25),
            "ratio (75%)": ratios.quantile(0.75),
        }
    )
    note = f"{ROUNDS} rounds of {REQUESTS} requests, {IN_FLIGHT} in flight, {TOKENS} tokens each"
    sys.stdout.write(f"{summary.round(3).to_string()}\n{note}, numpy {np.__version__}\n")


if __name__ == "__main__":
    main()
