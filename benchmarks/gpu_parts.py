"""The parts of `gpu_proof`, each in a process that may die: ``python -m benchmarks.gpu_parts``.

A part writes its figures to its own file; nothing is compared or judged here.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, Trainer, TrainerCallback

from benchmarks.gpu_plan import Plan, base_of, steps_file
from benchmarks.gpu_watch import Figures, Watch, memory, settle
from benchmarks.random_base import full_tokens, make_rows, write_base, write_set
from benchmarks.trl_defaults import trl_trainer
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.qlora.adapter_folder import WEIGHTS, write_mark
from loop_pipeline.training.qlora.load_model import load_quantised
from loop_pipeline.training.qlora.sft import Tokens, build_trainer, tokenise
from loop_pipeline.training.qlora.trainer import fit, save_adapter

VALIDATION_ROWS = 16


def say(text: str) -> None:
    """A line for the log."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def ceiling(plan: Plan, work: Path) -> Figures:  # noqa: ARG001  as every part
    """Operations a second of a large product of two bf16 matrices: what this machine can do."""
    size, times = 512 if plan.small else 8192, []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    for _ in range(13):
        settle()
        start = time.perf_counter()
        torch.mm(a, b)
        settle()
        times.append(time.perf_counter() - start)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "device": name,
        "size": size,
        "tflops": 2 * size**3 / statistics.median(times[3:]) / 1e12,
    }


def base(plan: Plan, work: Path) -> Figures:
    """Make rows, tokenizer and a random 4-bit base; count the rows' tokens."""
    length = plan.recipe.max_length
    rows = make_rows(plan.rows + VALIDATION_ROWS, length)
    write_set(rows[: plan.rows], rows[plan.rows :], work / "set")
    write_base(plan.shape, rows, length, base_of(work))
    tokens = the_tokens(plan, work)
    lengths = [len(prompt) + len(answer) for prompt, answer in tokens.train]
    size = sum(path.stat().st_size for path in base_of(work).iterdir())
    return {
        "base_gb": size / 1e9,
        "rows": len(lengths),
        "tokens": sum(lengths),
        "ids": sum(sum(prompt) + sum(answer) for prompt, answer in tokens.train),
        "answer_tokens": sum(len(answer) for _, answer in tokens.train),
        "median_length": statistics.median(lengths),
        "max_length": tokens.max_length,
    }


def the_tokens(plan: Plan, work: Path) -> Tokens:
    """The rows as every training of this proof sees them."""
    tokenizer = AutoTokenizer.from_pretrained(str(base_of(work)))
    return tokenise(plan.recipe, work / "set", tokenizer)


def _fit(plan: Plan, work: Path, watch: Watch) -> tuple[Trainer, Figures]:
    """The supervised stage as it is, from the last complete checkpoint if there is one."""
    tokens = the_tokens(plan, work)

    def build(recipe: QLoRAConfig, callback: TrainerCallback) -> Trainer:
        trainer = build_trainer(recipe, tokens, str(base_of(work)), work / "run", callback)
        return watch.attach(trainer)

    return fit("sft", build, plan.recipe, work / "run", None, say)


def killed(plan: Plan, work: Path) -> Figures:
    """Train, and be killed (signal 9) in the middle of a step behind the checkpoint."""
    _fit(plan, work, Watch(steps_file(work, "killed"), plan.kill_step))
    raise RuntimeError(f"ended before step {plan.kill_step}, in which it was to be killed")


def resumed(plan: Plan, work: Path) -> Figures:
    """Go on from the last complete checkpoint to the end, and save the adapter."""
    trainer, figures = _fit(plan, work, Watch(steps_file(work, "resumed")))
    save_adapter(trainer, work / "run" / "adapter")
    kept = ("steps", "resumed_at_step", "validation_loss", "micro_batch")
    return {name: figures[name] for name in kept} | memory()


def full_rows(plan: Plan, work: Path) -> Figures:
    """The recipe's largest micro-batch: rows of the full length, as many as it says."""
    length, count = plan.recipe.max_length, plan.rows_a_step * sum(plan.full_steps)
    tokens = full_tokens(count, length)
    recipe = plan.recipe.model_copy(update={"packing": "none"})
    trainer = build_trainer(recipe, tokens, str(base_of(work)), work / "full_rows")
    Watch(steps_file(work, "full_rows")).attach(trainer).train()
    return {"micro_batch": recipe.per_device_train_batch_size} | memory()


def rival(plan: Plan, work: Path) -> Figures:
    """The same rows, base, adapter and schedule by TRL's defaults."""
    tokens, out = the_tokens(plan, work), work / "rival"
    trainer = trl_trainer(plan.recipe, tokens, str(base_of(work)), out, logging_steps=1)
    Watch(steps_file(work, "rival"), last_step=plan.rival_steps).attach(trainer).train()
    return {"micro_batch": plan.recipe.per_device_train_batch_size} | memory()


def inference(plan: Plan, work: Path) -> Figures:
    """Tokens a second of the 4-bit base with the adapter, one request at a time and several."""
    ask, new = (16, 8) if plan.small else (128, 64)
    model: Any = load_quantised(str(base_of(work)))
    adapter = work / "run" / "adapter"
    if (adapter / WEIGHTS).exists():
        model = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
    model.eval()
    prompts = [ids[:ask] for ids, _ in the_tokens(plan, work).train if len(ids) >= ask]
    found: Figures = {
        "prompt_tokens": ask,
        "new_tokens": new,
        "adapter": (adapter / WEIGHTS).exists(),
    }
    for batch in (1, 16):
        asked = torch.tensor(prompts[:batch], device=model.device)
        generate(model, asked, 4)
        start = time.perf_counter()
        generate(model, asked, new)
        found[f"tokens_per_second_{batch}"] = batch * new / (time.perf_counter() - start)
    return found | memory()


def generate(model: Any, asked: torch.Tensor, new: int) -> None:
    """Exactly ``new`` tokens for each prompt, the likeliest each time."""
    with torch.no_grad():
        model.generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            do_sample=False,
            min_new_tokens=new,
            max_new_tokens=new,
        )
    settle()


PARTS = {
    part.__name__: part for part in (ceiling, base, killed, resumed, inference, full_rows, rival)
}


def run(part: str, plan: Plan, work: Path) -> None:
    """Run a part and write its figures, or why there are none."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        figures = PARTS[part](plan, work)
    except Exception as error:  # noqa: BLE001  the parts after it have figures of their own
        import traceback

        say(traceback.format_exc())
        figures = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    seconds = round(time.perf_counter() - start, 1)
    write_mark(work / f"{part}.json", {"seconds": seconds, **figures})
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    """Run the named parts one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--profile", required=True)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    for part in given.parts:
        say(f"--- {part}")
        run(part, Plan(given.profile, given.small), given.work)


if __name__ == "__main__":
    main()
