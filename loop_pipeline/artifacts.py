"""Where the loop's files lie, and how a file is written whole or not at all.

What is in the files belongs to the stage that writes them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from loop_pipeline.hashing import digest
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.settings import LoopSettings


def embedder_path(settings: LoopSettings, version: str) -> Path:
    """Where the embedder of a version lies."""
    return settings.artifacts / "embedders" / f"{version[:16]}.npz"


def policies(settings: LoopSettings) -> Path:
    """Folder of the policy documents."""
    return settings.artifacts / "policies"


def write_whole(path: Path, text: str) -> None:
    """Write a file: a reader finds all of it or nothing, whenever the writer dies."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def run_folder(artifacts: Path, dataset_id: str, recipe: QLoRAConfig) -> Path:
    """Where a run lies: no other recipe writes there, where the champion may be served from."""
    fields = json.dumps(recipe.of_the_adapter(), sort_keys=True)
    return artifacts / "checkpoints" / f"{dataset_id[:16]}-{digest(fields)[:8]}"


def evaluation_folder(settings: LoopSettings, checkpoint_id: str) -> Path:
    """Where the files of a checkpoint's evaluation lie."""
    return settings.artifacts / "evaluations" / checkpoint_id[:16]
