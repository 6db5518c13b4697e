"""Every file of odd records through rendering, two steps of training, and a real server.

Not here: the steps before (``test_cases.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from transformers import AutoTokenizer

from loop_pipeline.http_calls.local_server import free_port
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.serving.supervisor_process import start_supervisor, stop
from loop_pipeline.store.database import open_store
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.traces.importers.import_files import UnreadableFile
from loop_pipeline.traces.student_turns import student_turns
from loop_pipeline.training.chat_rows import renderable
from loop_pipeline.training.dataset import frozen_set
from loop_pipeline.training.qlora.tokens import rendered, template_arguments
from loop_pipeline_tests.faults.case_stages import (
    NEIGHBOURS,
    Day,
    import_with_neighbours,
    whole_day,
)
from loop_pipeline_tests.faults.test_cases import FILES
from loop_pipeline_tests.training.conftest import (
    CONFIG,
    colour_rows,
    make_tiny_things_smaller,
    silent,
    write_set,
)

SERVE_PYTHON = Path(__file__).parents[2] / ".venv-serve/bin/python"
# Fourteen rows or so make two steps.
RECIPE = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "max_length": 512,
}
# What a student of a template without tool calls, and of 512 tokens, cannot learn from.
LEFT_OUT = {
    "k34-long-answer": "the answer takes more than half",
    "k36-tool-arguments-text": "knows no tool calls",
    "k37-control-marks": "control mark",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has read a little, with a tokenizer of its own."""
    from loop_pipeline.training.base_model import pretrain_tiny

    folder = tmp_path_factory.mktemp("model")
    write_set(folder / "set", colour_rows(0, 64), [])
    with pytest.MonkeyPatch.context() as patch:
        make_tiny_things_smaller(patch)
        recipe = CONFIG.model_copy(update={"base_tokens": 2_000})
        pretrain_tiny(folder / "set", folder / "base", recipe, silent)
    return folder / "base"


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    return Tracking(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/db", tags={})


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[StudentServer]:
    if not SERVE_PYTHON.exists():
        pytest.skip("no .venv-serve: run `make serve-env`")
    url = f"http://127.0.0.1:{free_port()}"
    process = start_supervisor(str(base), url, SERVE_PYTHON, base.with_name("vllm.log"))
    try:
        found = StudentServer(url, log_path=base.with_name("vllm.log"), max_tokens=4)
        found.wait_ready(300)
        yield found
    finally:
        stop(process)


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_set, "MIN_ROWS", 1)


def _day(case: Path, folder: Path) -> Day:
    engine = open_store(f"sqlite:///{folder}/loop.db")
    try:
        import_with_neighbours(engine, case, folder)
        return whole_day(engine, folder)
    except UnreadableFile as error:
        pytest.skip(f"nothing of it is stored: {error}")
    finally:
        engine.dispose()


@pytest.mark.parametrize("case", FILES, ids=[path.name for path in FILES])
@pytest.mark.usefixtures("small_sets")
def test_sound_rows_are_learned_whatever_stands_beside_them(
    base: Path, tracking: Tracking, tmp_path: Path, case: Path
) -> None:
    from loop_pipeline.training.qlora.sft import sft_job, train_adapter

    day = _day(case, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    found, why = renderable(tokenizer, day.rows)
    assert len(found) + sum(why.values()) == len(day.rows)
    sound = {f"sound-{number}" for number in range(NEIGHBOURS)}
    assert sound <= {row["prompt_id"] for row in found}
    for row in found:
        prompt, whole = rendered(tokenizer, row)
        assert row["completion"][0]["content"].strip() in whole
        assert prompt.endswith("<|im_start|>assistant\n")
    recipe = CONFIG.model_copy(update=RECIPE)
    said: list[str] = []
    job = sft_job(recipe, day.frozen, base, tmp_path / "out", tracking, said.append)
    made = train_adapter(replace(job, register=False))
    left_out = LEFT_OUT.get(case.name.partition(".")[0], "")
    assert left_out in "\n".join(said)
    assert made["steps"] >= 2
    assert math.isfinite(made["train_loss_last"])
    assert (tmp_path / "out/adapter/adapter_model.safetensors").exists()


@pytest.mark.serve
@pytest.mark.usefixtures("small_sets")
def test_the_server_answers_or_refuses_every_case_and_lives(
    base: Path, server: StudentServer, tmp_path: Path
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    answered, refused = 0, 0
    for case in FILES:
        folder = tmp_path / case.name
        folder.mkdir()
        try:
            traces = _day(case, folder).traces
        except pytest.skip.Exception:
            continue
        rows = traces[~traces["prompt_id"].str.startswith("sound-")].to_dict("records")
        rows += traces[traces["prompt_id"] == "sound-0"].to_dict("records")
        for row in rows:
            try:
                answer = server.answer("base", row["messages"])
            except ServerError:
                assert row["prompt_id"] != "sound-0"
                refused += 1
                continue
            answered += 1
            asked = tokenizer.apply_chat_template(
                student_turns(row["messages"]),
                tokenize=True,
                add_generation_prompt=True,
                return_dict=False,
                **template_arguments(tokenizer),
            )
            assert answer.tokens_in == len(asked), (case.name, row["prompt_id"])
    assert answered > refused
