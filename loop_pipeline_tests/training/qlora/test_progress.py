from __future__ import annotations

import pytest

pytest.importorskip("trl")
from transformers import TrainerControl, TrainerState, TrainingArguments

from loop_pipeline.training.qlora import progress
from loop_pipeline.training.qlora.progress import Progress
from loop_pipeline_tests.training.conftest import CONFIG

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds


def test_no_line_before_there_is_a_loss_and_then_one_with_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """A first step of over ten seconds spoke of a loss of nan: it is logged after the step ends."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    lines: list[str] = []
    watch = Progress("sft", CONFIG, None, lines.append, 0.0)
    args, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState(global_step=1, max_steps=120)
    watch.on_train_begin(args, state.__class__(max_steps=120), control)
    watch.on_step_end(args, state, control)
    assert lines == []
    state.log_history.append({"loss": 2.5, "step": 1})
    watch.on_log(args, state, control, {"loss": 2.5, "num_tokens": 512.0})
    state.global_step = 2
    watch.on_step_end(args, state, control)
    [line] = lines
    assert line.startswith("sft: step 2/120, loss 2.500, ")
    assert " s a step, " in line
    assert "nan" not in line
