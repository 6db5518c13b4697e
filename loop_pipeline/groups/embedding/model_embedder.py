"""Which embedder ``LOOP_EMBEDDER`` names, and vectors by a model of yours.

Not here: torch; a local model runs in a process of its own (``encoder_process.py``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from loop_pipeline.groups.embedding.ask_encoder import EmbedderError, ask_endpoint, ask_process
from loop_pipeline.groups.embedding.boilerplate import Boilerplate, learn
from loop_pipeline.groups.embedding.embedder import FIT_ROWS, Embedder, Floats, map_axes, unit
from loop_pipeline.groups.embedding.embedder_file import from_bytes, model_of, read_arrays, to_bytes
from loop_pipeline.http_calls.http_safety import origin_of
from loop_pipeline.masking import masked
from loop_pipeline.traces.messages import MAX_CHARS
from loop_pipeline.whole_file import whole_file

DECIDING = (".json", ".safetensors", ".bin", ".onnx", ".txt", ".model")

Run = Callable[[Sequence[str]], Floats]


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
        self.dimension = len(self._origin)

    @classmethod
    def fit(
        cls,
        source: str,
        texts: Sequence[str],
        seed: int,
        python: Path | None = None,
        *,
        api_key: str = "",
    ) -> Self:
        """Learn boilerplate and map from training texts; the model stays as it is.

        Args:
            source: folder or URL of the model.
            texts: training requests; a seeded sample of 20,000 is used if there are more.
            seed: of the sample.
            python: interpreter that runs a local model, in a process of its own; None: this one.
            api_key: of an endpoint.

        Raises:
            EmbedderError: there is no such model, or it does not answer.
        """
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.permutation(len(texts))[:FIT_ROWS])
        some = [str(texts[i]) for i in kept]
        boilerplate, run = learn(some), _runner(source, python, api_key)
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
        with whole_file(path) as file:
            np.savez(
                file,
                allow_pickle=False,
                about=np.frombuffer(about, dtype=np.uint8),
                boilerplate=to_bytes(self.boilerplate),
                origin=self._origin,
                axes=self._axes,
            )


TextEmbedder = Embedder | ModelEmbedder
"""Texts to vectors under a version; other vectors, other version."""


def fit_embedder(
    source: str,
    texts: Sequence[str],
    seed: int,
    python: Path | None = None,
    *,
    api_key: str = "",
) -> TextEmbedder:
    """An embedder as ``LOOP_EMBEDDER`` names it: empty, a folder, or an http(s) URL.

    Args:
        source: the setting.
        texts: training requests.
        seed: of samples and of the randomised SVD.
        python: interpreter that runs a local model.
        api_key: of an endpoint.

    Raises:
        EmbedderError: the model is not there or does not answer.
        ValueError: no text holds a word.
    """
    if not source:
        return Embedder.fit(texts, seed=seed)
    return ModelEmbedder.fit(source, texts, seed, python, api_key=api_key)


def open_embedder(
    path: Path, python: Path | None = None, *, api_key: str = "", endpoint: str = ""
) -> TextEmbedder:
    """Read an embedder of any kind back.

    Args:
        path: what ``save`` wrote.
        python: interpreter that runs a local model in a process of its own, for many texts at
            once; None: it is loaded into this process at the first text.
        api_key: of an endpoint.
        endpoint: the URL that is configured (LOOP_EMBEDDER). A file that names one of another
            host is refused: it must not choose where texts and key go.

    Raises:
        EmbedderError: the local model is gone, or is another than it was; or see ``endpoint``.
        ValueError: the file is not an embedder, or is damaged.
    """
    stored = read_arrays(path)
    if "about" not in stored:
        return Embedder.of_arrays(stored, path)
    source, fingerprint, plane = model_of(stored, path)
    if _is_url(source) and origin_of(source) != origin_of(endpoint):
        configured = masked(endpoint) or "empty"
        raise EmbedderError(
            f"{path.name} names the endpoint {masked(source)}, LOOP_EMBEDDER is {configured}:"
            " nothing is sent there; set LOOP_EMBEDDER, or run the job regroup"
        )
    if fingerprint_of(source) != fingerprint:
        raise EmbedderError(f"{source} is not the model that {path.name} was made with")
    run = _runner(source, python, api_key)
    return ModelEmbedder(source, fingerprint, from_bytes(stored), plane, run)


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


def _runner(source: str, python: Path | None, api_key: str) -> Run:
    if _is_url(source):
        return lambda texts: ask_endpoint(texts, source, api_key)
    if python is not None:
        return lambda texts: ask_process(texts, source, python)
    loaded: list[Any] = []

    def here(texts: Sequence[str]) -> Floats:
        if not loaded:
            from loop_pipeline.groups.embedding.encoder_process import LocalEncoder

            loaded.append(LocalEncoder(source))
        return loaded[0].encode(texts)

    return here
