"""What a training says of itself: a line every ten seconds, curves for MLflow, its budget.

Not here: where curves are kept (``store/mlflow_log/run_record.py``).
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.mlflow_log.run_record import RunRecord
from loop_pipeline.training.endings import Ended
from loop_pipeline.training.qlora.distributed import main_decides, wait_for_all
from loop_pipeline.training.qlora.resume import mark_complete
from loop_pipeline.training.qlora.tokens import SECONDS_BETWEEN_LINES, Log


def peak_memory_mb() -> float:
    """Most memory this process has held so far: the GPU's, or the process's own without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Progress(TrainerCallback):
    """Marks checkpoints as complete, records curves, speaks every ten seconds, keeps the budget."""

    def __init__(
        self, name: str, config: QLoRAConfig, record: RunRecord | None, log: Log, spent: float
    ) -> None:
        """Args are what to call the run, its recipe, where curves go (rank 0), and seconds spent.

        Time that a killed process has spent counts: the budget is the run's, not the process's.
        """
        self.name, self.config, self.record, self.log = name, config, record, log
        self.spent = spent
        self.started = self.said = time.monotonic()
        self.first_step = 0
        self.tokens = 0.0
        self.ended_by: Ended | None = None  # set if the time or the money ends it
        self._last = (self.started, 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds of this process."""
        return time.monotonic() - self.started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; ``global_step`` is above zero when the run was resumed."""
        self.started = self.said = time.monotonic()
        self._last = (self.started, 0.0)
        self.first_step = state.global_step

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint, with the time that was needed to come here."""
        wait_for_all()  # each process writes a file of its own into the folder
        if state.is_world_process_zero:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            mark_complete(folder, round(self.spent + self.elapsed, 1))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """One point of every curve a logging step."""
        numbers = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" in numbers:
            numbers |= {"tokens_per_second": self._speed(numbers), "memory_mb": peak_memory_mb()}
        if self.record:
            self.record.metrics(numbers, state.global_step)

    def _speed(self, numbers: dict[str, float]) -> float:
        now, (before, tokens) = time.monotonic(), self._last
        self.tokens = numbers.get("num_tokens", 0.0)
        self._last = (now, self.tokens)
        return (self.tokens - tokens) / max(now - before, 1e-9)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say where the run stands, and end it when its time or money is over."""
        # One clock for all processes: they would wait for each other for ever otherwise.
        if main_decides(self.spent + self.elapsed > 60 * self.config.minutes):
            self._stop(args, state, control)
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        # The first loss is logged after the first step has ended; until then there is no line.
        if losses and time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            self.log(self._line(state, losses[-1]))
            if self.record:
                self.record.deliver_if_due()

    def _stop(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        self.ended_by = self.config.limited_by
        budget = f"{self.config.minutes:g} minutes"
        if self.ended_by == "money":
            budget = f"{self.config.max_usd:g} USD"
        self.log(f"{self.name}: {budget} are over at step {state.global_step}/{state.max_steps}")
        control.should_training_stop = True
        # The last step competes for the best: it needs a validation loss and a checkpoint.
        control.should_evaluate = args.eval_strategy != "no"
        control.should_save = True

    def _line(self, state: TrainerState, loss: float) -> str:
        done = state.global_step - self.first_step
        left = (state.max_steps - state.global_step) / done * self.elapsed
        left = min(left, 60 * self.config.minutes - self.spent - self.elapsed)
        return (
            f"{self.name}: step {state.global_step}/{state.max_steps}, "
            f"loss {loss:.3f}, {self.elapsed / done:.2f} s a step, "
            f"{self.tokens / self.elapsed:,.0f} tokens/s, {max(left, 0):.0f} s to go, "
            f"{peak_memory_mb():,.0f} MB"
        )
