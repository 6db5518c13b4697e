"""The file of an embedder: its arrays, and whether they are whole.

Not here: what they mean (``embedder.py``, ``model_embedder.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.groups.embedding.boilerplate import Boilerplate


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a .npz, read to its end: what is damaged is found here, not at a request.

    Raises:
        ValueError: it is no .npz, is cut off, or a byte of it was changed.
        OSError: it cannot be read.
    """
    try:
        # Opened here: of a file that is cut off, numpy leaves it open.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz file")  # noqa: TRY004  of a file, no argument
            return {name: stored[name] for name in stored.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have an error of their own for each damage
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is damaged or no embedder ({said:.120}); fit it again") from error


def check_array(array: NDArray[Any], shape: tuple[int, ...], what: str) -> None:
    """Make sure of an array's shape and that it holds numbers.

    Raises:
        ValueError: it does not; begins with ``what``.
    """
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"{what} is not all numbers")
    if array.shape != shape or 0 in shape:
        raise ValueError(f"{what} has the shape {array.shape}, not {shape}")


def to_bytes(boilerplate: Boilerplate) -> NDArray[np.uint8]:
    """Learned boilerplate as an array of a .npz."""
    return np.frombuffer(boilerplate.model_dump_json().encode(), dtype=np.uint8)


def from_bytes(stored: Mapping[str, NDArray[np.uint8]]) -> Boilerplate:
    """What ``to_bytes`` made; files from before boilerplate was learned have none."""
    if "boilerplate" not in stored:
        return Boilerplate()
    return Boilerplate.model_validate_json(stored["boilerplate"].tobytes())


def model_of(
    stored: Mapping[str, NDArray[Any]], path: Path
) -> tuple[str, str, tuple[NDArray[Any], NDArray[Any]]]:
    """Source, fingerprint and map of a stored ``ModelEmbedder``.

    Raises:
        ValueError: the arrays are not those of one.
    """
    what = f"{path} is not an embedder"
    try:
        about = json.loads(stored["about"].tobytes())
        source, fingerprint = about["source"], about["fingerprint"]
        origin, axes = stored["origin"], stored["axes"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{what} ({type(error).__name__}: {error}); fit it again") from error
    if not isinstance(source, str) or not isinstance(fingerprint, str):
        raise ValueError(f"{what}: it names no model; fit it again")  # noqa: TRY004
    check_array(origin, (origin.size,), f"{what}: origin")
    check_array(axes, (origin.size, 2), f"{what}: axes")
    return source, fingerprint, (origin, axes)
