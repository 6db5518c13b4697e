"""What makes a folder a base model, and whether the tiny one is made already.

Not here: making it (``base_model.py``), and loading one (``qlora/load_model.py``): both take the
training libraries, which this does not import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop_pipeline.whole_file import read_object

# Of a base that was made here; written last.
META = "meta.json"


def check_folder(folder: Path, *, made_here: bool) -> None:
    """Look whether a folder can be a base model, before minutes are spent on it.

    Raises:
        ValueError: it cannot, or is not finished; says what is wrong.
    """
    for needed in ("config.json", *([META] if made_here else [])):
        if not (folder / needed).is_file():
            raise ValueError(f"{folder} is no finished base model: {needed} is missing; make it")
    kind = read_object(folder / "config.json", mend="it is no model's configuration")
    if not kind.get("model_type"):
        raise ValueError(f"{folder} is no base model: config.json names no model_type")
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} is an adapter; base_model must be the model that it adapts")
    if not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} is no base model: it has no *.safetensors weights")


def made_before(folder: Path) -> dict[str, Any] | None:
    """What ``meta.json`` says of a base that was made here; None if there is none yet.

    Raises:
        ValueError: it was finished once and is damaged now.
    """
    if not (folder / META).exists():
        return None
    check_folder(folder, made_here=True)
    return read_object(folder / META, mend="delete that folder, and make_base makes it anew")
