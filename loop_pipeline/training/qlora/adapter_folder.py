"""What lies beside an adapter's weights: its base, and the record of its run.

Not here: training libraries; serving and evaluation ask here before they use an adapter.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from loop_pipeline.hashing import file_sha256
from loop_pipeline.store.mlflow_log.run_record import RunRecord
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.whole_file import read_object, write_whole

WEIGHTS = "adapter_model.safetensors"
META = "meta.json"


def write_mark(path: Path, content: dict[str, Any]) -> None:
    """Write a completion mark, whole or not at all."""
    write_whole(path, json.dumps(content, indent=1))


def read_meta(adapter_dir: Path) -> dict[str, Any]:
    """What ``meta.json`` says; a folder without one is no finished adapter.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    path = adapter_dir / META
    if not path.is_file():
        raise ValueError(f"{adapter_dir} is no finished adapter: {META} is missing; train it again")
    return read_object(path, mend="train it again")


def checked_meta(adapter_dir: Path) -> dict[str, Any]:
    """What ``meta.json`` says, if the weights beside it are still the ones it speaks of.

    Raises:
        ValueError: there is none, or the weights are missing, cut off or changed.
    """
    meta, weights = read_meta(adapter_dir), adapter_dir / WEIGHTS
    found = file_sha256(weights) if weights.is_file() else "missing"
    if found != meta["adapter_sha256"]:
        raise ValueError(
            f"{weights} is not what was trained (sha256 {found[:12]}, it was"
            f" {meta['adapter_sha256'][:12]}): restore it, or remove {adapter_dir} and train again"
        )
    return meta


def finished_adapters(run_dir: Path) -> list[dict[str, Any]]:
    """Metas of a run's adapters: the supervised one, then the one that was made from it, if any.

    Raises:
        ValueError: the run has no finished adapter, or its weights were changed.
    """
    first = checked_meta(run_dir / "adapter")
    second = run_dir / "preference" / "adapter"
    if not (second / META).is_file():
        return [first]
    meta = checked_meta(second)
    return [first, meta] if meta["parent_sha256"] == first["adapter_sha256"] else [first]


def base_identity(base: str) -> str:
    """Name a base by its content, wherever it lies: adapters of another base are nonsense on it.

    Args:
        base: Hub id or folder.

    Returns:
        For a folder ``sha256:`` of its ``config.json`` and weights, else ``id@revision``.

    Raises:
        ValueError: a folder without config or weights, or an id that cannot be looked up.
    """
    folder = Path(base)
    if folder.is_dir():
        files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
        if len(files) < 2 or not files[0].is_file():
            raise ValueError(f"{base} is no base model: config.json or *.safetensors is missing")
        whole = hashlib.sha256("".join(map(file_sha256, files)).encode())
        return f"sha256:{whole.hexdigest()}"
    from transformers import AutoConfig

    try:
        revision = AutoConfig.from_pretrained(base)._commit_hash
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"base model {base!r} cannot be looked up: {first}") from error
    return f"{base}@{revision}"


def finish(
    record: RunRecord, adapter_dir: Path, meta: dict[str, Any], *, register: bool = True
) -> dict[str, Any]:
    """Register an adapter and write its ``meta.json``, which makes it a finished one.

    Args:
        record: Of its run.
        adapter_dir: Its folder.
        meta: Everything else about it.
        register: Whether it becomes a model version now.

    Returns:
        The meta, with ``mlflow_run_id``, ``model_version`` and, in words, what ``mlflow_missing``
        is: without its record an adapter has no version, and cannot be approved.
    """
    version = record.register(adapter_dir, meta["adapter_sha256"]) if register else None
    if not register:
        record.deliver()
    meta = meta | {"mlflow_run_id": record.run_id, "model_version": version}
    meta["mlflow_missing"] = record.missing()
    write_mark(adapter_dir / META, meta)
    record.artifact(adapter_dir / META, "adapter")
    record.deliver_if_due()
    return meta


def deliver_buffered(run_dir: Path, tracking: Tracking) -> dict[str, Any]:
    """Bring to MLflow what it has missed of a finished run, and register the run's adapter.

    Args:
        run_dir: Folder of the run, with ``adapter/`` in it, and ``trials/`` if it is a sweep.
        tracking: The MLflow store.

    Returns:
        The adapter's meta; ``mlflow_missing`` is empty if everything has arrived.

    Raises:
        ValueError: the run has no finished adapter.
    """
    adapter = run_dir / "adapter"
    meta = read_meta(adapter)
    for trial in sorted(run_dir.glob("trials/*")):
        RunRecord(tracking, trial).deliver()
    record = RunRecord(tracking, run_dir)
    if meta["model_version"] is None:
        return finish(record, adapter, meta)
    record.deliver()
    return meta
