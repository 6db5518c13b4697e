"""Where the loop's files lie.

What is in them belongs to the stage that writes them; how they are written is in ``whole_file``.
"""

from __future__ import annotations

import json
from pathlib import Path

from loop_pipeline.hashing import digest
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.settings import LoopSettings


def embedder_path(settings: LoopSettings, version: str) -> Path:
    """Where the embedder of a version lies."""
    return settings.artifacts / "embedders" / f"{version[:16]}.npz"


def policy_folder(settings: LoopSettings) -> Path:
    """Folder of the policy documents."""
    return settings.artifacts / "policies"


def habit_folder(settings: LoopSettings) -> Path:
    """Folder of what the wording of each template's answers can tell."""
    return settings.artifacts / "habits"


def run_folder(artifacts: Path, dataset_id: str, recipe: QLoRAConfig) -> Path:
    """Where a run lies: no other recipe writes there, where the champion may be served from."""
    fields = json.dumps(recipe.of_the_adapter(), sort_keys=True)
    return artifacts / "checkpoints" / f"{dataset_id[:16]}-{digest(fields)[:8]}"


def evaluation_folder(settings: LoopSettings, checkpoint_id: str) -> Path:
    """Where the files of a checkpoint's evaluation lie."""
    return settings.artifacts / "evaluations" / checkpoint_id[:16]
