"""Which base an adapter belongs to, and which adapters a restarted server loads again.

Not here: loading them (``fleet.py``).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.whole_file import write_whole


def misfit(folder: Path, root: str) -> str | None:
    """Why an adapter cannot be one of a base; None if nothing on this machine speaks against it.

    vLLM 0.32 takes an adapter of a narrower model without a word and answers nonsense.

    Args:
        folder: the adapter; it may lie on another machine.
        root: the base as the server names it: a folder, or a hub id.
    """
    config = _read_json(folder / "adapter_config.json")
    named = config.get("base_model_name_or_path") or root
    here, there = Path(named), Path(root)
    folders = here.is_dir() and there.is_dir()
    hub_ids = not (here.is_absolute() or there.is_absolute() or there.is_dir())
    if (folders and here.resolve() != there.resolve()) or (hub_ids and named != root):
        return f"was trained on {named}"
    needs, has = _width(folder), _read_json(there / "config.json").get("hidden_size")
    if needs and has and needs != has:
        return f"fits a base of hidden size {needs}, this one has {has}"
    return None


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _width(folder: Path) -> int | None:
    """Hidden size of the base an adapter fits, from the header of its weights."""
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(size))
    return next(
        (e["shape"][1] for n, e in header.items() if n.endswith("q_proj.lora_A.weight")), None
    )


def remember(path: Path, adapters: Mapping[str, str]) -> None:
    """Note which adapters (folder by name) a server on this machine has to hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(dict(adapters), indent=1, sort_keys=True) + "\n")


def remembered(path: Path) -> dict[str, str]:
    """What was noted last; nothing before the first deployment.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return _read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): run the job `deploy`") from error
