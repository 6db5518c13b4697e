"""What does the quality threshold do for the student?

    python -m benchmarks.threshold [traces]

Simulated support desk whose frontier is wrong more often than the demo's. The whole chain up to the
labeled pairs runs once; then, for each threshold, the pairs it keeps train a tiny student from
scratch (base and QLoRA adapter, same recipe, same seed), and the student answers requests that
nobody learned from. Their true answers are known, so the agreement is with the truth.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.demo import simulated_traffic as traffic
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.pairs import candidates, label_pairs
from loop_pipeline.labels.quality.model import QualityModel, fit_quality, score_quality
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.labels.signals import features, tasks, trace_signals
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.sampling import coin
from loop_pipeline.store.database import open_store
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.ingest import import_file, import_records
from loop_pipeline.traces.records import Feedback

WORSE = {"WRONG": 0.12, "WRONG_IF_HARD": 0.35, "HALLUCINATED": 0.20}
REVIEWED = 0.12
TESTED = 800


def labelled(work: Path, traces: int) -> tuple[pd.DataFrame, dict[str, Any], QualityModel, Any]:
    """Traces with their truth, what every pair needs, and the fitted score."""
    with mock.patch.multiple(traffic, **WORSE):
        traffic.simulate(work / "traffic.jsonl", traces=traces)
    engine = open_store(f"sqlite:///{work / 'loop.db'}")
    import_file(engine, work / "traffic.jsonl", secret=lambda: b"of this run only, thrown away")
    frame = read_traces(engine)
    drawn = [p for p in frame["prompt_id"] if coin("review", p) < REVIEWED]
    reviews = traffic.answer_reviews(work / "truth.jsonl", drawn)
    records = [(i, Feedback.model_validate(review)) for i, review in enumerate(reviews)]
    import_records(engine, records, source="reviews")
    feedback = read_feedback(engine)
    engine.dispose()
    flags, judged = flag_hallucinations(frame, tiers=Tiers()), verdicts(feedback)
    known = features(trace_signals(frame, feedback, flags))
    chance = pd.Series(REVIEWED, index=drawn)
    promise = {"target_precision": 0.95, "delta": 0.05}
    open_to = candidates(frame, feedback, flags)
    found = fit_quality(known, tasks(frame), judged, chance, candidates=open_to, **promise)
    model = found.model
    scores = score_quality(model, known, tasks(frame), judged)
    truth = pd.read_json(work / "truth.jsonl", lines=True).set_index("prompt_id")
    frame = frame.join(truth[["truth", "right"]], on="prompt_id")
    return frame, {"feedback": feedback, "flags": flags, "verdicts": judged}, model, scores


def train(rows: pd.DataFrame, work: Path) -> Path:
    """Base and adapter from these rows only; returns the folder that holds both."""
    from loop_pipeline.recipe import QLoRAConfig
    from loop_pipeline.training.base_model import pretrain_tiny
    from loop_pipeline.training.qlora.train import train_all

    dataset = work / "dataset"
    dataset.mkdir(parents=True)
    lines = [
        json.dumps(
            {
                "prompt_id": row.prompt_id,
                "prompt": row.messages,
                "completion": [{"role": "assistant", "content": row.chosen}],
                "group": "",
            }
        )
        for row in rows.itertuples()
    ]
    cut = max(1, len(lines) // 20)
    (dataset / "validation.jsonl").write_text("\n".join(lines[:cut]) + "\n")
    (dataset / "train.jsonl").write_text("\n".join(lines[cut:]) + "\n")
    (dataset / "dataset.json").write_text(json.dumps({"sha256": work.name}))
    config = QLoRAConfig.from_profile("tiny")
    pretrain_tiny(dataset, work / "base", config, lambda _: None)
    meta = train_all(
        {
            "config": config.model_dump(),
            "dataset_dir": str(dataset),
            "base_dir": str(work / "base"),
            "output_dir": str(work / "out"),
            "mlflow": {"tracking_uri": f"sqlite:///{work / 'mlflow.db'}"},
        },
        lambda _: None,
    )[0]
    return Path(meta["adapter_dir"])


def answers(base: Path, adapter: Path, rows: pd.DataFrame) -> list[str]:
    """Greedy answers of a student."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    model.eval()
    said: list[str] = []
    for start in range(0, len(rows), 64):
        asked = rows["messages"].iloc[start : start + 64].tolist()
        batch = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=64, do_sample=False)
        new = out[:, batch["input_ids"].shape[1] :]
        said += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return said


def main(traces: int = 6000) -> None:
    """Print the table, and write it down."""
    start, lines = Start(), []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        frame, known, model, scores = labelled(work, traces)
        sys.stdout.write(f"{model.reason}\n")
        held = frame["split"].isin(["gold", "calibration"])
        tested = frame[held].drop_duplicates("dedup_key").head(TESTED)
        settings: dict[str, Any] = {f"{t:.2f}": t for t in (0.0, 0.8, 0.95)}
        settings["certified per task"] = scores["threshold"]
        for number, (label, threshold) in enumerate(settings.items()):
            started = time.monotonic()
            tried = scores.assign(threshold=threshold)
            pairs = label_pairs(
                frame, known["feedback"], known["flags"], tried, known["verdicts"], tiers=Tiers()
            )
            kept = pairs[pairs["kind"] == "sft"].merge(frame, on="prompt_id", suffixes=("", "_t"))
            kept = kept[kept["split"] == "train"].sample(frac=1, random_state=0)
            folder = work / str(number)
            adapter = train(kept, folder)
            right = np.array(answers(folder / "base", adapter, tested)) == tested["truth"]
            low, high = clopper_pearson(int(right.sum()), len(right))
            lines.append(
                {
                    "threshold": label,
                    "pairs": len(kept),
                    "of them right": (kept["chosen"] == kept["truth"]).mean(),
                    "student right": right.mean(),
                    "student right low": low,
                    "student right high": high,
                    "n": len(right),
                    "time": time.monotonic() - started,
                }
            )
            sys.stdout.write(f"{lines[-1]}\n")
            sys.stdout.flush()
    found = pd.DataFrame(lines)
    shown = found.round(3).to_string(index=False)
    sys.stdout.write(f"\n{len(tested)} held-out requests\n{shown}\n")
    units = {"of them right": "share", "student right": "share", "time": "s"}
    title = f"A student by threshold, on {len(tested)} held-out requests of {traces:,} traces"
    record(__file__, __doc__, [table(title, lines, units)], start, packages=["torch", "peft"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
