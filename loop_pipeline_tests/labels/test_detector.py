import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from loop_pipeline.labels.hallucination import lexical
from loop_pipeline.labels.hallucination.detector import COLUMNS, flag_hallucinations, request_text
from loop_pipeline.settings import LoopSettings

TEXT = {"kind": "text", "max_words": 30}
SOURCE = (
    "The lamp Nordlicht was delivered broken on Monday. The customer from Bremen has sent two"
    " photos of the cracked shade and wants a new lamp, not her money back."
)


def _ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_each_tier_decides_what_it_can(make_traces) -> None:
    rows = [
        {"output": "refund", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "gift", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "The lamp was delivered broken on Monday.", "context": SOURCE},
        {"output": "We promise a free voucher by express courier tomorrow.", "context": SOURCE},
        {"output": "The lamp of 1999 was delivered broken.", "context": SOURCE, "contract": TEXT},
        {"output": "Berlin is a city."},
        {"output": "{}", "contract": {"kind": "json", "schema": {"oneOf": []}}},
        {"output": "refund", "contract": TEXT, "finish_reason": "length"},
    ]
    flags = flag_hallucinations(make_traces(*rows))
    assert list(flags.columns) == COLUMNS
    assert flags["grounded"].tolist() == [
        *("yes", "no", "yes", "no", "no", "cannot_tell", "cannot_tell", "no")
    ]
    assert flags["tier"].tolist() == ["T0", "T0", "T1", "T1", "T0", "T1", "T0", "T0"]
    assert (flags["flag"] == (flags["grounded"] == "no")).all()
    assert (flags.loc[flags["grounded"] == "cannot_tell", "score"] == 0.5).all()
    reasons = flags["reasons"].map(str)
    assert "voucher" in reasons[3]
    assert "oneOf" in reasons[6]


def test_common_form_is_not_invention_but_a_promise_is(make_traces) -> None:
    items = ["kettle", "toaster", "scarf", "jacket", "router", "tripod", "blender", "carpet"]
    rows = [
        {
            "messages": _ask(f"hi, my {items[i % 8]} 48{i:03d} never came, I want my money"),
            "output": f"Customer requests compensation for {items[i % 8]} 48{i:03d}.",
            "contract": TEXT,
        }
        for i in range(80)
    ]
    rows[7] |= {"output": "Customer requests compensation and gets a free premium voucher."}
    flags = flag_hallucinations(make_traces(*rows))
    assert flags.index[flags["flag"]].tolist() == [7]


def test_swapped_name_raises_the_score() -> None:
    names = ["Nordlicht", "Monday", "Bremen", "shade", "lamp"]
    answer = "The lamp Nordlicht came broken on Monday to Bremen, the shade is cracked."
    rows = [lexical.features(answer, SOURCE)]
    rows += [lexical.features(answer.replace(name, "Quibble"), SOURCE) for name in names]
    score = lexical.risk(np.array(rows))
    assert (score[1:] > score[0]).all()


def test_text_parts_and_empty_messages_are_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}]
    messages = [{"role": "user", "content": parts}, {"role": "tool", "content": None}]
    assert request_text(messages, "ctx").split() == ["a", "ctx"]


def test_no_traces_no_flags(make_traces) -> None:
    assert list(flag_hallucinations(make_traces({}).iloc[:0]).columns) == COLUMNS


def _begin(name: str) -> list[tuple[str, str, bool]]:
    path = Path(LoopSettings().bench_data) / "begin" / f"begin_dev_{name}.tsv.gz"  # pyright: ignore[reportCallIssue]
    if not path.exists():
        pytest.skip(f"{path} is not here; set LOOP_BENCH_DATA")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        (row["knowledge"], row["response"], row["begin_label"].startswith("Not"))
        for row in rows
        if row["begin_label"] != "Generic"
    ]


def test_weights_come_from_their_recipe() -> None:
    rows = [row for name in ("wow", "cmu", "tc") for row in _begin(name)]
    assert len(rows) == 1148
    assert lexical.fit_weights(rows) == pytest.approx(lexical.WEIGHTS, abs=0.05)


@pytest.mark.parametrize(("held_out", "auc"), [("wow", 0.92), ("cmu", 0.94), ("tc", 0.90)])
def test_grounding_skill_on_a_set_that_was_not_fitted(held_out: str, auc: float) -> None:
    fitted = [row for name in {"wow", "cmu", "tc"} - {held_out} for row in _begin(name)]
    weights = np.array(lexical.fit_weights(fitted))
    rows = _begin(held_out)
    design = np.array([[1.0, *lexical.features(output, source)] for source, output, _ in rows])
    bad = np.array([label for *_, label in rows])
    score = design @ weights
    assert roc_auc_score(bad, score) >= auc
    assert f1_score(bad, score > 0) > f1_score(bad, np.ones_like(bad))
