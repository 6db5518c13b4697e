"""Tables of outcomes: what every model answered to every prompt, in a team's own file.

Not here: outcomes of the policy in force (``from_store.py``).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.confidence.certificate import Certificate

Floats = NDArray[np.float64]
MIN_ROWS = 50


class BadTable(ValueError):
    """A table that cannot be used; one line says why."""


@dataclass(frozen=True)
class OutcomeTable:
    """One row a prompt (n), one column a model (m).

    ``score`` is the model's confidence in its answer where the table has it, else None. Groups are
    None if the table names none.
    """

    source: str
    prompt_ids: list[str]
    texts: list[str]
    groups: list[str] | None
    models: list[str]
    quality: Floats
    cost: Floats
    score: dict[str, Floats]
    notes: list[str]


@dataclass(frozen=True)
class CertifiedGroup:
    """What a policy does with one group, and on what evidence; ``model`` None: the reference."""

    name: str
    model: int | None
    certificate: Certificate
    reason: str


@dataclass(frozen=True)
class Outcomes:
    """Scored requests (n) on which nothing was fitted, answered by every model (m), and a policy.

    Attributes:
        source: where they come from.
        models: names, m of them.
        reference: the model that answers what no other may; agreement is with it.
        weak: the model whose answers ``score`` is about; the reference if no other is cheaper.
        quality: shape (n, m), from 0 to 1; for a store whether the answer agrees.
        cost: shape (n, m), USD.
        length: shape (n,), characters of the prompt.
        group: shape (n,), names.
        score: shape (n,), higher: the weak model's answer is good; NaN is never served.
        chosen: shape (n,), the model whose answer goes out.
        paid: shape (n,), USD of each request under the policy, wasted calls included.
        best_single: shape (n,), the best single model of the request's group on other rows.
        certified: the groups of the policy.
        target: promised agreement among what cheaper models answer.
        delta: chance that any group's promise is broken.
        after_answer: the score is known once the weak model has answered and was paid.
        rows: how many rows were used for what.
        self_agreement: pairs of answers of the reference to one request, and how many agree.
        measure: what ``quality`` is, in a word.
        warnings: what a reader must not overlook.
        notes: what a reader has to know.
    """

    source: str
    models: list[str]
    reference: int
    weak: int
    quality: Floats
    cost: Floats
    length: Floats
    group: NDArray[np.object_]
    score: Floats
    chosen: NDArray[np.int64]
    paid: Floats
    best_single: NDArray[np.int64]
    certified: list[CertifiedGroup]
    target: float
    delta: float
    after_answer: bool
    rows: dict[str, int]
    self_agreement: tuple[int, int] | None = None
    measure: str = "quality"
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Whether each answer is at least as good as the reference's, shape (n, m)."""
        return self.quality >= self.quality[:, [self.reference]] - 1e-12


def read_table(path: Path) -> OutcomeTable:
    """Read a CSV or JSON-lines file of outcomes.

    Columns: prompt_id, text, optional group, and for each model ``<model>.quality`` (0 to 1),
    ``<model>.cost`` (USD) and optional ``<model>.score`` (its confidence in its own answer). Rows
    in which a number is missing are left out and counted.

    Raises:
        BadTable: what is wrong, in one line.
        OSError: the file cannot be read.
    """
    rows = _rows(path)
    if not rows:
        raise BadTable(f"{path} has no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    models = [name.removesuffix(".quality") for name in columns if name.endswith(".quality")]
    _check_columns(path, columns, models)
    _check_ids(path, [str(row.get("prompt_id", "")) for row in rows])
    scored = [model for model in models if f"{model}.score" in columns]
    names = [f"{m}.{what}" for what in ("quality", "cost") for m in models]
    names += [f"{m}.score" for m in scored]
    values = np.array(
        [[_number(path, at, name, row.get(name)) for name in names] for at, row in enumerate(rows)]
    )
    m = len(models)
    _check_range(path, rows, names, values, 2 * m)
    whole = np.atleast_1d(np.isfinite(values[:, : 2 * m]).all(axis=1))
    notes = []
    if not whole.all():
        notes.append(
            f"{int((~whole).sum())} of {len(rows)} rows lack a quality or a cost and are left out"
        )
    if whole.sum() < MIN_ROWS:
        raise BadTable(
            f"{path} has {int(whole.sum())} usable rows; at least {MIN_ROWS} are needed to fit, "
            "calibrate and score on different ones"
        )
    kept = [row for row, keep in zip(rows, whole, strict=True) if keep]
    values = values[whole]
    return OutcomeTable(
        source=path.name,
        prompt_ids=[str(row["prompt_id"]) for row in kept],
        texts=[str(row.get("text") or "") for row in kept],
        groups=[str(r.get("group") or "(none)") for r in kept] if "group" in columns else None,
        models=models,
        quality=values[:, :m],
        cost=values[:, m : 2 * m],
        score={model: values[:, 2 * m + i] for i, model in enumerate(scored)},
        notes=notes,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadTable(f"{path} is not UTF-8: byte {error.start} cannot be read") from None
    return _csv_rows(path, text) if path.suffix == ".csv" else _json_rows(path, text)


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # the usual 128 KB are less than some prompts
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadTable(f"{path} is no CSV: {error}") from None
    for at, row in enumerate(rows, start=1):
        if None in row:
            raise BadTable(f"{path}, row {at}: more cells than columns")
    return rows


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for at, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise BadTable(f"{path}, line {at}: not a JSON object (a .csv file ends in .csv)")
        rows.append(row)
    return rows


def _check_columns(path: Path, columns: list[str], models: list[str]) -> None:
    missing = [name for name in ("prompt_id", "text") if name not in columns]
    missing += [f"{model}.cost" for model in models if f"{model}.cost" not in columns]
    if missing:
        raise BadTable(f"{path} lacks the columns {', '.join(missing)}")
    if len(models) < 2:
        found = f"only {models[0]!r} has" if models else "no model has"
        raise BadTable(
            f"{path}: {found} a column '<model>.quality'; a route needs at least two models"
        )


def _check_ids(path: Path, names: list[str]) -> None:
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise BadTable(f"{path}: prompt_id {name!r} stands in {times} rows; one row a prompt")


def _number(path: Path, at: int, name: str, value: Any) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadTable(f"{path}, row {at + 1}: {name} is {value!r:.40}, not a number") from None


def _check_range(
    path: Path, rows: list[dict[str, Any]], names: list[str], values: Floats, bounded: int
) -> None:
    low, high = np.zeros(bounded), np.where(np.arange(bounded) < bounded // 2, 1.0, math.inf)
    part = values[:, :bounded]
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere((part < low) | (part > high) | np.isinf(part))
    if len(wrong):
        at, column = wrong[0]
        limits = "from 0 to 1" if column < bounded // 2 else "a price of 0 or more"
        raise BadTable(
            f"{path}, prompt_id {str(rows[at].get('prompt_id'))!r}: {names[column]} is "
            f"{part[at, column]:g}, not {limits}"
        )
