"""T1: from the wording of an answer to a score. Plain numbers in a JSON file, no pickle.

Not here: fitting it (``wording_fit.py``).

``weights.json`` ships with the package; ``wording_weights`` makes it. A file of a team's own,
fitted to its reviews, has the same form (``LOOP_DETECTOR_FILE``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from scipy.special import expit

from loop_pipeline.labels.hallucination.wording_features import FEATURES

FLAG_FROM = 0.5
EVERYWHERE = ""
SHIPPED = Path(__file__).with_name("weights.json")


class Detector(BaseModel):
    """A fitted score, and how far to trust it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    trained_on: str
    features: tuple[str, ...] = FEATURES
    weights: tuple[float, ...]
    """Intercept, then one weight a feature, none below 0."""
    calibration: dict[str, tuple[float, float]]
    """Slope and intercept (Platt) by template hash; "" is for every other template."""
    n: int
    share: float
    """Of the labels that say hallucinated. The score itself is given at even odds."""
    auc: float
    balanced_accuracy: float
    interval: tuple[float, float]
    """95%, of the balanced accuracy. Both figures are of folds that were not fitted."""

    @model_validator(mode="after")
    def _fits_these_features(self) -> Detector:
        if self.features != FEATURES or len(self.weights) != 1 + len(FEATURES):
            raise ValueError("it was fitted to other features than this version has; fit it again")
        if EVERYWHERE not in self.calibration:
            raise ValueError('calibration has no entry "", the one for every other template')
        return self

    @property
    def version(self) -> str:
        """Names its content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def risk(self, rows: NDArray[np.float64], templates: Sequence[str] = ()) -> NDArray[np.float64]:
        """P(not supported), if half of the answers were not.

        Args:
            rows: of ``features``, shape (n, len(FEATURES)).
            templates: template hash of each row; empty: the calibration for every other one.

        Returns:
            Shape (n,). Flagged from ``FLAG_FROM`` on.
        """
        raw = self._weighed(rows)
        other = self.calibration[EVERYWHERE]
        fits = [self.calibration.get(name, other) for name in templates] or [other]
        slope, intercept = np.array(fits).T
        return expit(slope * raw + intercept)

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of ``risk`` for templates without a calibration of their own, shape (n,)."""
        slope, intercept = self.calibration[EVERYWHERE]
        return slope * self._weighed(rows) + intercept

    def reviewed(self, template: str) -> bool:
        """Whether it was calibrated to reviews of a template."""
        return template != EVERYWHERE and template in self.calibration

    def _weighed(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows @ np.array(self.weights[1:]) + self.weights[0]


def load_detector(path: Path) -> Detector:
    """Read a detector's file.

    Raises:
        FileNotFoundError, ValueError: one line: the file, and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"LOOP_DETECTOR_FILE: {path} is missing; make it with "
            "loop fit-detector, or leave the setting out"
        )
    try:
        return Detector.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"LOOP_DETECTOR_FILE: {path}: {where} {first['msg']}".strip()) from None


@lru_cache(maxsize=1)
def shipped() -> Detector:
    """The detector of this package: fitted to public dialogue, see ``recipe``."""
    return load_detector(SHIPPED)
