"""Wins and losses to read: where a candidate and its rival differ, surest errors first.

Not here: figures (``metrics.py``).

A file of its own, to be opened anywhere: nothing is loaded from elsewhere, all text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from loop_pipeline.traces.shown_text import shown

MOST = 20
SHOWN = 5
SHOWN_CHARS = 160
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1c2330;background:#fff}
article{border:1px solid #d6dbe4;border-left:5px solid #c9475d;border-radius:6px;
padding:.6rem 1rem;margin:1rem 0}
article.win{border-left-color:#2a9d68}
small{color:#5a6475}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2rem 0 .6rem}
dt{font-weight:600}dd{margin:0}
"""


def wins_and_losses(new: pd.DataFrame, old: pd.DataFrame, most: int = MOST) -> list[dict[str, Any]]:
    """Requests that only one of two models got right.

    Args:
        new: the candidate's answers, as `held_out.judge` gives them.
        old: the rival's.
        most: losses, and wins, at most.

    Returns:
        Losses, then wins, each by the confidence of the one that was wrong, highest first.
    """
    columns = ["output", "agrees", "confidence", "reasons"]
    pair = new.merge(old[["prompt_id", *columns]], on="prompt_id", suffixes=("", "_old"))
    right, was_right = pair["agrees"].astype(bool), pair["agrees_old"].astype(bool)
    lost = pair[was_right & ~right].sort_values("confidence", ascending=False, kind="stable")
    won = pair[right & ~was_right].sort_values("confidence_old", ascending=False, kind="stable")
    return [
        _entry(kind, row)
        for kind, rows in (("loss", lost), ("win", won))
        for row in rows.head(most).to_dict("records")
    ]


def _entry(kind: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    asked = [m for m in row["messages"] if m.get("role") != "system"]
    return {
        "kind": kind,
        "prompt_id": row["prompt_id"],
        "task": row["task"],
        "request": "\n".join(str(m["content"]) for m in asked),
        "frontier": row["frontier_output"],
        "candidate": row["output"],
        "candidate_confidence": float(row["confidence"]),
        "candidate_reasons": list(row["reasons"]),
        "rival": row["output_old"],
        "rival_confidence": float(row["confidence_old"]),
        "rival_reasons": list(row["reasons_old"]),
    }


def to_markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """The first few of each kind as a table, long texts cut."""
    parts = []
    for kind, title in (("loss", "Losses"), ("win", "Wins")):
        own = [entry for entry in entries if entry["kind"] == kind]
        lines = [f"**{title}** ({min(len(own), SHOWN)} of the {len(own)} kept)", ""]
        if own:
            lines += ["| request | frontier | candidate | rival |", "|---|---|---|---|"]
        for entry in own[:SHOWN]:
            cells = [_cell(entry["request"]), _cell(entry["frontier"])]
            cells += [
                f"{_cell(entry[side])} ({entry[f'{side}_confidence']:.2f})"
                for side in ("candidate", "rival")
            ]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    cut = flat if len(flat) <= SHOWN_CHARS else flat[: SHOWN_CHARS - 1] + "…"
    return shown(cut) or "(empty)"


def to_html(entries: Sequence[Mapping[str, Any]], title: str) -> str:
    """All of them as one page."""
    counts = {k: sum(entry["kind"] == k for entry in entries) for k in ("loss", "win")}
    body = "".join(_article(entry) for entry in entries)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1><p>{counts['loss']} losses, then"
        f" {counts['win']} wins; of each kind the most confident errors, at most {MOST}.</p>"
        f"{body}</html>\n"
    )


def _article(entry: Mapping[str, Any]) -> str:
    rows: Iterable[tuple[str, str]] = [
        ("request", entry["request"]),
        ("frontier", entry["frontier"]),
        *(
            (f"{side}, confidence {entry[f'{side}_confidence']:.3f}", _said(entry, side))
            for side in ("candidate", "rival")
        ),
    ]
    items = "".join(
        f"<dt>{escape(name)}</dt><dd><pre>{escape(text)}</pre></dd>" for name, text in rows
    )
    head = f"{entry['kind']} · {entry['task']} · {entry['prompt_id']}"
    return (
        f'<article class="{entry["kind"]}"><small>{escape(head)}</small><dl>{items}</dl></article>'
    )


def _said(entry: Mapping[str, Any], side: str) -> str:
    return "\n".join([entry[side] or "(empty)", *(f"! {r}" for r in entry[f"{side}_reasons"])])
