"""T1: skill on public labels, and what becomes of a team's own."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from sqlalchemy import Engine
from typer.testing import CliRunner

from benchmarks.data import load
from loop_pipeline.cli.main import app
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.labels.hallucination.wording_features import FEATURES, design_of
from loop_pipeline.labels.hallucination.wording_fit import (
    Folded,
    NoSkill,
    Row,
    balanced_accuracy,
    cross_validate,
    fit_detector,
    fit_weights,
)
from loop_pipeline.labels.hallucination.wording_score import Detector, load_detector, shipped
from loop_pipeline.labels.hallucination.wording_text import STOP_WORDS, source_of, stem
from loop_pipeline.labels.hallucination.wording_weights import SETS, TRAINED_ON, begin_rows
from loop_pipeline.settings import load_settings
from loop_pipeline.store.traces import read_traces
from loop_pipeline.traces.ingest import import_file

WORD = re.compile(r"[^\W_]+")
SUPPORTED = [
    (
        "The lamp Nordlicht was delivered broken on 3 May. The customer from Bremen wants a new"
        " lamp, not her money back.",
        "The lamp Nordlicht was delivered broken on 3 May, the customer from Bremen wants a new"
        " lamp.",
    ),
    (
        "Flight 417 from Oslo to Lima leaves at 18:40 from gate 12. Bags of up to 23 kg are free.",
        "Flight 417 from Oslo leaves at 18:40 from gate 12.",
    ),
    (
        "Crayola began in 1885 as a pigment company and later made chalk, crayons and markers.",
        "Crayola began in 1885 as a pigment company and later made crayons.",
    ),
]
NAMES = ("Quibble", "Zanzibar", "Mortimer", "Petrowski")


@pytest.fixture(scope="module")
def begin() -> dict[str, list[Row]]:
    try:
        files = {name: load("begin", f"begin_dev_{name}.tsv.gz").decode() for name in SETS}
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return {name: begin_rows(text, generic=False) for name, text in files.items()}


@pytest.fixture(scope="module")
def folded(begin: dict[str, list[Row]]) -> Folded:
    return cross_validate([row for rows in begin.values() for row in rows])


def _changed(output: str, source: str, rng: random.Random) -> list[str]:
    """The answer with one number changed, and with one thing under a foreign name."""
    held = source_of(source).known
    numbers = [m for m in re.finditer(r"\b\d+\b", output) if m[0] in source]
    meant = held - STOP_WORDS
    things = [m for m in WORD.finditer(output) if m[0].isalpha() and stem(m[0].casefold()) in meant]
    found = [(rng.choice(numbers), None)] if numbers else []
    found += [(rng.choice(things), rng.choice(NAMES))] if things else []
    return [output[: m.start()] + (n or str(int(m[0]) + 7)) + output[m.end() :] for m, n in found]


def test_the_shipped_weights_come_from_their_recipe(
    begin: dict[str, list[Row]], folded: Folded
) -> None:
    rows = [row for found in begin.values() for row in found]
    assert len(rows) == shipped().n == 1148
    bad = np.array([row.bad for row in rows])
    assert fit_weights(folded.design, bad) == pytest.approx(shipped().weights, abs=0.05)
    assert roc_auc_score(bad, folded.raw) == pytest.approx(shipped().auc, abs=0.002)
    assert folded.skill.value == pytest.approx(shipped().balanced_accuracy, abs=0.005)
    assert shipped().trained_on == TRAINED_ON
    assert min(shipped().weights[1:]) >= 0


@pytest.mark.parametrize("name", SETS)
def test_skill_on_snippets_that_were_not_fitted(
    begin: dict[str, list[Row]], folded: Folded, name: str
) -> None:
    start = sum(len(begin[before]) for before in SETS[: SETS.index(name)])
    part = slice(start, start + len(begin[name]))
    bad = np.array([row.bad for row in begin[name]])
    everything = f1_score(bad, np.ones_like(bad))
    assert roc_auc_score(bad, folded.raw[part]) >= 0.94
    assert f1_score(bad, folded.flags[part]) >= everything + 0.02
    assert balanced_accuracy(bad, folded.flags[part], [r.source for r in begin[name]]).low > 0.8
    # And by the two other sets alone.
    rest = np.r_[0:start, part.stop : len(folded.raw)]
    others = np.array([row.bad for found in begin.values() for row in found])[rest]
    weights = fit_weights(folded.design[rest], others)
    assert roc_auc_score(bad, folded.design[part] @ weights[1:]) >= 0.94


def test_one_changed_number_or_name_raises_the_score(begin: dict[str, list[Row]]) -> None:
    rng = random.Random(0)
    good = [(row.source, row.output) for rows in begin.values() for row in rows if not row.bad]
    rose = _rises(good, rng)
    assert len(rose) >= len(good)
    assert np.mean(rose) >= 0.9


def test_one_changed_number_or_name_raises_the_score_of_examples() -> None:
    rose = _rises(SUPPORTED * 10, random.Random(1))
    assert len(rose) >= 10 * len(SUPPORTED)
    assert np.mean(rose) >= 0.9


def _rises(good: list[tuple[str, str]], rng: random.Random) -> list[bool]:
    """For each changed answer whether its score rose."""
    before = design_of([(output, source, frozenset()) for source, output in good])
    rose: list[bool] = []
    for (source, output), score in zip(good, shipped().risk(before), strict=True):
        changed = [(text, source, frozenset()) for text in _changed(output, source, rng)]
        rose += (shipped().risk(design_of(changed)) > score).tolist() if changed else []
    return rose


def _rows(n: int, *, skill: bool = True, template: str = "") -> list[Row]:
    rng = random.Random(n)
    rows = []
    for i in range(n):
        bad = i % 3 == 0
        source = f"The customer asks about parcel number {i} for Bremen and wants a reply soon."
        made_up = bad if skill else rng.random() < 0.5
        # Every invention is another one: what many answers repeat is taken for their form.
        words = " ".join("".join(rng.choices("abcdefgh", k=7)) for _ in range(5))
        output = words if made_up else f"The customer asks about parcel {i}"
        rows.append(Row(source, output, bad, template))
    return rows


def test_a_detector_is_its_content(tmp_path: Path) -> None:
    made = fit_detector([*_rows(300, template="t"), *_rows(60)], trained_on="example")
    assert made.balanced_accuracy > 0.9
    assert set(made.calibration) == {"", "t"}  # enough labels of its own
    path = tmp_path / "detector.json"
    path.write_text(made.model_dump_json())
    again = load_detector(path)
    assert again == made
    assert again.version == made.version != shipped().version
    design = design_of([(row.output, row.source, row.usual) for row in _rows(9)])
    assert again.risk(design).tolist() == made.risk(design).tolist()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (_rows(99), "99 labelled texts"),
        ([row._replace(bad=False) for row in _rows(300)], "0 of them bad"),
        ([row._replace(source="one") for row in _rows(300)], "on 1 sources"),
        (_rows(300, skill=False), "no skill: .* is not above chance"),
    ],
)
def test_labels_that_make_no_detector_are_refused(rows: list[Row], words: str) -> None:
    with pytest.raises(NoSkill, match=words):
        fit_detector(rows, trained_on="example")


def test_balanced_accuracy_says_so_where_there_is_no_skill() -> None:
    rng = np.random.default_rng(0)
    bad, groups = rng.random(400) < 0.8, [str(i % 20) for i in range(400)]
    assert str(balanced_accuracy(bad, np.ones(400, dtype=bool), groups)).startswith("no skill: 50")
    assert str(balanced_accuracy(bad, rng.random(400) < 0.8, groups)).startswith("no skill: ")
    found = balanced_accuracy(bad, np.where(rng.random(400) < 0.9, bad, ~bad), groups)
    assert 0.8 < found.low < found.value < found.high < 1
    assert "no skill" not in str(found)


def test_a_file_that_is_no_detector_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="loop fit-detector"):
        load_detector(tmp_path / "none.json")
    old: dict[str, Any] = shipped().model_dump() | {"features": FEATURES[:3]}
    path = tmp_path / "old.json"
    path.write_text(Detector.model_construct(**old).model_dump_json())
    with pytest.raises(ValueError, match=r"LOOP_DETECTOR_FILE.*fit it again"):
        load_detector(path)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_reviews_make_a_detector_that_flagging_uses(
    engine: Engine, trace: Any, jsonl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = {"kind": "review", "actor": "ann", "ts": "2026-09-05T10:00:00Z"}
    lines = [
        trace(
            i,
            messages=[{"role": "user", "content": row.source}],
            contract={"kind": "text"},
            output=row.output,
            feedback=[verdict | {"value": 0 if row.bad else 1}],
        )
        for i, row in enumerate(_rows(150))
    ]
    out = tmp_path / "detector.json"
    refused = CliRunner().invoke(app, ["fit-detector", str(out)])
    assert "0 labelled texts" in str(refused.exception)
    import_file(engine, jsonl(*lines), reviews=True)
    done = CliRunner().invoke(app, ["fit-detector", str(out)])
    assert done.exit_code == 0, done.exception
    assert "150 labels, 33% bad" in done.output
    monkeypatch.setenv("LOOP_DETECTOR_FILE", str(out))
    flags = flag_hallucinations(read_traces(engine), tiers=tiers_of(load_settings()))
    [version] = set(flags["version"])
    assert version.startswith(f"contract-1 lexical-3-{load_detector(out).version} habit-")
