"""What does QLoRA of a 7B model cost on one GPU, against TRL's defaults and the memory estimate?

    bash infra/gpu_proof.sh pack                     # where there is a package index
    bash infra/gpu_proof.sh run                      # on the bare machine with the GPU
    python -m benchmarks.gpu_proof --small --out F   # the same in small, on a CPU

The base has random weights of the profile's shape in NF4; rows are made-up words of very different
lengths; nothing is downloaded. It is trained by this project's supervised stage with the profile's
recipe, packed, and by TRL's defaults on the same rows; tokens do not count padding. The operations
counted are those of the forward pass and of the backward pass through frozen weights; MFU is their
rate as a share of that of a large bf16 matrix product, measured in the same run. The first process
is killed with signal 9 within a step behind its checkpoint; the second goes on, and must see every
row once and end at the planned step. Each process has a deadline, and the file is written again
after each: a run that is cut leaves figures. It exits with 1 if a part has failed; the table of
parts says why.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from benchmarks.gpu_figures import figures_of, resume_row, saw_all_rows, steps_of, tables
from benchmarks.gpu_plan import PROCESSES, Plan, base_of
from loop_pipeline.training.memory_estimate import KNOWN

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")
# Tiny products are slower on several threads that wait for each other.
SMALL_THREADS = "1"


def run_process(parts: tuple[str, ...], plan: Plan, work: Path, seconds: float) -> str:
    """Run parts in a process of their own, that is killed at its deadline.

    Returns:
        How it ended; empty: well, or killed as it was to be.
    """
    command = [sys.executable, "-m", "benchmarks.gpu_parts", str(work), *parts]
    command += ["--profile", plan.profile, *(["--small"] if plan.small else [])]
    around = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if plan.small:
        around["OMP_NUM_THREADS"] = SMALL_THREADS
    with (work / "log").open("ab") as log:
        process = subprocess.Popen(command, env=around, stdout=log, stderr=log)
        try:
            code = process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"stopped at its deadline, {seconds:.0f} s after it began"
    killed = "killed" in parts and code == -signal.SIGKILL
    return "" if code == 0 or killed else f"the process ended with {code}"


def failures(plan: Plan, work: Path, ends: dict[str, str]) -> dict[str, str]:
    """Parts without what they were to bring, and why.

    Args:
        plan: What was to be done.
        work: Where the parts have written.
        ends: How the process of each part that has run ended.
    """
    failed = {}
    for part, end in ends.items():
        found = figures_of(work, part)
        if part == "killed" and not found:
            steps = steps_of(work, part)
            reached = bool(steps) and steps[-1]["step"] == plan.kill_step - 1
            why = end or ("" if reached else "killed before it had done its steps")
        else:
            why = found.get("failed", "") if found else end or "no figures were left"
        if part == "resumed" and not why:
            why = "; ".join(resume_row(plan, work)[1])
        whole = part == "rival" and not plan.rival_steps
        if whole and not why and not saw_all_rows(work, steps_of(work, part)):
            why = "it saw other rows than those of the set"
        if why:
            failed[part] = why
    return failed


def prove(plan: Plan, work: Path, out: Path) -> dict[str, str]:
    """Run every process within its time, and write the figures after each.

    Returns:
        Parts that failed, each with the reason.
    """
    start, deadline = record.Start(), time.monotonic()
    ends: dict[str, str] = {}
    failed: dict[str, str] = {}
    for parts, seconds in PROCESSES:
        deadline += plan.patience * seconds
        ends |= dict.fromkeys(parts, run_process(parts, plan, work, deadline - time.monotonic()))
        failed = failures(plan, work, ends)
        write(plan, work, out, start, failed)
        for part in parts:
            sys.stdout.write(f"{part}: {failed.get(part, 'done')}\n")
        sys.stdout.flush()
        if not (base_of(work) / "config.json").exists():
            return failed | {"all others": "there is no base to train"}
    return failed


def write(plan: Plan, work: Path, out: Path, start: record.Start, failed: dict[str, str]) -> None:
    """The figures so far, in the form of every benchmark's result."""
    version = importlib.metadata.version("trl")
    notes = [
        f"Profile {plan.profile}"
        + (", narrow: the model is not the profile's." if plan.small else "."),
        "Without flash attention: packed rows are kept apart by a mask.",
    ]
    record.record(
        __file__,
        __doc__,
        tables(plan, work, failed),
        start,
        rivals=[f"trl {version}"],
        packages=PACKAGES,
        notes=notes,
        folder=out,
    )


def main() -> None:
    """Prove it, print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="qwen2.5-7b", choices=list(KNOWN))
    parser.add_argument("--small", action="store_true", help="a narrow model, few steps")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the result")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failed = prove(Plan(given.profile, given.small), Path(folder), given.out)
        log = (Path(folder) / "log").read_text(encoding="utf-8", errors="replace")
    (given.out / "gpu_proof.log").write_text(log, encoding="utf-8")
    sys.stdout.write((given.out / "gpu_proof.json").read_text(encoding="utf-8"))
    for part, why in failed.items():
        sys.stderr.write(f"{part} failed: {why}\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
