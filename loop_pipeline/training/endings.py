"""How a training ended, and the one sentence that everything after it says if it was cut short.

Nothing is trained here: the sentence travels with the adapter to the gate, the report and MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Ended = Literal["steps", "validation loss", "clock", "money"]
LIMITS = {"clock": "max_minutes", "money": "max_usd"}


class Ending(TypedDict):
    """Where one training ended, and what ended it."""

    what: str
    ended_by: Ended
    step: int
    of: int
    folder: str


def ending(what: str, figures: Mapping[str, Any], folder: str = "") -> Ending:
    """How a training ended, from its figures.

    Args:
        what: was trained, in words.
        figures: ``ended_by``, ``steps`` and ``steps_planned``; of an older release they may be
            missing, then it counts as one that came to its end.
        folder: has to be removed before it is trained again; empty: nothing has.
    """
    steps = int(figures.get("steps", 0))
    return {
        "what": what,
        "ended_by": figures.get("ended_by", "steps"),
        "step": steps,
        "of": int(figures.get("steps_planned", steps)),
        "folder": folder,
    }


def cut_short(endings: Sequence[Ending]) -> str:
    """What a reader has to know of trainings that did not come to their end; empty if all did."""
    short = [one for one in endings if one["ended_by"] in LIMITS]
    if not short:
        return ""
    limits = " and ".join(sorted({LIMITS[one["ended_by"]] for one in short}))
    where = " and ".join(f"the {one['what']} at step {one['step']} of {one['of']}" for one in short)
    folders = [one["folder"] for one in short if one["folder"]]
    first = f"remove {' and '.join(folders)}, " if folders else ""
    return (
        f"The training was cut short by {limits}: {where}, before the validation loss had stopped"
        f" falling, so the student knows less than it could; {first}give it more time or a machine"
        " with less to do, and train again."
    )
