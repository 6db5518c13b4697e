"""A real vLLM server, a random model, two random adapters: it serves what was trained."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fixtures import make_adapter, make_model
from loop_pipeline.serving.fleet import Adapter, Fleet, Question
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import Reconciled, StudentServer
from loop_pipeline.serving.supervisor_process import start_supervisor, stop

SERVE_PYTHON = Path(__file__).parents[2] / ".venv-serve/bin/python"
READY_S = 300
pytestmark = [
    pytest.mark.serve,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not SERVE_PYTHON.exists(), reason="no .venv-serve: run `make serve-env`"),
]


def greedy(base: Path, adapter: Path | None, messages: list[dict[str, str]]) -> tuple[str, Any]:
    """Text and log-probabilities of the greedy answer by transformers and peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    start, logprobs = ids.shape[1], []
    with torch.no_grad():
        for _ in range(8):
            step = model(ids).logits[0, -1].log_softmax(-1)
            token = int(step.argmax())
            logprobs.append(float(step[token]))
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
            if token == tokenizer.eos_token_id:
                break
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True), logprobs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    home = tmp_path_factory.mktemp("serving")
    base = make_model(home / "base")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    log = home / "vllm.log"
    process = start_supervisor(str(base), url, SERVE_PYTHON, log, max_lora_rank=8)
    try:
        adapters = {n: make_adapter(base, home / n, i) for i, n in enumerate(("a", "b"), 1)}
        server = StudentServer(url, log_path=log, max_tokens=8)
        server.wait_ready(READY_S)
        yield {"server": server, "base": base, "log": log, "home": home, **adapters}
    finally:
        stop(process)


def test_the_served_student_is_the_trained_one_through_death_and_swap(
    world: dict[str, Any],
) -> None:
    server: StudentServer = world["server"]
    fleet = Fleet([server], world["log"].with_name("adapters.json"))
    batch = [[{"role": "user", "content": f"route request {i}"}] for i in range(4)]
    a, b = (Adapter(n, str(world[n]), [Question(batch[0])]) for n in ("a", "b"))
    assert fleet.reconcile([a, b])[server.url] == Reconciled(["a", "b"], [], [])
    assert fleet.reconcile([a, b])[server.url] == Reconciled([], ["a", "b"], [])
    check_parity(world, batch)

    state = world["log"].with_name("server.json")
    killed = json.loads(state.read_text())["server_pid"]
    os.kill(killed, signal.SIGKILL)
    end = time.monotonic() + READY_S
    while not state.exists() or json.loads(state.read_text())["server_pid"] == killed:
        assert time.monotonic() < end, world["log"].read_text()[-2000:]
        time.sleep(0.2)
    assert server.models() == {"base": None, "a": "base", "b": "base"}, "it reloads what it had"
    check_parity(world, batch[:1])

    assert fleet.reconcile([b])[server.url].unloaded == ["a"]
    assert server.models() == {"base": None, "b": "base"}
    too_long = [{"role": "user", "content": "x" * 5000}]
    assert server.answer("b", too_long).finish_reason == "too_long"

    other = make_adapter(make_model(world["home"] / "narrow", 32), world["home"] / "c", 3)
    wrong = Adapter("c", str(other), [Question(batch[0])])
    with pytest.raises(ServerError, match=r"'c' .* was trained on .*/narrow"):
        fleet.reconcile([wrong])
    known = Question(batch[0], expected=server.answer("b", batch[0]).text)
    fleet.ensure([Adapter("b", str(world["b"]), [known])])
    with pytest.raises(ServerError, match=r"answers .* where it was sure of"):
        fleet.ensure([Adapter("d", str(world["a"]), [known])])
    assert server.models() == {"base": None, "b": "base"}


def check_parity(world: dict[str, Any], batch: list[list[dict[str, str]]]) -> None:
    """Base and adapters, alone and mixed in a batch, answer as transformers and peft do."""
    server: StudentServer = world["server"]
    jobs = [(name, messages) for messages in batch for name in ("base", "a", "b")]
    alone = [server.answer(name, messages) for name, messages in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        mixed = list(pool.map(lambda job: server.answer(job[0], job[1]), jobs))
    for (name, messages), one, other in zip(jobs, alone, mixed, strict=True):
        adapter = None if name == "base" else world[name]
        text, logprobs = greedy(world["base"], adapter, messages)
        for answer in (one, other):
            assert (name, answer.text) == (name, text)
            assert answer.token_logprobs == pytest.approx(logprobs, abs=1e-3)
    assert len({answer.text for answer in alone[:3]}) == 3, "the adapters change the answer"
