"""The proof for a GPU, run in small on a CPU: real processes, a real kill, real 4-bit weights."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from benchmarks.gpu_figures import tables
from benchmarks.gpu_plan import NARROW_VOCABULARY, Plan, flops_per_token, steps_file
from benchmarks.gpu_proof import failures, run_process
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.memory_estimate import KNOWN

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

ROOT = Path(__file__).parents[2]
SMALL = Plan("qwen2.5-7b", small=True)
Rows = list[dict[str, Any]]


def small_run(out: Path) -> dict[str, Rows]:
    """Rows of each table of a whole small run, by title."""
    command = [sys.executable, "-m", "benchmarks.gpu_proof", "--small", "--out", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + (out / "gpu_proof.log").read_text()[-4000:]
    result = json.loads((out / "gpu_proof.json").read_text())
    assert result["rivals_in_this_run"][0].startswith("trl ")
    return {found["title"]: found["rows"] for found in result["tables"]}


def check_both_trainers_were_measured_on_the_same_rows(proof: dict[str, Rows]) -> None:
    [machine] = proof["What it ran on"]
    ours, rival, full = proof["Training"]
    for row in (ours, rival, full):
        assert row["tokens/s"] > 0
        assert 0 < row["MFU"] < 1
        assert row["peak memory"] > 0
    assert (ours["timed steps"], rival["timed steps"]) == (SMALL.timed, SMALL.timed)
    assert rival["tokens in all"] == machine["tokens"]
    assert (ours["padding"], full["padding"]) == (0, 0)
    assert rival["padding"] > 0.1


def check_memory_stands_beside_the_estimate(proof: dict[str, Rows]) -> None:
    [machine] = proof["What it ran on"]
    ours, rival, full = proof["Training"]
    assert 0 < ours["estimate"] < full["estimate"] == machine["estimate of the recipe"]
    assert rival["estimate"] is None  # another optimizer


def check_it_went_on_at_the_checkpoint_after_the_kill(proof: dict[str, Rows]) -> None:
    [row] = proof["Killed with signal 9 and resumed"]
    assert row["killed in step"] == SMALL.kill_step
    assert row["resumed at step"] == SMALL.checkpoint
    assert row["steps"] == row["steps planned"] > SMALL.kill_step
    assert row["tokens seen"] == row["tokens of the set"]
    assert row["steps done twice"] == SMALL.kill_step - 1 - SMALL.checkpoint
    assert row["losses of these differ by"] < 0.01
    curve = {row["step"]: row for row in proof["Loss around the kill"]}
    assert curve[SMALL.checkpoint]["resumed process"] is None
    assert curve[SMALL.kill_step]["killed process"] is None
    assert curve[SMALL.kill_step]["resumed process"] > 0


def check_the_4_bit_base_answers_with_its_adapter(proof: dict[str, Rows]) -> None:
    one, several = proof["Inference on the 4-bit base"]
    assert one["with adapter"]
    assert several["tokens/s"] > one["tokens/s"] > 0


@pytest.mark.timeout(1800)
def test_a_small_run_measures_both_trainers_survives_a_kill_and_answers(tmp_path: Path):
    """One run for all claims: it takes four processes, each of which imports everything."""
    proof = small_run(tmp_path)
    check_both_trainers_were_measured_on_the_same_rows(proof)
    check_memory_stands_beside_the_estimate(proof)
    check_it_went_on_at_the_checkpoint_after_the_kill(proof)
    check_the_4_bit_base_answers_with_its_adapter(proof)


def line(step: int, **more: Any) -> str:
    """A step of a thousand tokens that took a second."""
    found = {"step": step, "of": 12, "at": float(step), "tokens": 1000, "computed": 1000}
    return json.dumps(found | {"ids": 7, "peak_gb": 1.0, "at_once": 4, "loss": 8.0} | more)


def test_a_cut_run_leaves_the_speed_of_the_steps_it_did(tmp_path: Path):
    text = "\n".join(line(step) for step in (1, 2, 3, 4)) + '\n{"step": 5, "o'
    steps_file(tmp_path, "rival").write_text(text)
    ends = {"killed": "stopped at its deadline, 9 s after it began", "rival": "the process ended"}
    failed = failures(SMALL, tmp_path, ends)
    assert failed == ends
    found = {t["title"]: t["rows"] for t in tables(SMALL, tmp_path, failed)}
    [ours, rival, _] = found["Training"]
    assert ours["tokens/s"] is None
    assert (rival["timed steps"], rival["tokens/s"]) == (3, 1000)
    why = {row["part"]: row["failed"] for row in found["Parts"]}
    assert why["killed"].startswith("stopped at its deadline")


def test_a_resume_that_lost_rows_or_steps_is_a_failure(tmp_path: Path):
    at = SMALL.checkpoint
    first = [line(step) for step in range(1, at + 3)]
    second = [line(at + 1, ids=8), line(at + 2, loss=9.0)]
    steps_file(tmp_path, "killed").write_text("\n".join(first))
    steps_file(tmp_path, "resumed").write_text("\n".join(second))
    (tmp_path / "base.json").write_text(json.dumps({"tokens": 99_000, "ids": 7 * 99}))
    done = {"steps": at + 2, "resumed_at_step": at}
    (tmp_path / "resumed.json").write_text(json.dumps(done))
    said = failures(SMALL, tmp_path, {"killed": "", "resumed": ""})
    assert said == {
        "resumed": "it ended at another step than planned; rows were lost or seen twice; "
        "a step done twice saw other rows; losses of a step done twice differ by 11.1%"
    }


def test_a_process_is_stopped_at_its_deadline(tmp_path: Path):
    end = run_process(("ceiling",), SMALL, tmp_path, 0.3)
    assert end == "stopped at its deadline, 0 s after it began"
    assert failures(SMALL, tmp_path, {"ceiling": end}) == {"ceiling": end}


def test_counted_operations_are_those_of_the_published_shapes():
    """Four a parameter of the quantised layers, counted by hand from the model's config.json."""
    layers = 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    assert flops_per_token(KNOWN["qwen2.5-7b"], 0.0) == 4 * layers
    head = 152064 * 3584
    assert flops_per_token(KNOWN["qwen2.5-7b"], 0.5) == 4 * layers + 2 * head


def test_the_script_says_what_is_missing(tmp_path: Path):
    (tmp_path / "infra").mkdir()
    script = shutil.copy(ROOT / "infra" / "gpu_proof.sh", tmp_path / "infra")
    ended = subprocess.run(["bash", script, "run"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "gpu_proof: .gpu_wheels is missing: bash infra/gpu_proof.sh pack"
    )


def test_a_recipe_of_a_7b_model_steps_on_a_narrow_one(tmp_path: Path):
    import torch

    from benchmarks.qlora_7b import step

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loss = step(QLoRAConfig.from_profile("qwen2.5-7b"), tmp_path)
    torch.set_num_threads(threads)
    assert loss == pytest.approx(math.log(NARROW_VOCABULARY), abs=0.3)
