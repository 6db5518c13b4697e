"""Which tiers look at an answer, as the settings name them, and how the classifier is asked.

Not here: torch; the classifier runs in a process of its own (``classifier.py``).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_pipeline.child_environment import child_environment
from loop_pipeline.labels.hallucination.wording_score import Detector, load_detector, shipped

if TYPE_CHECKING:
    from loop_pipeline.settings import LoopSettings

WORDING = "contract-1 lexical-3"
# T1 scores inside are uncertain: only these rows are worth an encoder's time.
UNCERTAIN = (0.2, 0.8)
ENCODER = "loop_pipeline.labels.hallucination.classifier"


class EncoderError(RuntimeError):
    """The encoder did not judge the rows. One line: which model, and its own words."""


@dataclass(frozen=True)
class Tiers:
    """T0 always, T1 by ``detector``, T2 by the model folder ``encoder`` where there is one."""

    detector: Detector = field(default_factory=shipped)
    encoder: Path | None = None
    python: Path = Path(sys.executable)

    @property
    def version(self) -> str:
        """Names the rules and the content of everything that was fitted."""
        encoder = f" encoder-{_fingerprint(_state(self.encoder))}" if self.encoder else ""
        return f"{WORDING}-{self.detector.version}{encoder}"


def tiers_of(settings: LoopSettings) -> Tiers:
    """The tiers that ``LOOP_DETECTOR_FILE`` and ``LOOP_ENCODER`` name.

    Raises:
        FileNotFoundError, ValueError: the detector's file is not one.
        EncoderError: there is no such model folder.
    """
    detector = load_detector(settings.detector_file) if settings.detector_file else shipped()
    if settings.encoder and not (settings.encoder / "config.json").is_file():
        raise EncoderError(
            f"LOOP_ENCODER: no model in {settings.encoder} (it has no config.json); "
            "name a folder made by save_pretrained, or leave the setting out"
        )
    return Tiers(detector, settings.encoder, settings.train_python)


def ask_encoder(
    rows: Sequence[Mapping[str, Any]], encoder: Path, python: Path
) -> dict[int, dict[str, Any]]:
    """Have a local model judge rows, in a process of its own.

    Args:
        rows: ``id`` (int), ``source``, ``output``.
        encoder: folder of the model.
        python: interpreter that has transformers.

    Returns:
        By id: ``score``, P(not supported), and ``spans``.

    Raises:
        EncoderError: it could not; one line.
    """
    if not rows:
        return {}
    with tempfile.TemporaryDirectory(prefix="loop-encoder-") as folder:
        given, judged = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        given.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        command = [str(python), "-m", ENCODER, str(given), str(judged), "--model", str(encoder)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=child_environment()
        )
        if done.returncode:
            words = (done.stderr.strip() or "no message").splitlines()[-1]
            raise EncoderError(f"LOOP_ENCODER {encoder}: {words}")
        found = [json.loads(line) for line in judged.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in found}


def _state(encoder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the files that decide what a model says."""
    files = sorted(p for p in encoder.iterdir() if p.suffix in (".json", ".safetensors", ".bin"))
    return tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)


@lru_cache(maxsize=8)
def _fingerprint(state: tuple[tuple[str, int, int], ...]) -> str:
    content = hashlib.sha256()
    for name, _, _ in state:
        with Path(name).open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:12]
