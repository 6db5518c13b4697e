"""How fast is the supervised stage beside TRL's defaults, at the same loss?

    LOOP_BENCH_DATA=../shared/data OMP_NUM_THREADS=1 python -m benchmarks.training_speed

Same machine, same 4-bit base, same rows, same number of tokens, rows a step, rate and adapter, in
turns (A B C A B C ...). "TRL's defaults" are what ``SFTConfig`` does if nothing is said: batches in
random order, activations recomputed, bf16, plain AdamW. The second rival has our precision and no
recomputation, so that only the order of the rows and the optimizer differ. Tokens do not count
padding. CPU seconds are given beside wall seconds: they hardly notice other work on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoTokenizer, PrinterCallback, Trainer

from benchmarks.record import Start, record, table
from benchmarks.trl_defaults import trl_trainer
from loop_pipeline.demo.public_sets import load_set
from loop_pipeline.demo.simulated_traffic import simulate
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.base_model import pretrain_tiny
from loop_pipeline.training.qlora.sft import Tokens, build_trainer, tokenise
from loop_pipeline.training.qlora.tokens import Row

Turn = Callable[[QLoRAConfig, Tokens, str, Path], Trainer]


@dataclass(frozen=True)
class Result:
    """Of one training."""

    wall: float
    cpu: float
    loss: float


def row(number: int, messages: list[dict[str, str]], answer: str) -> Row:
    """One row as the pipeline freezes it."""
    return {
        "prompt_id": f"p{number}",
        "prompt": messages,
        "completion": [{"role": "assistant", "content": answer}],
        "group": "",
    }


def clinc150(folder: Path) -> list[Row]:
    """Short requests of nearly the same length."""
    pairs = load_set("clinc150", folder)
    system = {"role": "system", "content": "Classify the request."}
    return [
        row(i, [system, {"role": "user", "content": text}], label)
        for i, (text, label) in enumerate(pairs)
    ]


def simulated(folder: Path) -> list[Row]:
    """Simulated support desk: labels, JSON, tags and answers, of very different lengths."""
    path = folder / "simulated.jsonl"
    simulate(path)
    traces = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row(i, t["messages"], t["output"]) for i, t in enumerate(traces) if "output" in t]


def freeze(rows: list[Row], count: int, folder: Path) -> Path:
    """A set of ``count`` training rows and 512 validation rows."""
    random.Random(0).shuffle(rows)
    folder.mkdir(parents=True)
    for name, part in (("train", rows[:count]), ("validation", rows[count : count + 512])):
        text = "".join(json.dumps(r) + "\n" for r in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    sha256 = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({"sha256": sha256}))
    return folder


def ours(config: QLoRAConfig, tokens: Tokens, base: str, out: Path) -> Trainer:
    """The supervised stage as it is; nothing is validated or saved while the clock runs."""
    return build_trainer(config, Tokens(tokens.train, [], tokens.max_length, 0), base, out)


def ours_packed(config: QLoRAConfig, tokens: Tokens, base: str, out: Path) -> Trainer:
    """Several rows in one sequence, as on a GPU with flash attention."""
    return ours(config.model_copy(update={"packing": "bfd"}), tokens, base, out)


def trl_like_ours(config: QLoRAConfig, tokens: Tokens, base: str, out: Path) -> Trainer:
    """TRL's defaults but for precision and recomputation."""
    gpu = torch.cuda.is_available()
    checkpointing = config.gradient_checkpointing
    return trl_trainer(config, tokens, base, out, bf16=gpu, gradient_checkpointing=checkpointing)


def validation_loss(model: torch.nn.Module, tokens: Tokens) -> float:
    """Nats a token of the answers, each row alone: no padding, no packing."""
    model.eval()
    total = count = 0.0
    with torch.no_grad():
        for prompt, answer in tokens.validation:
            ids = torch.tensor([prompt + answer], device=next(model.parameters()).device)
            scores = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            total -= float(scores[torch.arange(len(answer)), answer].sum())
            count += len(answer)
    return total / count


def measure(turn: Turn, config: QLoRAConfig, tokens: Tokens, base: str, out: Path) -> Result:
    """Train once; only the steps are timed."""
    trainer = turn(config, tokens, base, out)
    trainer.remove_callback(PrinterCallback)
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert trainer.model is not None
    return Result(wall, cpu, validation_loss(trainer.model, tokens))


def compare(name: str, rows: list[Row], count: int, repeats: int, work: Path) -> dict[str, Any]:
    """One table: a line for each way to train."""
    folder, base = freeze(rows, count, work / name), work / name / "base"
    config = QLoRAConfig.from_profile("tiny")
    pretrain_tiny(folder, base, config, print)
    tokens = tokenise(config, folder, AutoTokenizer.from_pretrained(base))
    turns: dict[str, Turn] = {
        "TRL's defaults": trl_trainer,
        "TRL, our precision": trl_like_ours,
        "ours": ours,
        "ours, packed": ours_packed,
    }
    results: dict[str, list[Result]] = {turn: [] for turn in turns}
    for repeat in range(repeats):
        for label, turn in turns.items():
            out = work / name / f"{repeat}-{len(results[label])}"
            results[label].append(measure(turn, config, tokens, str(base), out))
            sys.stderr.write(f"{name} {repeat + 1}/{repeats} {label}: {results[label][-1]}\n")
    size = sum(len(p) + len(a) for p, a in tokens.train)
    lengths = [len(p) + len(a) for p, a in tokens.train]
    title = (
        f"{name}: {count} rows, {size:,} tokens, length {min(lengths)} to {max(lengths)}, median "
        f"{statistics.median(lengths):g}; medians of {repeats} turns, "
        f"{torch.get_num_threads()} threads, {'GPU' if torch.cuda.is_available() else 'CPU'}"
    )
    found = speeds(results, size)
    print(f"\n{title}\n{pd.DataFrame(found).round(3).to_string(index=False)}")
    return table(title, found)


def speeds(results: dict[str, list[Result]], size: int) -> list[dict[str, Any]]:
    """Speeds, and ours as a multiple of each rival: the median of the turns' own ratios."""
    lines = []
    for label, runs in results.items():
        ratios = [theirs.cpu / mine.cpu for theirs, mine in zip(runs, results["ours"], strict=True)]
        walls = [
            theirs.wall / mine.wall for theirs, mine in zip(runs, results["ours"], strict=True)
        ]
        lines.append(
            {
                "training": label,
                "kind": "ours" if label.startswith("ours") else "control",
                "tokens a second": size / statistics.median(r.wall for r in runs),
                "tokens a processor second": size / statistics.median(r.cpu for r in runs),
                "times as fast is ours": statistics.median(walls),
                "by processor time": statistics.median(ratios),
                "by processor time low": min(ratios),
                "by processor time high": max(ratios),
                "validation loss": statistics.mean(r.loss for r in runs),
            }
        )
    return lines


def main() -> None:
    """Print a table for each set, and write them down."""
    start = Start()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    data = Path(os.environ.get("LOOP_BENCH_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sets = {"simulated": simulated(work)}
        try:
            sets["clinc150"] = clinc150(data)
        except FileNotFoundError as error:
            sys.stderr.write(f"clinc150 is left out: {error}\n")
        tables = [compare(n, rows, given.rows, given.repeats, work) for n, rows in sets.items()]
    packages = ("torch", "transformers", "peft", "trl", "bitsandbytes")
    rivals = [f"TRL {version('trl')}"]
    record(__file__, __doc__, tables, start, rivals=rivals, packages=packages)


if __name__ == "__main__":
    main()
