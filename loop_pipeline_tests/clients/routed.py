"""A policy in force for the client suites: whom it lets the student answer, and that student.

Plain chat requests without a system prompt are the student's; it is sure of its answer unless the
request says "unsure". Everything else is the frontier's.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.store.database import open_store
from loop_pipeline.store.policies import activate_policy
from loop_pipeline.traces.messages import template_hash
from loop_pipeline_tests.gateway.small_policy import policy, words
from loop_pipeline_tests.upstream import JSON, Asked, Script

SECRET = "s" * 64
SAID = "It rains in Lisbon."
# The policy's texts and those of the suites: it must not find them unlike anything it knows.
TEXTS = [words(number) for number in range(60)] + [
    "What is the weather in Lisbon?",
    "What is the weather in Lisbon? I am unsure.",
    "Hello",
    "string",
]
EMBEDDER = Embedder.fit(TEXTS, seed=0)


def put_in_force(home: Path, frontier: str) -> str:
    """Put the policy into the store of a home folder; returns the name of its student."""
    folder = home / "artifacts" / "policies"
    folder.mkdir(parents=True)
    EMBEDDER.save(folder / "embedder.npz")
    centre = EMBEDDER.transform(TEXTS).mean(axis=0)
    known = {
        "group_id": "g-plain",
        "name": "plain",
        "template_hash": template_hash([]),
        "centroid": (centre / np.linalg.norm(centre)).tolist(),
    }
    bundle = policy(
        frontier={"model": frontier},
        embedder_version=EMBEDDER.version,
        groups=[policy().groups[0].model_copy(update=known)],
    )
    engine = open_store(f"sqlite:///{home.absolute() / 'loop.db'}")
    with engine.begin() as connection:
        text = signed(bundle, SECRET.encode())
        activate_policy(connection, sha256=bundle.sha256, bundle=text, checkpoint_id=None)
    engine.dispose()
    return bundle.student["adapter"]


def student_server(asked: Asked) -> Script:
    """What a vLLM server of the student answers."""
    if asked.path == "/v1/models":
        card = {"id": policy().student["adapter"], "object": "model"}
        return Script(headers=JSON, parts=[json.dumps({"data": [card]}).encode()])
    unsure = "unsure" in json.dumps(asked.json()["messages"])
    sure = [{"token": "t", "logprob": -2.0 if unsure else -0.01, "bytes": None}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": SAID, "reasoning_content": None},
        "logprobs": {"content": sure * 6},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": None,
    }
    whole = {
        "id": "chatcmpl-of-vllm",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.json()["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
        "prompt_logprobs": None,
    }
    return Script(headers=JSON, parts=[json.dumps(whole).encode()])
