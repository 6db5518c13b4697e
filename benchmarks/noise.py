"""How much do two trainings of one set differ? On the store of a turn, as `make demo` leaves it.

    LOOP_HOME=.loop/demo python -m benchmarks.noise [trainings a kind]

Trains the newest set again with the seed of the recipe, then with other seeds, and lets vLLM answer
gold with each adapter. Prints agreement of each with the frontier, and of each with the first one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.evaluation.held_out import evaluate
from loop_pipeline.serving.student_server import START_S, StudentServer
from loop_pipeline.serving.supervisor_process import start_supervisor, stop
from loop_pipeline.settings import LoopSettings, load_settings
from loop_pipeline.store.database import open_store
from loop_pipeline.store.traces import read_traces
from loop_pipeline.store.training_data import newest_dataset
from loop_pipeline.training.qlora.train import train_all


def train(settings: LoopSettings, folder: str, seed: int, out: Path) -> dict[str, str]:
    """One adapter; its record goes to a store of its own. Returns its meta."""
    recipe = settings.recipe(seed=seed)
    extras = {
        "config": recipe.model_dump(),
        "dataset_dir": folder,
        "base_dir": settings.base_of(recipe),
        "output_dir": str(out),
        "mlflow": {"tracking_uri": f"sqlite:///{out.parent / 'mlflow.db'}"},
    }
    return train_all(extras, lambda _: None)[0]


def main(repeats: int = 2) -> None:
    """Train, answer, print, write down."""
    start = Start()
    settings = load_settings()
    engine, recipe = open_store(settings.store_url), settings.recipe()
    dataset = newest_dataset(engine)
    if dataset is None:
        raise SystemExit(f"no training set in {settings.home}: run `make demo` first")
    gold = read_traces(engine, split="gold", producer="frontier").drop_duplicates("dedup_key")
    seeds = [recipe.seed] * repeats + [recipe.seed + 1 + i for i in range(repeats)]
    rows, first = [], None
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        metas = [
            train(settings, dataset["folder"], seed, work / str(i)) for i, seed in enumerate(seeds)
        ]
        length = recipe.max_length + settings.max_answer_tokens
        process = start_supervisor(
            settings.base_of(recipe),
            settings.vllm_urls[0],
            settings.serve_python,
            work / "vllm.log",
            max_lora_rank=recipe.lora_r,
            max_model_len=length,
        )
        try:
            server = StudentServer(settings.vllm_urls[0], max_tokens=settings.max_answer_tokens)
            server.wait_ready(START_S)
            for i, (seed, meta) in enumerate(zip(seeds, metas, strict=True)):
                server.load(f"run-{i}", meta["adapter_dir"])
                answers = evaluate(server, f"run-{i}", gold, checkpoint_id=str(i))
                first = answers if first is None else first
                rows.append(
                    {
                        "seed": seed,
                        "adapter": meta["adapter_sha256"][:12],
                        "validation loss": meta["validation_loss"],
                        "agreement on gold": answers["agrees"].mean(),
                        "same answers as the first": (answers["output"] == first["output"]).mean(),
                    }
                )
        finally:
            stop(process)
    sys.stdout.write(f"{len(gold)} gold rows\n{pd.DataFrame(rows).round(4).to_string()}\n")
    units = dict.fromkeys(("agreement on gold", "same answers as the first"), "share")
    tables = [table(f"Each training's answers to {len(gold)} gold rows", rows, units)]
    record(__file__, __doc__, tables, start, packages=["torch", "peft", "trl"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
