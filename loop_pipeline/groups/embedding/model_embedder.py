"""Which embedder ``LOOP_EMBEDDER`` names, and vectors by a model of yours. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from loop_pipeline.groups.embedding.boilerplate import Boilerplate, learn
from loop_pipeline.groups.embedding.embedder import (
    FIT_ROWS,
    Embedder,
    Floats,
    from_bytes,
    map_axes,
    to_bytes,
    unit,
)
from loop_pipeline.traces.messages import MAX_CHARS

KEY = "LOOP_EMBEDDER_API_KEY"
PROCESS = "loop_pipeline.groups.embedding.encoder_process"
AT_ONCE, TIMEOUT_S, RETRIES = 128, 60.0, 3
TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
DECIDING = (".json", ".safetensors", ".bin", ".onnx", ".txt", ".model")

Run = Callable[[Sequence[str]], Floats]


class EmbedderError(RuntimeError):
    """The texts could not be embedded. One line: by what, and its own words."""


class ModelEmbedder:
    """Vectors by a local encoder (a folder) or by an endpoint (its URL)."""

    floor = 0.0
    """A model has a vector for everything: distance alone tells what is unlike anything seen."""

    def __init__(
        self,
        source: str,
        fingerprint: str,
        boilerplate: Boilerplate,
        map_of: tuple[Floats, Floats],
        run: Run,
    ) -> None:
        self.source, self.fingerprint, self.boilerplate = source, fingerprint, boilerplate
        self._origin, self._axes = map_of
        self._run = run

    @classmethod
    def fit(cls, source: str, texts: Sequence[str], seed: int, python: Path | None = None) -> Self:
        """Learn boilerplate and map from training texts; the model stays as it is.

        Args:
            source: folder or URL of the model.
            texts: training requests; a seeded sample of 20,000 is used if there are more.
            seed: of the sample.
            python: interpreter that runs a local model, in a process of its own; None: this one.

        Raises:
            EmbedderError: there is no such model, or it does not answer.
        """
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.permutation(len(texts))[:FIT_ROWS])
        some = [str(texts[i]) for i in kept]
        boilerplate, run = learn(some), _runner(source, python)
        fingerprint = fingerprint_of(source)
        plane = map_axes(unit(run([boilerplate.without(t) for t in some[: FIT_ROWS // 10]])))
        return cls(source, fingerprint, boilerplate, plane, run)

    def transform(self, texts: Sequence[str]) -> Floats:
        """Embed texts.

        Returns:
            shape (n, d), float32, unit length; zero for a text without a letter.

        Raises:
            EmbedderError: the model does not answer.
        """
        return unit(self.project(texts))

    def project(self, texts: Sequence[str]) -> Floats:
        """Embed texts, in steps of float16 as they are stored.

        Returns:
            shape (n, d), of length 1 to three digits; zero for a text without a letter.

        Raises:
            EmbedderError: the model does not answer.
        """
        clean = [self.boilerplate.without(t)[:MAX_CHARS] for t in texts]
        said = [i for i, t in enumerate(clean) if any(c.isalnum() for c in t)]
        out = np.zeros((len(clean), len(self._origin)), dtype=np.float32)
        if said:
            out[said] = unit(self._run([clean[i] for i in said]))
        return out.astype(np.float16).astype(np.float32)

    def map_xy(self, vectors: Floats) -> Floats:
        """Where vectors (n, d) lie on the map, shape (n, 2): two principal components."""
        return ((vectors - self._origin) @ self._axes).astype(np.float32)

    @cached_property
    def version(self) -> str:
        """sha256 of the model's files (or its URL) and of the boilerplate."""
        parts = ["model/1", self.fingerprint, self.boilerplate.model_dump_json()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write a .npz that names the model; a reader never sees half of it."""
        about = json.dumps({"source": self.source, "fingerprint": self.fingerprint}).encode()
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                about=np.frombuffer(about, dtype=np.uint8),
                boilerplate=to_bytes(self.boilerplate),
                origin=self._origin,
                axes=self._axes,
            )
        part.replace(path)


TextEmbedder = Embedder | ModelEmbedder
"""Texts to vectors under a version; other vectors, other version."""


def fit_embedder(
    source: str, texts: Sequence[str], seed: int, python: Path | None = None
) -> TextEmbedder:
    """An embedder as ``LOOP_EMBEDDER`` names it: empty, a folder, or an http(s) URL.

    Args:
        source: the setting.
        texts: training requests.
        seed: of samples and of the randomised SVD.
        python: interpreter that runs a local model.

    Raises:
        EmbedderError: the model is not there or does not answer.
        ValueError: no text holds a word.
    """
    if not source:
        return Embedder.fit(texts, seed=seed)
    return ModelEmbedder.fit(source, texts, seed, python)


def open_embedder(path: Path, python: Path | None = None) -> TextEmbedder:
    """Read an embedder of any kind back.

    Args:
        path: what ``save`` wrote.
        python: interpreter that runs a local model in a process of its own, for many texts at
            once; None: it is loaded into this process at the first text.

    Raises:
        EmbedderError: the local model is gone, or is another than it was.
        ValueError: the file is not an embedder.
    """
    with np.load(path, allow_pickle=False) as stored:
        if "about" not in stored:
            return Embedder.load(path)
        about: dict[str, str] = json.loads(stored["about"].tobytes())
        plane = stored["origin"], stored["axes"]
        boilerplate = from_bytes(stored)
    source, fingerprint = about["source"], about["fingerprint"]
    if fingerprint_of(source) != fingerprint:
        raise EmbedderError(f"{source} is not the model that {path.name} was made with")
    return ModelEmbedder(source, fingerprint, boilerplate, plane, _runner(source, python))


def still_holds(embedder: TextEmbedder, source: str) -> bool:
    """Whether this embedder is the one the setting names, with the files it was made with."""
    if not isinstance(embedder, ModelEmbedder):
        return not source
    return embedder.source == source and embedder.fingerprint == fingerprint_of(source)


def fingerprint_of(source: str) -> str:
    """sha256 of what decides a model's vectors: its files, or for an endpoint its URL.

    Raises:
        EmbedderError: there is no model in the folder.
    """
    if _is_url(source):
        return hashlib.sha256(source.encode()).hexdigest()
    folder = Path(source)
    if not (folder / "config.json").is_file():
        raise EmbedderError(
            f"LOOP_EMBEDDER: no model in {source} (it has no config.json); name a folder of "
            "sentence-transformers or ONNX, a URL, or leave the setting out"
        )
    whole = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.suffix in DECIDING):
        whole.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _runner(source: str, python: Path | None) -> Run:
    if _is_url(source):
        return lambda texts: ask_endpoint(texts, source)
    if python is not None:
        return lambda texts: ask_process(texts, source, python)
    loaded: list[Any] = []

    def here(texts: Sequence[str]) -> Floats:
        if not loaded:
            from loop_pipeline.groups.embedding.encoder_process import LocalEncoder

            loaded.append(LocalEncoder(source))
        return loaded[0].encode(texts)

    return here


def ask_process(texts: Sequence[str], folder: str, python: Path) -> Floats:
    """Have a local model embed texts in a process of its own.

    Raises:
        EmbedderError: it could not; one line.
    """
    with tempfile.TemporaryDirectory(prefix="loop-embedder-") as work:
        given, made = Path(work, "in.jsonl"), Path(work, "out.npy")
        given.write_text("".join(json.dumps(t) + "\n" for t in texts), encoding="utf-8")
        command = [str(python), "-m", PROCESS, str(given), str(made), "--model", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or "no message").splitlines()[-1]
            raise EmbedderError(f"LOOP_EMBEDDER {folder}: {words}")
        return np.load(made, allow_pickle=False)


def ask_endpoint(texts: Sequence[str], url: str) -> Floats:
    """Vectors from an OpenAI-compatible endpoint, a part at a time.

    Args:
        texts: to embed.
        url: of ``/v1/embeddings``; the model's name is its fragment: ``https://host/v1/embeddings#name``.

    Raises:
        EmbedderError: it refuses, is not there after three attempts, or answers something else.
    """
    address, _, model = url.partition("#")
    retry = Retry(RETRIES, backoff_factor=0.3, status_forcelist=TRY_AGAIN, allowed_methods=None)
    session = requests.Session()
    session.mount(address, HTTPAdapter(max_retries=retry))
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY)) else {}
    parts = []
    for at in range(0, len(texts), AT_ONCE):
        body = {"input": list(texts[at : at + AT_ONCE]), "model": model or "default"}
        try:
            answer = session.post(address, json=body, headers=headers, timeout=TIMEOUT_S)
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            part = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise EmbedderError(f"LOOP_EMBEDDER {address}: {error!s:.200}") from None
        if part.ndim != 2 or len(part) != len(body["input"]):
            asked = len(body["input"])
            raise EmbedderError(f"LOOP_EMBEDDER {address}: {asked} texts, vectors {part.shape}")
        parts.append(part)
    return np.concatenate(parts)
