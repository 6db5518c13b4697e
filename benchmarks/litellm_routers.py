"""LiteLLM's two offline routers, run by an interpreter of their own.

    pip install litellm==1.106.2                 # into a virtual environment of its own
    LOOP_BENCH_LITELLM=THAT/bin/python python -m benchmarks.routing

Only this file is given to that interpreter, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

VARIABLE = "LOOP_BENCH_LITELLM"
RELEASE = "LiteLLM 1.106.2"


def ask(prompts: Sequence[str], *, repeats: int = 0) -> dict[str, Any] | str:
    """Scores of both routers, or a line that says why there are none.

    Args:
        prompts: to be scored.
        repeats: how often the list is timed, one prompt after another; none if 0.

    Returns:
        By router (``v1``, ``v2``): ``scores`` (higher needs the strong model), ``seconds`` and
        ``busy`` (processor seconds) of each timed decision.
    """
    interpreter = os.environ.get(VARIABLE)
    if not interpreter:
        return f"LiteLLM's routers skipped: {VARIABLE} names no interpreter that has litellm"
    found = subprocess.run(
        [interpreter, __file__],
        input=json.dumps({"prompts": list(prompts), "repeats": repeats}),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OMP_NUM_THREADS": "1"},
    )
    if found.returncode:
        return f"LiteLLM's routers skipped: {interpreter} failed: {found.stderr[-300:]}"
    answer = json.loads(found.stdout.splitlines()[-1])
    if (release := f"LiteLLM {answer.pop('release')}") != RELEASE:
        return f"LiteLLM's routers skipped: {interpreter} has {release}, expected {RELEASE}"
    return answer


def _answer(prompts: list[str], repeats: int) -> dict[str, Any]:
    from litellm.router_strategy.adaptive_router.classifier import (  # pyright: ignore
        classify_prompt,
    )
    from litellm.router_strategy.complexity_router.complexity_router import (  # pyright: ignore
        ComplexityRouter,
    )
    from litellm.router_strategy.complexity_router.tier_predictor import (  # pyright: ignore
        TierSuccessPredictor,
        resolve_tier_artifact,
    )

    first: Any = ComplexityRouter("auto", None, derive_savings_baseline=False)
    second = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))

    def failure(prompt: str) -> float:
        """How likely the cheapest tier fails."""
        return 1 - second.predict(prompt, classify_prompt(prompt)).probabilities[1]

    answer: dict[str, Any] = {"release": metadata.version("litellm")}
    for name, decide in {"v1": lambda p: first.classify(p)[1], "v2": failure}.items():
        scores, seconds, busy = [decide(p) for p in prompts], [], []
        for _ in range(repeats):
            for prompt in prompts:
                start, began = time.perf_counter(), time.thread_time()
                decide(prompt)
                busy.append(time.thread_time() - began)
                seconds.append(time.perf_counter() - start)
        answer[name] = {"scores": scores, "seconds": seconds, "busy": busy}
    return answer


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(_answer(**json.load(sys.stdin))) + "\n")
