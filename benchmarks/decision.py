"""How long does a decision take on long prompts, beside LiteLLM's offline routers?

    LOOP_BENCH_DATA=../shared/data LOOP_BENCH_LITELLM=PYTHON python -m benchmarks.decision

Requests of one CLINC150 domain each, joined up to 1,500 characters. The student's answers are
simulated, as in the tests: the time to decide does not depend on them. One thread, one core, the
same prompts, after a warm-up; our router and theirs take turns. Beside the time on the clock stands
the processor time of the deciding thread, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.data import load
from benchmarks.litellm_routers import RELEASE, VARIABLE, ask
from benchmarks.record import Start, record, table
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_fit import fit_policy
from loop_pipeline.routing.router import Router
from loop_pipeline.traces.messages import template_hash

CHARS = 1_500
FITTED_ON = 3_000
PROMPTS = 500
TURNS = 3
REPEATS = 2


def prompts(count: int, seed: int, chars: int = CHARS) -> list[str]:
    """Texts of so many characters, each from one domain."""
    data = json.loads(load("clinc150", "data_full.json.gz"))
    domains = json.loads(load("clinc150", "domains.json"))
    rng = np.random.default_rng(seed)
    own = [[t for t, y in data["train"] if y in set(names)] for names in domains.values()]
    drawn = [
        rng.choice(np.array(own[rng.integers(len(own))], dtype=object), 60) for _ in range(count)
    ]
    return [". ".join(texts)[:chars] for texts in drawn]


def fitted(chars: int = CHARS) -> tuple[PolicyBundle, Embedder]:
    """A policy whose groups and certificates come from such prompts, and its embedder."""
    rng = np.random.default_rng(0)
    texts = prompts(FITTED_ON, 0, chars)
    agrees = rng.random(FITTED_ON) > 0.04
    logprob = np.where(
        agrees, -rng.exponential(0.2, FITTED_ON), -0.3 - rng.exponential(2.0, FITTED_ON)
    )
    answers = pd.DataFrame(
        {
            "prompt_id": [f"p{i:05d}" for i in range(FITTED_ON)],
            "text": texts,
            "template_hash": template_hash([{"role": "user", "content": texts[0]}]),
            "task": "support",
            "split": rng.choice(
                ["validation", "calibration", "gold"], FITTED_ON, p=[0.1, 0.8, 0.1]
            ),
            "output": "refund",
            "frontier_output": "refund",
            "agrees": agrees,
            "logprob_min": logprob,
            "logprob_p10": logprob,
            "logprob_mean": logprob / 3,
            "logprob_sum": logprob,
            "tokens_in": 400,
            "tokens_out": 3,
            "finish_reason": "stop",
            "latency_ms": 1.0,
        }
    )
    embedder = Embedder.fit(texts, seed=0)
    groups = fit_groups(
        answers, embedder, previous=None, calibration_rows=2_400, min_rows_per_group=240
    )
    members = member_rows(groups, answers, embedder)[["prompt_id", "group_id"]]
    bundle = fit_policy(
        answers.merge(members),
        groups,
        target_agreement=0.95,
        delta=0.05,
        student={"checkpoint_id": "c1", "adapter": "student-c1"},
        frontier={"model": "big"},
        costs={
            "frontier_usd_per_request": {g.group_id: 0.01 for g in groups.active},
            "student_usd_per_request": 0.0002,
        },
        previous=None,
        versions={},
        embedder_path="embedder.npz",
    )
    return bundle, embedder


def timed(router: Router, texts: list[str]) -> tuple[list[float], list[float], dict[str, int]]:
    """Seconds of every decision, on the clock and on the processor; how many went to each arm."""
    seconds: list[float] = []
    busy: list[float] = []
    arms: dict[str, int] = {"student": 0, "frontier": 0}
    for turn in range(REPEATS):
        for number, text in enumerate(texts):
            messages = [{"role": "user", "content": text}]
            start, began = time.perf_counter(), time.thread_time()
            decision = router.decide(messages, f"{turn}-{number}")
            busy.append(time.thread_time() - began)
            seconds.append(time.perf_counter() - start)
            arms[decision.arm] += 1
    return seconds, busy, arms


def line(name: str, seconds: list[float], busy: list[float]) -> dict[str, Any]:
    """One row of the table."""
    row: dict[str, Any] = {"router": name, "kind": "ours" if name.startswith("R") else "control"}
    for what, times in (("", seconds), ("processor ", busy)):
        p50, p99 = np.percentile(times, [50, 99]) * 1_000
        each = len(times) / sum(times)
        row |= {f"{what}p50": p50, f"{what}p99": p99, f"{what}decisions a second": each}
    return row


def main() -> None:
    """Print a row per router and turn, and write them down."""
    begun = Start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # LiteLLM's process inherits it
    lines, arms = [], {}
    with threadpool_limits(1):
        router, texts = Router.load(*fitted()), prompts(PROMPTS, 1)
        timed(router, texts[:100])
        for turn in range(1, TURNS + 1):
            seconds, busy, arms = timed(router, texts)
            lines.append({"turn": turn} | line("Router.decide", seconds, busy))
            peers = ask(texts, repeats=REPEATS)
            if isinstance(peers, str):
                sys.stderr.write(peers + "\n")
                continue
            lines += [
                {"turn": turn} | line(f"LiteLLM {version}", found["seconds"], found["busy"])
                for version, found in peers.items()
            ]
    title = (
        f"{PROMPTS} prompts of {CHARS} characters, {REPEATS} times a turn; "
        f"{len(router.bundle.groups)} groups, to the student {arms['student']}, "
        f"to the frontier {arms['frontier']}"
    )
    sys.stdout.write(f"{title}\n{pd.DataFrame(lines).round(3).to_string(index=False)}\n")
    units = {name: "ms" for name in lines[0] if name.endswith(("p50", "p99"))}
    rivals = [RELEASE] if any(line["kind"] == "control" for line in lines) else []
    tables = [table(title, lines, units)]
    record(__file__, __doc__, tables, begun, rivals=rivals, variables=[VARIABLE])


if __name__ == "__main__":
    main()
