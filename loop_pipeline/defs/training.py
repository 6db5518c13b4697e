"""Training: labeled pairs -> a frozen set -> an adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from loop_pipeline.artifacts import run_folder
from loop_pipeline.defs.recipe_form import TrainConfig
from loop_pipeline.defs.resources import Loop
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.report.pictures.plots import loss_figure, plot_png_markdown
from loop_pipeline.store.checkpoints import record_candidates
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import DatasetMemberRow, FeedbackRow, LabeledPairRow
from loop_pipeline.store.training_data import newest_dataset
from loop_pipeline.traces.shown_text import text_table
from loop_pipeline.training.base_folder import made_before
from loop_pipeline.training.dataset import frozen_set as sets
from loop_pipeline.training.dataset.frozen_check import DamagedSet, check_frozen
from loop_pipeline.training.dataset.leakage import audit
from loop_pipeline.training.dataset.selection import Selection, select_rows
from loop_pipeline.training.dataset.splits import split_traces, traces_with_splits
from loop_pipeline.training.endings import cut_short, ending
from loop_pipeline.training.libraries import check_training_libraries
from loop_pipeline.training.qlora.adapter_folder import finished_adapters

HOUR = 3600
# The training libraries' bars and known warnings would bury the progress lines; TRL tells its
# makers about every run.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait for each other must not spin: beside other work on the same cores a training
    # was six times slower for it (measured: 504 and 3,638 tokens a second at a load of 6).
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dg.asset(deps=["labeled_pairs"], group_name="training", kinds={"scikitlearn"}, code_version="2")
def training_set(loop: Loop) -> dg.MaterializeResult:
    """What the next student learns from, frozen under the hash of its content.

    Held-out requests are never in it, nor anything that shares text or a conversation with them.
    The table says for which reasons pairs were left out.

    **When to run it:** the jobs `make_base` and `retrain` do. The same pairs give the same set.

    **If it fails,** there are too few pairs, and the message says how many are missing: import more
    traffic, or review more.

    **Read more** in `docs/concepts/training-set.md`.
    """
    engine = loop.engine()
    reviews = read(engine, FeedbackRow, columns=["prompt_id"], kind="review")
    selection = select_rows(
        read(engine, LabeledPairRow),
        split_traces(engine),
        reviewed=set(reviews["prompt_id"]),
        trained=set(read(engine, DatasetMemberRow, split="train")["prompt_id"]),
    )
    try:
        frozen = sets.freeze(selection, loop.settings().artifacts / "datasets")
    except sets.NotEnoughPairs as error:
        raise dg.Failure(f"no training: {error}", allow_retries=False) from error
    sets.record_training_set(engine, frozen, selection)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(frozen.dataset_id), metadata=_described(frozen, selection)
    )


def _described(frozen: sets.TrainingSet, selection: Selection) -> dict[str, Any]:
    why = selection.excluded["reason"].str.replace(r"(: | of |').*", "", regex=True)
    return {
        "dagster/row_count": len(selection.rows),
        **frozen.counts,
        "left_out": len(selection.excluded),
        "reasons_left_out": dg.MetadataValue.md(text_table(why.value_counts()) or "nothing"),
        "trained_until": frozen.trained_until,
        "folder": dg.MetadataValue.path(frozen.folder),
        "triggers": dg.MetadataValue.json(selection.triggers),
    }


@dg.asset_check(asset=training_set, blocking=True)
def splits_share_nothing(loop: Loop) -> dg.AssetCheckResult:
    """No row of the frozen files shares text, a run of words or a conversation with a held-out one.

    The files are compared with what was frozen, to the last byte; their rows with every held-out
    request.

    **If it fails,** nothing after it runs. With a file's name, that file was cut off or changed;
    with numbers, the student could have seen its exam, and no figure about it would mean anything.

    **What to do:** materialize `training_set` to write a damaged file anew. Numbers are a fault of
    this software: report it with the check's metadata.

    **Read more** in `docs/concepts/training-set.md`.
    """
    engine = loop.engine()
    frozen = frozen_set(engine)
    try:
        check_frozen(Path(frozen["folder"]), frozen["dataset_id"])
    except DamagedSet as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    shared = audit(Path(frozen["folder"]), traces_with_splits(engine))
    return dg.AssetCheckResult(passed=not any(shared.values()), metadata=dict(shared))


@dg.asset(deps=[training_set], group_name="training", kinds={"pytorch"}, pool="gpu")
def base_model(
    context: dg.AssetExecutionContext,
    config: TrainConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """The model that every student is an adapter of. The profile `tiny` makes its own, once.

    **When to run it:** the job `make_base` does, before the first `loop serve`.

    **If it fails,** the message says why: a model that cannot be found, a full disk, no memory.

    **Read more** in `docs/concepts/training.md`.
    """
    settings = loop.settings()
    recipe = config.recipe(settings)
    folder = settings.base_of(recipe)
    # Without a process: to import the training libraries takes longer than everything else here.
    if not recipe.base_model and (known := made_before(Path(folder))):
        context.log.info(f"base {folder} is complete: reused")
        if said := cut_short([ending("base model", known, folder)]):
            context.log.warning(said)
        return dg.MaterializeResult(metadata=_numbers_first({"base": folder, **known}))
    made = _train(context, recipe, loop, pipes, ["loop_pipeline.training.base_model"], {})
    return dg.MaterializeResult(metadata=_numbers_first(made.metadata or {}))


@dg.asset(
    deps=[training_set, base_model],
    group_name="training",
    kinds={"pytorch", "huggingface", "mlflow"},
    pool="gpu",
    op_tags={"dagster/max_runtime": 24 * HOUR},
)
def qlora_checkpoint(
    context: dg.AssetExecutionContext,
    config: TrainConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """A student: a small adapter (QLoRA, 4-bit) trained on the training set. So far a candidate.

    It serves nobody before `checkpoint_evaluation` has approved it. `training_cut_short` says if
    time or money ended the training too early; the run in MLflow has all curves.

    **When to run it:** the job `retrain` does; the sensor `enough_new_pairs` starts that. Leave the
    configuration empty to train by the profile.

    **If it fails,** the message says why. Run it again: it goes on from its last checkpoint.

    **Read more** in `docs/concepts/training.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    dataset = frozen_set(engine)
    recipe = config.recipe(settings)
    output = run_folder(settings.artifacts, dataset["dataset_id"], recipe)
    several = ["--processes", str(settings.train_processes)]
    process = ["loop_pipeline.training.qlora.train", *several]
    result = _train(context, recipe, loop, pipes, process, {"output_dir": str(output)})
    metas = finished_adapters(output)
    record_candidates(engine, dataset["dataset_id"], metas)
    figure = loss_figure([tuple(point) for point in metas[0]["loss_curve"]])
    curve = {"loss": dg.MetadataValue.md(plot_png_markdown(figure))}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(metas[0]["adapter_sha256"]),
        metadata=_numbers_first(result.metadata or {}, curve),
    )


def _numbers_first(
    reported: Mapping[str, Any], pictures: Mapping[str, dg.MetadataValue] | None = None
) -> dict[str, Any]:
    """What a training process reported: numbers, then pictures, then what is to be read."""
    kinds = (int, float, dg.IntMetadataValue, dg.FloatMetadataValue)
    numbers = {name: value for name, value in reported.items() if isinstance(value, kinds)}
    return numbers | dict(pictures or {}) | dict(reported)


def frozen_set(engine: Engine) -> dict[str, Any]:
    """The training set in use."""
    dataset = newest_dataset(engine)
    if dataset is None:
        raise dg.Failure("no training set yet: materialize training_set", allow_retries=False)
    return dataset


def _train(
    context: dg.AssetExecutionContext,
    recipe: QLoRAConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
    process: list[str],
    extras: dict[str, Any],
) -> dg.MaterializeResult:
    settings = loop.settings()
    try:
        check_training_libraries(settings.train_python)
    except RuntimeError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    tags = {"dagster_run_id": context.run.run_id}
    frozen = frozen_set(loop.engine())
    invocation = pipes.run(
        context=context,
        command=[str(settings.train_python), "-m", *process],
        env=QUIET,
        extras={
            "config": recipe.model_dump(),
            "dataset_dir": frozen["folder"],
            "dataset_id": frozen["dataset_id"],
            "base_dir": settings.base_of(recipe),
            "mlflow": settings.mlflow_target() | {"tags": tags},
            **extras,
        },
    )
    return invocation.get_materialize_result()
