"""Tables of `gpu_proof` out of the files that its parts have left, whole or cut.

Runs nothing; imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu_plan import ANSWER_SHARE, PROCESSES, Plan, base_of, flops_per_token, steps_file
from benchmarks.record import table
from loop_pipeline.training.memory_estimate import estimate_memory

Line = dict[str, Any]
# Resumed, the losses of steps done twice differ by chance (dropout, the order of sums) at most so.
SAME_LOSS = 0.01

TRAININGS = {
    "killed": ("this project, packed", "ours"),
    "rival": ("TRL's defaults, the same rows", "control"),
    "full_rows": ("this project, every row of the full length", "ours"),
}
COLUMNS = (
    "seconds",
    "tokens",
    "padding",
    "tokens/s",
    "MFU",
    "peak memory",
    "sequences at a time",
    "estimate",
    "whole GPU",
    "loss first",
    "loss last",
)


def figures_of(work: Path, part: str) -> Line:
    """What a part has written at its end; empty if it came to none."""
    path = work / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def steps_of(work: Path, part: str) -> list[Line]:
    """The steps a part has done; a line that was being written as it died is left out."""
    path = steps_file(work, part)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def saw_all_rows(work: Path, steps: list[Line]) -> bool:
    """Whether steps saw as many tokens as the set has, with the same sum of their ids."""
    facts = figures_of(work, "base")
    return all(sum(line[key] for line in steps) == facts[key] for key in ("tokens", "ids"))


def training_row(plan: Plan, work: Path, part: str) -> Line:
    """Speed over the timed steps, its share of the ceiling, and memory beside the estimate."""
    name, kind = TRAININGS[part]
    warm_up, timed = plan.full_steps if part == "full_rows" else (plan.warm_up, plan.timed)
    steps = steps_of(work, part)[warm_up - 1 : warm_up + timed]
    row: Line = {"training": name, "kind": kind, "timed steps": max(0, len(steps) - 1)}
    row["tokens in all"] = sum(line["tokens"] for line in steps_of(work, part))
    row |= dict.fromkeys(COLUMNS)
    if len(steps) < 2:
        return row
    seconds = steps[-1]["at"] - steps[0]["at"]
    tokens, computed = (sum(line[key] for line in steps[1:]) for key in ("tokens", "computed"))
    row |= {
        "seconds": seconds,
        "tokens": tokens,
        "padding": 1 - tokens / computed,
        "tokens/s": tokens / seconds,
        "peak memory": max(line["peak_gb"] for line in steps),
        "loss first": steps[0]["loss"],
        "loss last": steps[-1]["loss"],
    }
    facts, top = figures_of(work, "base"), figures_of(work, "ceiling").get("tflops")
    if top and facts:
        share = ANSWER_SHARE if part == "full_rows" else facts["answer_tokens"] / facts["tokens"]
        counted = flops_per_token(plan.shape, share)
        row["MFU"] = counted * row["tokens/s"] / (top * 1e12)
    if kind == "ours":
        row |= memory_beside_estimate(plan, work, steps)
    return row


def memory_beside_estimate(plan: Plan, work: Path, steps: list[Line]) -> Line:
    """The estimate for the sequences that this training holds at a time."""
    held = steps[-1]["at_once"]
    recipe = plan.recipe.model_copy(update={"per_device_train_batch_size": held})
    estimate = estimate_memory(recipe, base_of(work)).total / 1e9
    found = {"sequences at a time": held, "estimate": estimate}
    if "device_gb" in steps[-1]:
        found["whole GPU"] = max(line["device_gb"] for line in steps)
    return found


def resume_row(plan: Plan, work: Path) -> tuple[Line, list[str]]:
    """What was lost by the kill, and every way in which the second process did not go on."""
    facts, first, second = (
        figures_of(work, "base"),
        steps_of(work, "killed"),
        steps_of(work, "resumed"),
    )
    done = figures_of(work, "resumed")
    if not (facts and first and second and "steps" in done):
        return {}, []
    at = done["resumed_at_step"]
    again = {line["step"]: line for line in first if line["step"] > at}
    twice = [(again[line["step"]], line) for line in second if line["step"] in again]
    kept = [line for line in first if line["step"] <= at] + second
    difference = max((abs(a["loss"] / b["loss"] - 1) for a, b in twice), default=float("nan"))
    row = {
        "killed in step": first[-1]["step"] + 1,
        "resumed at step": at,
        "steps": done["steps"],
        "steps planned": first[0]["of"],
        "tokens of the set": facts["tokens"],
        "tokens seen": sum(line["tokens"] for line in kept),
        "steps done twice": len(twice),
        "losses of these differ by": difference,
        "loss first": first[0]["loss"],
        "loss last": second[-1]["loss"],
    }
    claims = {
        f"it went on at step {at}, not at {plan.checkpoint}": at == plan.checkpoint,
        "it ended at another step than planned": done["steps"] == first[0]["of"],
        "rows were lost or seen twice": saw_all_rows(work, kept),
        "no step was done twice": bool(twice),
        "a step done twice saw other rows": all(a["ids"] == b["ids"] for a, b in twice),
        f"losses of a step done twice differ by {difference:.1%}": difference <= SAME_LOSS,
    }
    return row, [claim for claim, holds in claims.items() if not holds]


def loss_rows(plan: Plan, work: Path) -> list[Line]:
    """The loss of the steps around the kill, in both processes."""
    both = [{x["step"]: x["loss"] for x in steps_of(work, part)} for part in ("killed", "resumed")]
    around = range(plan.checkpoint - 1, plan.kill_step + 3)
    return [
        {"step": step, "killed process": both[0].get(step), "resumed process": both[1].get(step)}
        for step in around
        if step in both[0] or step in both[1]
    ]


def inference_rows(work: Path) -> list[Line]:
    """One line a batch size."""
    found = figures_of(work, "inference")
    name = "tokens_per_second_"
    return [
        {
            "requests at a time": int(key.removeprefix(name)),
            "tokens/s": value,
            "with adapter": found["adapter"],
            "prompt tokens": found["prompt_tokens"],
            "new tokens": found["new_tokens"],
            "peak memory": found["peak_gb"],
        }
        for key, value in found.items()
        if key.startswith(name)
    ]


def part_rows(work: Path, failed: dict[str, str]) -> list[Line]:
    """Each part: how long it took, and why it has no figures."""
    parts = [part for parts, _ in PROCESSES for part in parts]
    return [
        {
            "part": part,
            "seconds": figures_of(work, part).get("seconds"),
            "failed": failed.get(part, ""),
        }
        for part in parts
    ]


def tables(plan: Plan, work: Path, failed: dict[str, str]) -> list[dict[str, Any]]:
    """Every table that there are figures for."""
    facts, top = figures_of(work, "base"), figures_of(work, "ceiling")
    whole = estimate_memory(plan.recipe, base_of(work)).total / 1e9 if facts else None
    machine = {
        "device": top.get("device"),
        "bf16 product": top.get("tflops"),
        "its size": top.get("size"),
        "base on disk": facts.get("base_gb"),
        "rows": facts.get("rows"),
        "tokens": facts.get("tokens"),
        "median length": facts.get("median_length"),
        "cut at": facts.get("max_length"),
        "estimate of the recipe": whole,
    }
    memory = dict.fromkeys(("peak memory", "estimate", "whole GPU"), "GB")
    resumed, _ = resume_row(plan, work)
    found = [
        (
            "What it ran on",
            [machine],
            {"bf16 product": "TFLOP/s", "base on disk": "GB", "estimate of the recipe": "GB"},
        ),
        (
            "Training",
            [training_row(plan, work, part) for part in TRAININGS],
            {"seconds": "s", "padding": "share", "MFU": "share", **memory},
        ),
        (
            "Killed with signal 9 and resumed",
            [resumed] if resumed else [],
            {"losses of these differ by": "share"},
        ),
        ("Loss around the kill", loss_rows(plan, work), {}),
        ("Inference on the 4-bit base", inference_rows(work), {"peak memory": "GB"}),
        ("Parts", part_rows(work, failed), {"seconds": "s"}),
    ]
    return [table(title, rows, units) for title, rows, units in found if rows]
