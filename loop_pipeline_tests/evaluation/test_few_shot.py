import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from loop_pipeline.evaluation.few_shot import evaluate_few_shot, nearest_examples, with_examples
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.serving.student_server import StudentServer

TOPICS = ["where is my parcel", "give me my money back", "the screen is broken"]


def chat(text: str, system: str = "Classify.") -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


@pytest.fixture(scope="module")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows a topic, and a template that has only two."""
    path = tmp_path_factory.mktemp("set") / "train.jsonl"
    rows = [
        {
            "prompt_id": f"p{i}",
            "prompt": chat(f"{TOPICS[i % 3]} number {i}"),
            "completion": [{"role": "assistant", "content": f"topic {i % 3}"}],
            "group": "classify" if i < 30 else "rare",
        }
        for i in range(32)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.fit([f"{topic} number {i}" for topic in TOPICS for i in range(9)], seed=0)


def requests(*texts: str, template: str = "classify") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt_id": [f"q{i}" for i in range(len(texts))],
            "messages": [chat(text) for text in texts],
            "template_hash": template,
            "split": "gold",
            "producer": "frontier",
            "output": "topic 1",
            "contract": None,
        }
    )


def test_examples_are_the_nearest_of_the_same_template(
    train_file: Path, embedder: Embedder
) -> None:
    asked = requests("money back please", "my screen is so broken")
    found = nearest_examples(asked, train_file, embedder)
    assert [[turns[-1]["content"] for turns in examples] for examples in found] == [
        ["topic 1"] * 3,
        ["topic 2"] * 3,
    ]
    assert all(t["role"] != "system" for examples in found for turns in examples for t in turns)
    rare = nearest_examples(requests("anything", template="rare"), train_file, embedder)
    assert [len(examples) for examples in rare] == [2]
    new = nearest_examples(requests("anything", template="new"), train_file, embedder)
    assert new == [[]]


def test_examples_come_after_the_system_prompt_the_nearest_last() -> None:
    def example(name: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": name}, {"role": "assistant", "content": f"is {name}"}]

    shown = with_examples(chat("now"), [example("near"), example("far")])
    assert [m["content"] for m in shown] == [
        *("Classify.", "far", "is far", "near", "is near", "now")
    ]
    bare = [{"role": "user", "content": "now"}]
    assert with_examples(bare, []) == bare
    assert [m["role"] for m in with_examples(bare, [example("x")])] == ["user", "assistant", "user"]


def test_prompts_that_do_not_fit_come_with_fewer_examples(
    train_file: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes 160 characters: the longer the request, the fewer examples beside it."""
    sent: list[int] = []

    def ask(_self: Any, model: str, messages: Any) -> Answer:
        assert model == "base"
        sent.append(len(messages))
        if sum(len(m["content"]) for m in messages) > 160:
            return Answer("", [], 0, 0, "too_long", 1.0)
        return Answer("topic 1", [-0.1], len(messages), 1, "stop", 1.0)

    monkeypatch.setattr(StudentServer, "answer", ask)
    words = ["money back", "money back " * 6, "money back " * 10, "money back " * 20]
    asked = requests(*words)
    said: list[str] = []
    rows = evaluate_few_shot(
        StudentServer("http://stub"),
        asked,
        nearest_examples(asked, train_file, embedder),
        checkpoint_id="base+few-shot:1",
        say=said.append,
    )
    assert rows["prompt_id"].tolist() == asked["prompt_id"].tolist()
    assert rows["tokens_in"].tolist() == [8, 6, 4, 0], "system, user, and two turns an example"
    assert rows["finish_reason"].tolist() == ["stop", "stop", "stop", "too_long"]
    assert rows["agrees"].tolist() == [True, True, True, False]
    assert said == [
        "base+few-shot:1: examples in the prompt: 1 with 3, 1 with 2, 1 with 1, 1 with 0"
    ]
