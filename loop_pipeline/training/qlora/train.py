"""Train one adapter, or two: ``python -m loop_pipeline.training.qlora.train`` (through Pipes).

A 4-bit (NF4, double quantisation) base, LoRA on every linear layer, TRL's trainers, loss on the
answers only. A run that was killed goes on from its last complete checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_pipes import open_dagster_pipes

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.dataset.frozen_check import check_frozen
from loop_pipeline.training.qlora import distributed
from loop_pipeline.training.qlora.preference import train_preference
from loop_pipeline.training.qlora.sft import sft_job, train_adapter
from loop_pipeline.training.qlora.sweep import run_sweep
from loop_pipeline.training.qlora.tokens import Log

MODULE = "loop_pipeline.training.qlora.train"


def main(arguments: Sequence[str] = ()) -> None:
    """Train and report the adapters through Pipes.

    Args:
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=0, help="0: one for each GPU")
    distributed.become_several(MODULE, parser.parse_args(list(arguments)).processes)
    if not distributed.is_main():
        train_all(distributed.process_input(), lambda _: None)
        return
    with open_dagster_pipes() as pipes:
        try:
            metas = train_all(pipes.extras, pipes.log.info)
        except Exception as error:
            pipes.log.error(str(error).splitlines()[0])  # noqa: TRY400  the trace follows
            raise
        recipe = {"raw_value": metas[0]["config"], "type": "json"}
        pipes.report_asset_materialization(
            metadata={**metas[0], "config": recipe}, data_version=metas[0]["adapter_sha256"]
        )


def train_all(extras: Mapping[str, Any], log: Log) -> list[dict[str, Any]]:
    """Train what the process's input asks for.

    Args:
        extras: ``config``, ``dataset_dir``, ``base_dir``, ``output_dir`` and ``mlflow``; and
            ``dataset_id``, which the files of the set have to bear out.
        log: Takes progress lines.

    Returns:
        Metas of the adapters: the supervised one, then the one of the preference stage, if any.

    Raises:
        DamagedSet: the training set is not what was frozen.
    """
    folder = Path(extras["dataset_dir"])
    if frozen := extras.get("dataset_id"):
        check_frozen(folder, frozen)
    job = sft_job(
        QLoRAConfig.model_validate(extras["config"]),
        folder,
        Path(extras["base_dir"]),
        Path(extras["output_dir"]),
        Tracking.model_validate(extras["mlflow"]),
        log,
    )
    metas = [run_sweep(job) if job.config.sweep_trials else train_adapter(job)]
    if job.config.preference == "auto" and (second := train_preference(job)):
        metas.append(second)
    return metas


if __name__ == "__main__":
    main(sys.argv[1:])
