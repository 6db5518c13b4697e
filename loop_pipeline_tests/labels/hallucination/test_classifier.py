"""T2 with classifiers of two layers, made here: which words are in the source decides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import UNCERTAIN, EncoderError, Tiers, ask_encoder
from loop_pipeline.labels.hallucination.tiers import tiers_of as tiers_of_settings
from loop_pipeline.settings import LoopSettings

WORDS = ("the", "lamp", "came", "broken", "on", "monday", "to", "bremen", "and", "voucher")
WORDS += ("free", "wants", "a", "new", "one", ".")
LENGTH = 32


def _save(folder: Path, head: str, labels: list[str]) -> Path:
    """A BERT whose head sees the word "voucher" and calls what holds it bad (label 0)."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertModel,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    torch.set_num_threads(1)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    vocabulary = {name: i for i, name in enumerate(names)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    words.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=LENGTH
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LENGTH + 8,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    kinds: dict[str, Any] = {
        "sequence": BertForSequenceClassification,
        "token": BertForTokenClassification,
        "none": BertModel,
    }
    model = kinds[head](config)
    if head == "token":
        _see_one_word(model, vocabulary["voucher"])
    model.save_pretrained(folder)
    return folder


def _see_one_word(model: Any, word: int) -> None:
    """Only the word itself reaches the head: label 1 where it stands, label 0 elsewhere."""
    import torch

    with torch.no_grad():
        for name, values in model.named_parameters():
            if "LayerNorm" not in name:
                values.zero_()
        table = model.bert.embeddings.word_embeddings.weight
        table[:, 0] = 1.0
        table[word, 0] = -1.0
        model.classifier.weight[0, 0] = 5.0
        model.classifier.weight[1, 0] = -5.0


@pytest.fixture(scope="module")
def by_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("token"), "token", ["LABEL_0", "LABEL_1"])


@pytest.fixture(scope="module")
def by_sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ["contradiction", "neutral", "entailment"]
    return _save(tmp_path_factory.mktemp("sequence"), "sequence", labels)


def test_a_token_classifier_says_where_also_beyond_its_window(by_token: Path) -> None:
    from loop_pipeline.labels.hallucination.classifier import Encoder

    encoder = Encoder(str(by_token))
    long = "the lamp came broken . " * 20
    output = long + "a free voucher . " + long
    score, [span] = encoder.score(long, output)
    assert score > 0.9
    assert output[span["start"] : span["end"]] == span["text"] == "voucher"
    score, spans = encoder.score(long, long)
    assert score < 0.1
    assert spans == []


def test_a_sequence_classifier_reads_every_window(by_sequence: Path) -> None:
    from loop_pipeline.labels.hallucination.classifier import Encoder

    encoder = Encoder(str(by_sequence))
    assert (encoder.label, encoder.says_supported, encoder.length) == (2, True, LENGTH)
    long = "the lamp came broken . " * 20
    score, spans = encoder.score(long, "a new one")
    assert 0 < score < 1
    assert spans == []
    parts = [long[i : i + 60] for i in range(0, len(long), 60)]
    alone = [encoder.score(part, "a new one")[0] for part in parts]
    assert score <= max(alone)  # supported by any part of the source
    pieces = [piece for _, piece in encoder._pieces(long)]
    assert "".join("".join(pieces).split()) == "".join(long.split())


def test_only_uncertain_texts_are_asked_about(make_traces, by_token: Path) -> None:
    source = "the lamp came broken on monday to bremen and wants a new one."
    rows = [
        {"output": "the lamp came broken on monday", "context": source},
        {"output": "the lamp came to bremen with a voucher", "context": source},
        {"output": "Quite another thing: zebras like opera!", "context": source},
    ]
    traces = make_traces(*rows)
    plain = flag_hallucinations(traces, tiers=Tiers())
    asked = plain["score"].between(*UNCERTAIN)
    assert asked.tolist() == [False, True, False]
    tiers = Tiers(encoder=by_token)
    flags = flag_hallucinations(traces, tiers=tiers)
    assert flags["tier"].tolist() == ["T1", "T2", "T1"]
    assert flags["grounded"].tolist() == ["yes", "no", "no"]
    assert flags["spans"][1][0]["text"] == "voucher"
    assert flags["version"].str.startswith(f"{tiers.version} habit-").all()
    assert tiers.version.startswith(Tiers().version + " encoder-")


@pytest.mark.parametrize(
    ("head", "labels", "words"),
    [("none", ["a", "b"], "neither"), ("sequence", ["bad", "worse"], "no label says supported")],
)
def test_a_model_that_cannot_judge_is_refused(
    tmp_path: Path, head: str, labels: list[str], words: str
) -> None:
    model = _save(tmp_path, head, labels)
    from loop_pipeline.labels.hallucination.classifier import Encoder

    with pytest.raises(SystemExit, match=words):
        Encoder(str(model))


def test_what_the_process_says_is_one_clear_line(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho loading >&2\necho 'no label says supported' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(EncoderError, match=r"^LOOP_ENCODER model: no label says supported$"):
        ask_encoder([{"id": 0, "source": "a", "output": "a"}], Path("model"), python)


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    settings = LoopSettings(encoder=tmp_path / "nowhere")  # pyright: ignore[reportCallIssue]
    with pytest.raises(EncoderError, match=r"LOOP_ENCODER: no model in .*nowhere"):
        tiers_of_settings(settings)


def test_the_detector_does_not_import_torch() -> None:
    code = (
        "import sys, loop_pipeline.labels.hallucination.flags;"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
