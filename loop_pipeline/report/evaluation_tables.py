"""What an evaluation shows: tables, sentences and the files that go to MLflow.

Not here: the figures (``evaluation/metrics.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from loop_pipeline.evaluation.gallery import to_html
from loop_pipeline.report.pictures.plots import contestants_figure, reliability_figure
from loop_pipeline.traces.shown_text import text_table
from loop_pipeline.whole_file import read_rows, whole_file, write_whole

GALLERY = "gallery.jsonl"
# Figures of a contestant as they stand in its table, by the heading.
SHOWN = {
    "n": "n",
    "valid": "validity",
    "flagged": "hallucination",
    "cannot tell": "cannot_tell",
    "quality": "quality",
    "tags F1": "tags_micro_f1",
    "fields": "field_rate",
    "ROUGE-L": "rouge_l",
    "similarity": "similarity",
    "ECE": "ece",
    "AUROC": "auroc",
    "tokens in": "tokens_in",
    "tokens out": "tokens_out",
    "too long": "too_long",
}


def contestants_table(metrics: Mapping[str, Any]) -> str:
    """Contestants side by side, overall and by task, as markdown."""
    rows = []
    for name, summary in metrics["contestants"].items():
        for task, part in {"all": summary, **summary["tasks"]}.items():
            rows.append({"task": task, "contestant": name} | _cells(part))
    order = {"all": 0}
    rows.sort(key=lambda row: (order.get(row["task"], 1), row["task"]))
    return text_table(pd.DataFrame(rows), index=False)


def _cells(part: Mapping[str, Any]) -> dict[str, str]:
    share, low, high = (part[k] for k in ("agreement", "agreement_low", "agreement_high"))
    agreement = "" if share is None else f"{share:.1%} [{low:.1%}, {high:.1%}]"
    figures = {head: _figure(part[key]) for head, key in SHOWN.items()}
    speed = {f"{q} ms": _figure(value) for q, value in part["latency_ms"].items()}
    return {"n": figures.pop("n"), "agreement": agreement} | figures | speed


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def differences_table(metrics: Mapping[str, Any]) -> str:
    """Candidate minus each other, in points with 95% intervals, as markdown."""
    rows = []
    for name, parts in metrics["differences"].items():
        shown = {k: v for k, v in parts.items() if k != "tasks"}
        shown |= {f"agreement, {task}": part for task, part in parts.get("tasks", {}).items()}
        rows += [
            {
                "against": name,
                "figure": figure,
                "difference": f"{part['difference'] * 100:+.1f}",
                "95% interval": f"[{part['low'] * 100:+.1f}, {part['high'] * 100:+.1f}]",
                "n": part["n"],
            }
            for figure, part in shown.items()
        ]
    return text_table(pd.DataFrame(rows), index=False)


def fresh_sentence(metrics: Mapping[str, Any]) -> str:
    """How the candidate does on gold rows that are newer than what it learned from."""
    fresh = metrics["fresh"]
    if fresh is None:
        return "The training set does not say when it ends."
    start = f"{fresh['n']} gold rows are newer than {fresh['since']}"
    if "agreement" not in fresh:
        return f"{start}: too few for figures of their own."
    share, low, high = (fresh[k] for k in ("agreement", "agreement_low", "agreement_high"))
    lead = fresh["to_rival"]["agreement"] if fresh["to_rival"] else None
    than = (
        f"; to the rival {lead['difference'] * 100:+.1f} points"
        f" [{lead['low'] * 100:+.1f}, {lead['high'] * 100:+.1f}]"
        if lead
        else ""
    )
    return f"{start}: agreement {share:.1%} [{low:.1%}, {high:.1%}]{than}."


def write_files(
    folder: Path, metrics: Mapping[str, Any], gallery: Sequence[Mapping[str, Any]], title: str
) -> None:
    """Write figures, tables, gallery and metrics of one evaluation, each file whole."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in gallery]
    texts = {
        "metrics.json": json.dumps(metrics, indent=1),
        GALLERY: "".join(lines),
        "gallery.html": to_html(gallery, title),
        "evaluation.md": f"# {title}\n\n{contestants_table(metrics)}\n\n"
        f"{differences_table(metrics)}\n\n{fresh_sentence(metrics)}\n",
    }
    for name, text in texts.items():
        write_whole(folder / name, text)
    pictures = {
        "contestants.png": contestants_figure(metrics["contestants"]),
        "reliability.png": reliability_figure(metrics["reliability"]),
    }
    for name, picture in pictures.items():
        with whole_file(folder / name) as file:
            picture.savefig(file, dpi=110, format="png")


def read_gallery(folder: Path) -> list[dict[str, Any]]:
    """The gallery of an evaluation; none if its files are gone."""
    path = folder / GALLERY
    mend = "materialize checkpoint_evaluation to write it anew"
    return list(read_rows(path, mend=mend)) if path.is_file() else []
