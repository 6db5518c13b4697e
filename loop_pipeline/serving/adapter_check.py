"""Whether an adapter may be loaded, and which ones a restarted server loads again.

Its files are whole and the ones that were approved, and they are of the server's base. Not here:
loading them (``fleet.py``).
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.hashing import file_sha256
from loop_pipeline.whole_file import write_whole

log = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# The format's own limit on its header.
MOST_HEADER = 100_000_000
# As `store.checkpoints.adapter_name` makes them: the beginning of the weights' sha256.
NAMED = re.compile(r"student-([0-9a-f]{12})")


class _Flaw(ValueError):
    """What is wrong with a file, in words that follow its path."""


def sha256_in(name: str) -> str:
    """How the sha256 of an adapter's weights begins, as its name says; empty if it does not."""
    found = NAMED.fullmatch(name)
    return found[1] if found else ""


def flaw(folder: Path, sha256: str = "", config_sha256: str = "") -> str | None:
    """What is wrong with an adapter's files, in one sentence that names the file; None if nothing.

    vLLM would be asked to load them: it may refuse, end, or answer nonsense with them.

    Args:
        folder: the adapter. One that is not on this machine cannot be judged here.
        sha256: of the weights that were trained and approved, or how it begins.
        config_sha256: of its configuration, if it is known.
    """
    if not os.path.lexists(folder):
        return None
    try:
        if not folder.is_dir():
            return f"{folder} is no folder of an adapter"
        _check_config(folder / CONFIG, config_sha256)
        _check_weights(folder / WEIGHTS, sha256)
    except _Flaw as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or folder} cannot be read ({error.strerror})"
    return None


def misfit(folder: Path, root: str) -> str | None:
    """Why an adapter cannot be one of a base; None if nothing on this machine speaks against it.

    vLLM 0.32 takes an adapter of a narrower model without a word and answers nonsense.

    Args:
        folder: the adapter, without a ``flaw``; it may lie on another machine.
        root: the base as the server names it: a folder, or a hub id.
    """
    there = Path(root)
    try:
        config = _read_object(folder / CONFIG)
        base = _read_object(there / "config.json")
        needs = _width(folder / WEIGHTS)
    except (OSError, _Flaw) as error:
        return f"cannot be compared with its base: {error}"
    named = str(config.get("base_model_name_or_path") or root)
    here = Path(named)
    folders = here.is_dir() and there.is_dir()
    hub_ids = not (here.is_absolute() or there.is_absolute() or there.is_dir())
    if (folders and here.resolve() != there.resolve()) or (hub_ids and named != root):
        return f"was trained on {named}"
    has = base.get("hidden_size")
    if needs and has and needs != has:
        return f"fits a base of hidden size {needs}, this one has {has}"
    return None


def _check_config(path: Path, sha256: str) -> None:
    config = _read_object(path)
    if not config:
        raise _Flaw(f"{path} is missing or empty")
    kind, rank = config.get("peft_type", "LORA"), config.get("r", 1)
    if kind != "LORA" or type(rank) is not int or rank < 1:
        raise _Flaw(f"{path} describes no LoRA adapter (peft_type {kind!r}, r {rank!r})")
    if sha256 and file_sha256(path) != sha256:
        raise _Flaw(f"{path} is not the file that was trained and approved (another sha256)")


def _check_weights(path: Path, sha256: str) -> None:
    start, header = _header(path)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not tensors:
        raise _Flaw(f"{path} holds no weights")
    try:
        end = start + max(int(entry["data_offsets"][1]) for entry in tensors.values())
    except (LookupError, TypeError, ValueError) as error:
        raise _Flaw(f"{path} has a damaged header ({error!r})") from error
    size = path.stat().st_size
    if size != end:
        state = "cut off" if size < end else "too long"
        raise _Flaw(f"{path} is {state}: it has {size:,} bytes, its header speaks of {end:,}")
    if sha256 and not (found := file_sha256(path)).startswith(sha256):
        raise _Flaw(
            f"{path} is not the file of checkpoint {sha256[:12]}: its sha256 is {found[:12]}…;"
            " restore it, or train again"
        )


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors of a .safetensors file begin, and what it says of them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or not 0 < length <= MOST_HEADER:
            raise _Flaw(f"{path} is cut off or no .safetensors file ({size:,} bytes)")
        text = file.read(length)
    return 8 + length, _object_of(text, path)


def _width(weights: Path) -> int | None:
    """Hidden size of the base an adapter fits, from the header of its weights."""
    if not weights.is_file():
        return None
    for name, entry in _header(weights)[1].items():
        if name.endswith("q_proj.lora_A.weight"):
            try:
                return int(entry["shape"][1])
            except (LookupError, TypeError, ValueError) as error:
                raise _Flaw(f"{weights} has a damaged header ({error!r})") from error
    return None


def _read_object(path: Path) -> dict[str, Any]:
    return _object_of(path.read_bytes(), path) if path.is_file() else {}


def _object_of(text: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Flaw(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise _Flaw(f"{path} is damaged: no JSON object")
    return found


def remember(path: Path, adapters: Mapping[str, str]) -> None:
    """Note which adapters (folder by name) a server on this machine has to hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(dict(adapters), indent=1, sort_keys=True) + "\n")


def remember_also(path: Path, adapters: Mapping[str, str]) -> None:
    """Note these beside those that were noted; damaged notes are begun anew, and that is said."""
    try:
        before = remembered(path)
    except ValueError as error:
        log.warning("%s; what it named is loaded again by the job `deploy`", error)
        before = {}
    remember(path, before | dict(adapters))


def remembered(path: Path) -> dict[str, str]:
    """What was noted last; nothing before the first deployment. A wrong entry costs itself.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        noted = json.loads(path.read_bytes()) if path.exists() else {}
        if not isinstance(noted, dict):
            raise ValueError("no JSON object")  # noqa: TRY004  of a file
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): run the job `deploy`") from error
    wrong = sorted(name for name, folder in noted.items() if not isinstance(folder, str))
    for name in wrong:
        log.warning("%s: %s names no folder; it is not served, run the job `deploy`", path, name)
    return {name: folder for name, folder in noted.items() if name not in wrong}
