"""A sentence encoder from a folder. A process of its own, or a gateway that has the libraries.

    python -m loop_pipeline.groups.embedding.encoder_process IN.jsonl OUT.npy --model FOLDER

The folder holds ``config.json``, ``tokenizer.json`` and weights: ``model.onnx`` (also in ``onnx/``)
where onnxruntime is installed, else what transformers reads. Pooling is what ``1_Pooling`` says,
the mean where it says nothing. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from loop_pipeline.groups.embedding.embedder import Floats, unit

AT_ONCE = 64
LONGEST = 256  # tokens, where the folder does not say


class LocalEncoder:
    """Texts to unit vectors.

    Raises:
        SystemExit: the folder cannot be loaded; one line.
    """

    def __init__(self, folder: str) -> None:
        from tokenizers import Tokenizer

        where = Path(folder)
        try:
            self.tokenizer = Tokenizer.from_file(str(where / "tokenizer.json"))
            self.run = _onnx(where) or _torch(where)
        except Exception as error:  # noqa: BLE001  three libraries, each with errors of its own
            said = str(error).strip().splitlines()
            raise SystemExit(f"cannot be loaded: {said[0] if said else error!r}") from None
        pooling = _json(where / "1_Pooling" / "config.json")
        self.first_token = bool(pooling.get("pooling_mode_cls_token"))
        self.length = int(_json(where / "sentence_bert_config.json").get("max_seq_length", LONGEST))
        self.tokenizer.enable_truncation(self.length)
        self.tokenizer.enable_padding()

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embed texts, shape (n, d); alike lengths go together, which changes no vector's place."""
        order = np.argsort([-len(t) for t in texts], kind="stable")
        out: Floats | None = None
        for at in range(0, len(texts), AT_ONCE):
            rows = order[at : at + AT_ONCE]
            batch = self.tokenizer.encode_batch([texts[i] for i in rows])
            ids = np.array([b.ids for b in batch], dtype=np.int64)
            mask = np.array([b.attention_mask for b in batch], dtype=np.int64)
            tokens = self.run(ids, mask)
            weight = mask[:, :, None].astype(np.float32)
            pooled = tokens[:, 0] if self.first_token else (tokens * weight).sum(1) / weight.sum(1)
            out = np.zeros((len(texts), pooled.shape[1]), np.float32) if out is None else out
            out[rows] = pooled
        return unit(out) if out is not None else np.zeros((0, 0), np.float32)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _onnx(folder: Path) -> Any:
    """Token vectors (n, tokens, d) by onnxruntime; None without it or without its file."""
    files = [f for f in (folder / "model.onnx", folder / "onnx" / "model.onnx") if f.is_file()]
    if not files or find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}

    def run(ids: Any, mask: Any) -> Floats:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return session.run(None, {k: v for k, v in given.items() if k in names})[0]

    return run


def _torch(folder: Path) -> Any:
    """Token vectors (n, tokens, d) by transformers."""
    import torch
    from transformers import AutoModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModel.from_pretrained(str(folder), local_files_only=True).to(device).eval()

    def run(ids: Any, mask: Any) -> Floats:
        with torch.inference_mode():
            given = {"input_ids": ids, "attention_mask": mask}
            tensors = {k: torch.from_numpy(v).to(device) for k, v in given.items()}
            return model(**tensors).last_hidden_state.float().cpu().numpy()

    return run


def main() -> None:
    """Embed the texts of a file, one JSON string a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("given", type=Path)
    parser.add_argument("made", type=Path)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    texts = [json.loads(line) for line in options.given.read_text("utf-8").splitlines()]
    vectors = LocalEncoder(options.model).encode(texts)
    with options.made.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)


if __name__ == "__main__":
    main()
