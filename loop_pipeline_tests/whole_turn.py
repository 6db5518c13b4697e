"""One whole turn, small and real, for the tests that look at what it leaves.

The demo's simulated traffic is larger and takes minutes: these requests are learned in one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_pipeline.demo.runs import turn_loop
from loop_pipeline.demo.turn import Turn
from loop_pipeline.settings import load_settings
from loop_pipeline_tests.shared import free_port

ROOT = Path(__file__).parents[1]
SERVE_PYTHON = ROOT / ".venv-serve/bin/python"
TOPICS = {
    "delivery": ["where is my parcel", "when does the courier come", "track the shipment"],
    "refund": ["give me my money back", "refund the payment", "return the amount to my card"],
    "repair": ["the screen is broken", "my device does not start", "the battery is dead"],
}


@contextmanager
def whole_turn(
    home: Path, *, requests: int, environment: Mapping[str, str], max_minutes: float = 0
) -> Iterator[Turn]:
    """A store after a whole turn, and the environment that it was made in.

    Args:
        home: LOOP_HOME; what an earlier turn has trained there on the same traffic is reused.
        requests: how many are imported.
        environment: further settings.
        max_minutes: the clock of every training; 0: the profile's.
    """
    if not SERVE_PYTHON.exists():
        pytest.skip("no serving environment: run `make serve-env`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOP_HOME", str(home))
        patch.setenv("LOOP_SERVE_PYTHON", str(SERVE_PYTHON))
        patch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{free_port()}")
        patch.setenv("LOOP_SERVER_HOURLY_USD", "0.1")
        patch.setenv("LOOP_MAX_ANSWER_TOKENS", "16")
        for name, value in environment.items():
            patch.setenv(name, value)
        made = Turn(load_settings(), say=lambda _: None)
        try:
            made.import_traces(_traffic(home / "traffic.jsonl", requests))
            made.run("describe_traces", days=True)
            if max_minutes:
                turn_loop(made, max_minutes=max_minutes)
            else:
                turn_loop(made)
            yield made
        finally:
            made.close()


def _traffic(path: Path, n: int) -> Path:
    """Requests whose first words decide the label; a person found each answer good."""
    rng = random.Random(3)
    with path.open("w") as file:
        for i in range(n):
            label = rng.choice(sorted(TOPICS))
            words = (
                f"{rng.choice(TOPICS[label])} {rng.choice('abcdefgh')}{i % 7} {rng.random():.6f}"
            )
            moment = f"2026-09-{1 + i % 3:02d}T{i % 24:02d}:00:00+00:00"
            line = {
                "prompt_id": f"t{i}",
                "ts": moment,
                "messages": [
                    {"role": "system", "content": "Classify."},
                    {"role": "user", "content": words},
                ],
                "output": label,
                "model": "claude-opus-5",
                "task": "classify",
                "tokens_in": 400,
                "tokens_out": 4,
                "contract": {"kind": "label", "labels": sorted(TOPICS)},
                "feedback": [{"kind": "review", "value": 1, "actor": "ann", "ts": moment}],
            }
            file.write(json.dumps(line) + "\n")
    return path
