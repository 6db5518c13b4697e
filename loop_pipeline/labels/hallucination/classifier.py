"""T2: a local classifier judges texts that their wording leaves open. A process of its own.

    python -m loop_pipeline.labels.hallucination.classifier IN.jsonl OUT.jsonl --model FOLDER

Either kind of head will do. Sequence classification (premise: source, hypothesis: answer): the
label that says supported is found by its name in ``id2label``. Token classification (as
LettuceDetect, arXiv 2502.17125): of two labels the second is "hallucinated"; it gives places, too.
What is longer than the model's window is read in windows: an answer's part counts as supported if
any window of the source supports it, and the answer is as good as its worst part.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from loop_pipeline.answers.facts import joined, spans_of
from loop_pipeline.labels.hallucination.wording_score import FLAG_FROM

SUPPORTED = {
    *("supported", "supports", "support", "entailment", "entailed", "entails", "consistent"),
    *("attributable", "factual", "faithful", "grounded", "correct"),
}
HALLUCINATED = {"hallucinated", "hallucination", "unsupported", "label_1", "1"}


class Encoder:
    """A classifier from a folder.

    Raises:
        SystemExit: it cannot be loaded, has another head, or no label with a known name.
    """

    def __init__(self, folder: str) -> None:
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            said = str(error).strip().splitlines()
            raise SystemExit(f"cannot be loaded: {said[0] if said else error!r}") from None
        heads = config.architectures or ["none"]
        self.by_token = heads[0].endswith("ForTokenClassification")
        if not self.by_token and not heads[0].endswith("ForSequenceClassification"):
            raise SystemExit(f"has neither a sequence nor a token classification head: {heads[0]}")
        self.label, self.says_supported = _meaning(config, self.by_token)
        kind = AutoModelForTokenClassification if self.by_token else None
        self.model = (kind or AutoModelForSequenceClassification).from_pretrained(
            folder, local_files_only=True
        )
        self.model.eval()
        # Two positions less: some models count theirs from two.
        self.length = min(self.tokenizer.model_max_length, config.max_position_embeddings - 2)

    def score(self, source: str, output: str) -> tuple[float, list[dict[str, Any]]]:
        """P(not supported) of an answer, and where: start, end, text, why."""
        risks, spans = [0.0], []
        for start, piece in self._pieces(output):
            found = self._piece(source, piece)
            risks += [risk for _, _, risk in found]
            if self.by_token:
                spans += _merged(output, start, found)
        return max(risks), spans

    def _pieces(self, output: str) -> Iterator[tuple[int, str]]:
        """Parts of an answer that leave half of the window to the source, with their place."""
        offsets = self.tokenizer(
            output, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        most = self.length // 2
        for first in range(0, len(offsets), most):
            part = offsets[first : first + most]
            yield part[0][0], output[part[0][0] : part[-1][1]]

    @torch.inference_mode()
    def _piece(self, source: str, piece: str) -> list[tuple[int, int, float]]:
        """(start, end, risk) of its tokens, or of the whole: the lowest over the windows."""
        windows = self.tokenizer(
            source,
            piece,
            truncation="only_first",
            max_length=self.length,
            stride=self.length // 8,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        lowest: dict[tuple[int, int], float] = {}
        for window in range(len(windows["input_ids"])):
            names = [n for n in self.tokenizer.model_input_names if n in windows]
            inputs = {n: torch.tensor([windows[n][window]]) for n in names}
            risks, places = self._risks(self.model(**inputs).logits[0]), [(0, len(piece))]
            if self.by_token:
                mine = [i for i, side in enumerate(windows.sequence_ids(window)) if side == 1]
                places = [tuple(windows["offset_mapping"][window][i]) for i in mine]
                risks = [risks[i] for i in mine]
            for place, risk in zip(places, risks, strict=True):
                lowest[place] = min(lowest.get(place, 1.0), risk)
        return [(start, end, risk) for (start, end), risk in sorted(lowest.items())]

    def _risks(self, logits: torch.Tensor) -> list[float]:
        """P(not supported) of each token, or of the whole; logits: (..., labels)."""
        if logits.shape[-1] == 1:
            chance = torch.sigmoid(logits.float())[..., 0]
        else:
            chance = torch.softmax(logits.float(), dim=-1)[..., self.label]
        risk = 1 - chance if self.says_supported else chance
        return risk.reshape(-1).tolist()


def _meaning(config: Any, by_token: bool) -> tuple[int, bool]:
    """The label to read, and whether it says supported (or hallucinated)."""
    names = {int(i): str(name).casefold() for i, name in config.id2label.items()}
    for known, supported in ((SUPPORTED, True), (HALLUCINATED if by_token else set(), False)):
        for place, name in names.items():
            if name in known:
                return place, supported
    if len(names) == 1:
        return 0, True  # a single logit is the one for supported
    raise SystemExit(
        f"no label says supported: {sorted(config.id2label.values())}; name one of them "
        '"supported" in the model\'s config.json'
    )


def _merged(output: str, start: int, tokens: list[tuple[int, int, float]]) -> list[dict[str, Any]]:
    """Neighbouring flagged tokens as one place each."""
    flagged = ((start + a, start + b) for a, b, risk in tokens if risk >= FLAG_FROM and a != b)
    return spans_of(output, joined(output, flagged), "the encoder finds it unsupported")


def main() -> None:
    """Judge the rows of a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("given", type=Path)
    parser.add_argument("judged", type=Path)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    encoder = Encoder(options.model)
    with (
        options.given.open(encoding="utf-8") as given,
        options.judged.open("w", encoding="utf-8") as judged,
    ):
        for line in given:
            row = json.loads(line)
            score, spans = encoder.score(row["source"], row["output"])
            judged.write(json.dumps({"id": row["id"], "score": score, "spans": spans}) + "\n")
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
