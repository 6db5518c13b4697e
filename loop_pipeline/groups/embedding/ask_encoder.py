"""Vectors by a model of yours: a folder in its own process, or an endpoint.

What becomes of the vectors is in ``model_embedder``.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests

from loop_pipeline.child_environment import child_environment
from loop_pipeline.groups.embedding.embedder import Floats
from loop_pipeline.http_calls.http_retries import retrying_session
from loop_pipeline.http_calls.http_safety import refuse_redirect
from loop_pipeline.masking import mask_secrets, masked

PROCESS = "loop_pipeline.groups.embedding.encoder_process"


AT_ONCE = 128


TIMEOUT_S = 60.0


class EmbedderError(RuntimeError):
    """The texts could not be embedded. One line: by what, and its own words."""


def ask_process(texts: Sequence[str], folder: str, python: Path) -> Floats:
    """Have a local model embed texts in a process of its own.

    Raises:
        EmbedderError: it could not; one line.
    """
    with tempfile.TemporaryDirectory(prefix="loop-embedder-") as work:
        given, made = Path(work, "in.jsonl"), Path(work, "out.npy")
        given.write_text("".join(json.dumps(t) + "\n" for t in texts), encoding="utf-8")
        command = [str(python), "-m", PROCESS, str(given), str(made), "--model", folder]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=child_environment()
        )
        if done.returncode:
            words = (done.stderr.strip() or "no message").splitlines()[-1]
            raise EmbedderError(f"LOOP_EMBEDDER {folder}: {words}")
        return np.load(made, allow_pickle=False)


def ask_endpoint(texts: Sequence[str], url: str, api_key: str = "") -> Floats:
    """Vectors from an OpenAI-compatible endpoint, a part at a time.

    Args:
        texts: to embed.
        url: of ``/v1/embeddings``; the model's name is its fragment: ``https://host/v1/embeddings#name``.
        api_key: sent as a bearer token, if there is one.

    Raises:
        EmbedderError: it refuses, is not there after three attempts, or answers something else.
    """
    address, _, model = url.partition("#")
    session = retrying_session()
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    parts = []
    for at in range(0, len(texts), AT_ONCE):
        body = {"input": list(texts[at : at + AT_ONCE]), "model": model or "default"}
        try:
            answer = session.post(
                address, json=body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False
            )
            refuse_redirect(answer, "LOOP_EMBEDDER")
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            part = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            said = mask_secrets(f"LOOP_EMBEDDER {address}: {error!s:.300}")
            raise EmbedderError(said) from None
        if part.ndim != 2 or len(part) != len(body["input"]) or not np.isfinite(part).all():
            asked = len(body["input"])
            raise EmbedderError(
                f"LOOP_EMBEDDER {masked(address)}: {asked} texts, vectors {part.shape}"
            )
        parts.append(part)
    return np.concatenate(parts)
