"""Sentence encoders by folder and by endpoint, made here; they are embedders like the default."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop_pipeline.groups.embedding.ask_encoder import EmbedderError, ask_endpoint
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.embedding.model_embedder import (
    ModelEmbedder,
    fit_embedder,
    open_embedder,
    still_holds,
)

WORDS = ["card", "bank", "flight", "hotel", "doctor", "clinic"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 5)) for i in range(60)]
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer in the layout of sentence-transformers."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    where = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    words = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    words.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words.save(str(where / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(where)
    (where / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    return where


class _Endpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((body["model"], self.headers.get("Authorization")))  # pyright: ignore
        rows = [
            {"index": i, "embedding": [float(t.count(w)) for w in WORDS]}
            for i, t in enumerate(body["input"])
        ]
        answer = json.dumps(
            {"data": rows[::-1]} if self.path == "/v1/embeddings" else {"error": "no"}
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[ThreadingHTTPServer]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server: ThreadingHTTPServer, path: str = "/v1/embeddings") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}#small"


def test_a_folder_gives_the_same_vectors_in_this_process_and_in_its_own(
    folder: Path, tmp_path: Path
) -> None:
    apart = fit_embedder(str(folder), TEXTS, 0, PYTHON)
    vectors = apart.transform([*TEXTS, "", "?!"])
    assert vectors.shape == (62, 16)
    assert np.allclose(np.linalg.norm(vectors[:60], axis=1), 1, atol=1e-5)
    assert not vectors[60:].any()
    apart.save(tmp_path / "e.npz")
    here = open_embedder(tmp_path / "e.npz")
    assert here.version == apart.version
    assert np.allclose(here.transform(TEXTS), vectors[:60], atol=1e-5)
    assert np.allclose(here.transform(TEXTS[:1]), vectors[:1], atol=1e-5)
    assert here.map_xy(vectors).shape == (62, 2)


def test_pooling_is_the_mean_over_the_words_unless_the_folder_says_otherwise(folder: Path) -> None:
    import torch
    from transformers import AutoModel

    from loop_pipeline.groups.embedding.encoder_process import LocalEncoder

    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        tokens = model(torch.tensor([[2, 4, 5, 3]])).last_hidden_state[0].numpy()
    texts = ["card bank", " ".join(WORDS * 5)]  # padded beside a longer one, which is cut off
    found = LocalEncoder(str(folder)).encode(texts)[0]
    assert np.allclose(found, tokens.mean(0) / np.linalg.norm(tokens.mean(0)), atol=1e-5)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    first = LocalEncoder(str(folder)).encode(texts)[0]
    assert np.allclose(first, tokens[0] / np.linalg.norm(tokens[0]), atol=1e-5)
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()


def test_another_model_in_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    made = fit_embedder(str(folder), TEXTS, 0)
    made.save(tmp_path / "e.npz")
    assert still_holds(made, str(folder))
    assert not still_holds(made, "")
    setting = folder / "sentence_bert_config.json"
    before = setting.read_text()
    setting.write_text('{"max_seq_length": 8}')
    with pytest.raises(EmbedderError, match=r"is not the model that e\.npz was made with"):
        open_embedder(tmp_path / "e.npz")
    assert not still_holds(made, str(folder))
    setting.write_text(before)


def test_an_endpoint_is_asked_with_key_and_model_and_rows_are_put_in_order(
    endpoint: ThreadingHTTPServer, tmp_path: Path
) -> None:
    made = fit_embedder(address(endpoint), TEXTS, 0, api_key="secret")
    vectors = made.transform(TEXTS)
    counts = np.array([[t.split().count(w) for w in WORDS] for t in TEXTS], dtype=float)
    assert np.allclose(vectors, counts / np.linalg.norm(counts, axis=1, keepdims=True), atol=1e-3)
    assert set(endpoint.seen) == {("small", "Bearer secret")}  # pyright: ignore
    made.save(tmp_path / "e.npz")
    assert b"secret" not in (tmp_path / "e.npz").read_bytes()
    again = open_embedder(tmp_path / "e.npz", api_key="secret", endpoint=address(endpoint))
    assert again.version == made.version
    assert again.dimension == len(WORDS)


@pytest.mark.parametrize("configured", ["", "https://elsewhere.example/v1/embeddings", "/a/model"])
def test_a_file_does_not_choose_where_texts_and_key_go(
    endpoint: ThreadingHTTPServer, tmp_path: Path, configured: str
) -> None:
    fit_embedder(address(endpoint), TEXTS, 0, api_key="secret").save(tmp_path / "e.npz")
    before = len(endpoint.seen)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(EmbedderError, match="nothing is sent there; set LOOP_EMBEDDER"):
        open_embedder(tmp_path / "e.npz", api_key="secret", endpoint=configured)
    assert len(endpoint.seen) == before  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "about", [b"", b"{", b"[]", b"{}", b'{"source": 5, "fingerprint": "a"}', b"\xff"]
)
def test_a_damaged_description_of_a_model_is_one_line(tmp_path: Path, about: bytes) -> None:
    arrays = {"origin": np.zeros(6, np.float32), "axes": np.zeros((6, 2), np.float32)}
    np.savez(tmp_path / "e.npz", about=np.frombuffer(about, np.uint8), **arrays)
    with pytest.raises(ValueError, match="is not an embedder") as caught:
        open_embedder(tmp_path / "e.npz")
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_said_in_one_line(endpoint: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"LOOP_EMBEDDER: no model in .* config\.json"):
        fit_embedder(str(tmp_path), TEXTS, 0, PYTHON)
    with pytest.raises(EmbedderError, match="LOOP_EMBEDDER http://127"):
        ask_endpoint(["a"], address(endpoint, "/elsewhere"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EmbedderError, match="cannot be loaded"):
        fit_embedder(str(tmp_path), TEXTS, 0, PYTHON)


def test_the_default_needs_no_model_and_is_opened_alike(tmp_path: Path) -> None:
    made = fit_embedder("", TEXTS, 0)
    made.save(tmp_path / "e.npz")
    assert isinstance(open_embedder(tmp_path / "e.npz"), Embedder)
    assert still_holds(made, "")
    assert not still_holds(made, "/some/folder")


def test_nothing_heavy_is_imported_before_a_model_is_used() -> None:
    code = (
        "import sys; import loop_pipeline.groups.embedding.model_embedder;"
        "import loop_pipeline.groups.embedding.encoder_process;"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_versions_differ_by_model_and_by_boilerplate() -> None:
    def made(fingerprint: str, texts: list[str]) -> str:
        from loop_pipeline.groups.embedding.boilerplate import learn

        plane = np.zeros(2, np.float32), np.zeros((2, 2), np.float32)
        return ModelEmbedder("x", fingerprint, learn(texts), plane, np.zeros).version  # pyright: ignore

    wrapped = [f"Say in one word what this is about: {i} {t}" for i, t in enumerate(TEXTS)]
    assert len({made("a", TEXTS), made("b", TEXTS), made("a", wrapped)}) == 3
