"""Route one request: decide before the call, settle after it.

Without an argument a small policy is made first, from invented answers:

    .venv/bin/python examples/route_a_request.py

With one, the policy of your own loop decides (`loop policy show` names the one in force):

    .venv/bin/python examples/route_a_request.py .loop/artifacts/policies/3f0c9a12b4d5e6f7.json

The two functions that answer are stand-ins. Put your own calls in their place.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import pandas as pd

from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows
from loop_pipeline.routing.policy_fit import fit_policy
from loop_pipeline.routing.router import Router
from loop_pipeline.traces.messages import template_hash

SYSTEM = {"role": "system", "content": "Classify the message: delivery, refund or account."}
CONTRACT = {"kind": "label", "labels": ["delivery", "refund", "account"]}
TOPICS = {
    "delivery": ["where is parcel", "parcel has not come", "when will you deliver", "courier lost"],
    "refund": ["money back for", "please refund", "I returned", "cancel and pay back"],
    "account": ["cannot log in for", "change my address for", "reset the password of", "close"],
}


def ask_student(adapter: str, messages: list[dict[str, str]]) -> tuple[str, list[float]]:
    """Stand-in for your vLLM server: an answer, and the log-probability of each of its tokens."""
    body = {"model": adapter, "messages": messages, "logprobs": True}
    known = "parcel" in str(body["messages"])
    return ("delivery", [-0.001, -0.002]) if known else ("account", [-1.2, -0.9])


def ask_frontier(messages: list[dict[str, str]]) -> str:
    """Stand-in for the frontier model."""
    return "refund" if "returned" in messages[-1]["content"] else "delivery"


def route(router: Router, messages: list[dict[str, str]], prompt_id: str) -> str:
    """Answer one request and say who did it, and why."""
    decision = router.decide(messages, prompt_id)
    if decision.arm == "frontier" or decision.adapter is None:
        print(f"{prompt_id}: frontier, before the call: {decision.reason}")
        return ask_frontier(messages)
    answer, logprobs = ask_student(decision.adapter, messages)
    settled = router.settle(decision, answer, logprobs, CONTRACT, finish_reason="stop")
    if settled.action == "serve":
        print(f"{prompt_id}: {decision.adapter} answers {settled.text!r}: {settled.reason}")
        return settled.text or answer
    print(f"{prompt_id}: frontier, after the call: {settled.reason}")
    return ask_frontier(messages)


def small_policy(folder: Path) -> Path:
    """Make a policy from 1,000 invented held-out answers; returns the path of its document."""
    rng = random.Random(7)
    rows = []
    for number in range(1000):
        topic = rng.choice(list(TOPICS))
        agrees = rng.random() > 0.08
        logprob = -rng.expovariate(5) if agrees else -0.3 - rng.expovariate(0.5)
        rows.append(
            {
                "prompt_id": f"p{number:04d}",
                "text": f"{rng.choice(TOPICS[topic])} order {rng.randrange(10_000)}",
                "template_hash": template_hash([SYSTEM]),
                "task": "classify",
                "split": rng.choices(["validation", "calibration"], [0.2, 0.8])[0],
                "output": topic,
                "agrees": agrees,
                **dict.fromkeys(
                    ("logprob_min", "logprob_p10", "logprob_mean", "logprob_sum"), logprob
                ),
                "tokens_out": 2,
                "finish_reason": "stop",
            }
        )
    answers = pd.DataFrame(rows)
    embedder = Embedder.fit(answers["text"].head(120).tolist(), seed=0)
    embedder.save(folder / "embedder.npz")
    groups = fit_groups(answers, embedder, previous=None, calibration_rows=800)
    members = member_rows(groups, answers, embedder)[["prompt_id", "group_id"]]
    bundle = fit_policy(
        answers.merge(members, on="prompt_id"),
        groups,
        target_agreement=0.95,
        delta=0.05,
        student={"checkpoint_id": "c1", "adapter": "student-example"},
        frontier={"model": "claude-opus-5"},
        costs={
            "frontier_usd_per_request": {g.group_id: 0.002 for g in groups.active},
            "student_usd_per_request": 0.0002,
        },
        previous=None,
        versions={},
        embedder_path="embedder.npz",
    )
    path = folder / "policy.json"
    path.write_text(bundle.to_text(), encoding="utf-8")
    return path


def main() -> None:
    """Route three requests: a sure one, an unsure one, and one unlike anything seen."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else small_policy(Path(scratch))
        router = Router.load(path, running={"frontier": "claude-opus-5"})
        requests = {
            "sure": [SYSTEM, {"role": "user", "content": "where is parcel order 4711"}],
            "unsure": [SYSTEM, {"role": "user", "content": "I returned order 4711"}],
            "unknown": [{"role": "user", "content": "Write a poem about the sea."}],
        }
        for prompt_id, messages in requests.items():
            print(f"  -> {route(router, messages, prompt_id)}")


if __name__ == "__main__":
    main()
