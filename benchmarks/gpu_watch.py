"""What a training does, seen from outside: a line a step, written as it ends.

Knows nothing of recipes or rivals.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from loop_pipeline.training.qlora.progress import peak_memory_mb

Figures = dict[str, Any]


def settle() -> None:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Watch(TrainerCallback):
    """Writes a line a step: when it ended, what it saw, loss and memory. Kills itself if asked to.

    What a step saw is counted where the model sees it: tokens without and with padding, and the sum
    of the tokens' ids, by which two processes can be compared.
    """

    def __init__(self, path: Path, kill_in_step: int = 0, last_step: int = 0) -> None:
        self.path, self.kill_in_step, self.last_step = path, kill_in_step, last_step
        self.seen: list[torch.Tensor] = []
        self.line: Figures = {}
        self.step = 0

    def attach(self, trainer: Trainer) -> Trainer:
        """Watch a trainer and the model in it."""
        assert trainer.model is not None
        trainer.add_callback(self)
        trainer.model.register_forward_pre_hook(self._count, with_kwargs=True)
        return trainer

    def _count(self, model: torch.nn.Module, args: Any, inputs: dict[str, Any]) -> None:
        if not model.training:
            return
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        total = torch.full_like(mask.sum(), ids.numel())
        self.seen.append(torch.stack([mask.sum(), total, (ids * mask).sum()]))
        if self.step + 1 == self.kill_in_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Where this process begins."""
        self.step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the device, then look at the clock."""
        settle()
        self.step = state.global_step
        tokens, computed, ids = torch.stack(self.seen).sum(0).tolist()
        self.line = {"step": self.step, "of": state.max_steps, "at": time.perf_counter()}
        self.line |= {"tokens": tokens, "computed": computed, "ids": ids, **memory()}
        self.line["at_once"] = args.per_device_train_batch_size
        self.seen = []
        if self.step == self.last_step:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """The loss is known only now."""
        if self.line and "loss" in (logs or {}):
            line = self.line | {"loss": float(logs["loss"])}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.line = {}


def memory() -> Figures:
    """Most memory so far (GB): of the tensors, and of the whole GPU as its driver sees it."""
    found = {"peak_gb": peak_memory_mb() / 1e3}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {"device_gb": (total - free) / 1e9}
    return found
