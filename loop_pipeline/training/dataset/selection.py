"""Which rows a student learns from, and for every other one why not.

Not here: files (``frozen_set.py``).

In this order: nothing that touches a held-out row (``overlap``); of near-duplicates the best copy,
which knows how often it was asked; no row that looks poisoned (``poison``), unless a reviewer has
seen it; no user, wording or day of a source beyond its share. Then up to 10% of the rows that an
earlier set held and only a cap keeps out come back, so that what was known is not unlearned.

Not done: that answers of new users wait for a reviewer. It would cost most of the corrections there
are; what a new user writes is judged by ``poison`` like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.answers.said import said
from loop_pipeline.traces.messages import request_text
from loop_pipeline.traces.student_turns import NotAText, student_turns
from loop_pipeline.training.dataset.leakage import FENCES, shared
from loop_pipeline.training.dataset.near_duplicates import components, jaccard, similar_pairs
from loop_pipeline.training.dataset.poisoning import find_poison
from loop_pipeline.training.dataset.shingles import plain_text, shingle, without_runs
from loop_pipeline.training.dataset.splits import Background, background

COPIES = 0.8
# Long requests share instructions and context; what is asked stands at one of the ends.
END_CHARACTERS = 100
# A user, a wording or a day may bring twenty rows, its share of all, or ten times the usual.
CAP_ROWS = 20
CAP_TIMES = 10
CAPS = {"user": 0.01, "wording": 0.02, "day of a source": 0.1}
REPLAY = 0.1
Ints = NDArray[np.int64]

PREFERENCES = ("dpo",)
FEEDBACK = ("kto_pos", "kto_neg")
REASONS = {
    "text": "the same request is held out",
    "near_duplicate": "a near-duplicate is held out",
    "run_of_words": "thirteen words in a row are held out",
    "conversation": "its conversation is held out",
}


class Selection(NamedTuple):
    """What goes into a set, and what does not."""

    rows: pd.DataFrame
    preferences: pd.DataFrame
    feedback: pd.DataFrame
    excluded: pd.DataFrame
    triggers: dict[str, str]
    counts: dict[str, int]


def select_rows(
    pairs: pd.DataFrame, traces: pd.DataFrame, *, reviewed: set[str], trained: set[str]
) -> Selection:
    """Choose the rows of a training set.

    Args:
        pairs: ``labeled_pairs`` rows.
        traces: all traces, as ``splits.split_traces`` returns them.
        reviewed: prompt ids that a reviewer has judged.
        trained: prompt ids of earlier sets' training rows.

    Returns:
        ``rows`` (kind sft; splits train and validation), ``preferences`` (dpo) and ``feedback``
        (kto_pos, kto_neg; split train) with the columns of both frames, ``multiplicity`` (rows that
        this one stands for) and ``replayed``; ``excluded`` (prompt_id, reason): prompts outside the
        held-out splits that are in none of them.
    """
    common = background(traces)
    lessons = pairs.drop(columns="day").merge(traces, on="prompt_id", validate="many_to_one")
    mine = lessons[lessons["split"].isin(["train", "validation"])]
    unreadable = _unreadable(mine)
    mine = mine[~mine["prompt_id"].isin(unreadable["prompt_id"])]
    touching = _touching(mine, traces, common)
    apart = mine[~mine["prompt_id"].isin(touching["prompt_id"])]
    apart = _ranked(apart.assign(copies=_copies(apart, common)))
    best, copied = _best(apart[apart["kind"] == "sft"])
    poisoned, triggers = _poisoned(best, reviewed)
    bad = best["prompt_id"].isin(poisoned["prompt_id"])
    rows, capped = _capped(best[~bad])
    rows = _brought_back(rows, best[~bad], capped, trained)
    rest = apart[(apart["split"] == "train") & ~apart["copies"].isin(best.loc[bad, "copies"])]
    preferences, unpreferred = _best_within_caps(rest[rest["kind"].isin(PREFERENCES)])
    feedback, unheard = _best_within_caps(rest[rest["kind"].isin(FEEDBACK)])
    reasons = pd.concat([unreadable, touching, copied, poisoned, capped, unpreferred, unheard])
    learned = pd.concat([rows, preferences, feedback])["prompt_id"]
    positive = lessons[lessons["kind"] == "sft"]
    counts = {
        "positive_pairs": len(positive),
        "held_out": len(positive) - int((mine["kind"] == "sft").sum()),
        "unreadable": len(unreadable),
        "touching_held_out": int(positive["prompt_id"].isin(touching["prompt_id"]).sum()),
        "copies": len(copied),
        "conflicts": int(copied["reason"].str.startswith("another").sum()),
        "poisoned": len(poisoned),
        "capped": len(capped),
        "replayed": int(rows["replayed"].sum()),
    }
    return Selection(
        rows.sort_values("prompt_id"),
        preferences.sort_values("prompt_id"),
        feedback.sort_values(["prompt_id", "kind"]),
        reasons[~reasons["prompt_id"].isin(learned)].drop_duplicates("prompt_id"),
        triggers,
        counts,
    )


def _reasons(prompt_ids: Iterable[str], reasons: Iterable[str]) -> pd.DataFrame:
    made = {"prompt_id": list(prompt_ids), "reason": list(reasons)}
    return pd.DataFrame(made, columns=pd.Index(list(made)), dtype=object)


def _unreadable(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of which a text student could not read the request, or whose answer says nothing."""
    found: dict[str, str] = {}
    names = ("prompt_id", "kind", "messages", "chosen", "rejected")
    for prompt_id, kind, messages, *answers in zip(*(rows[n] for n in names), strict=True):
        try:
            student_turns(messages)
        except NotAText as error:
            found[str(prompt_id)] = f"its request is no text: {error}"
        if kind != "kto_neg" and not str(answers[0] or "").strip():
            found[str(prompt_id)] = "its answer is empty"
    return _reasons(found, found.values())


def _touching(rows: pd.DataFrame, traces: pd.DataFrame, common: Background) -> pd.DataFrame:
    """Rows that share something with a split that is more protected than theirs."""
    parts = [
        shared(
            rows[rows["split"] == split].drop_duplicates("prompt_id"),
            traces[traces["split"].isin(FENCES[split])],
            common,
        )
        for split in ("train", "validation")
    ]
    found = pd.concat(parts)
    why = found["way"].map(REASONS) + ": " + found["with"]
    return _reasons(found["prompt_id"], why)


def _copies(rows: pd.DataFrame, common: Background) -> Ints:
    """Number the requests: near-duplicates under one system prompt have the same number."""
    code = pd.factorize(rows["template_hash"] + " " + rows["text"])[0]
    distinct = rows[~pd.Series(code).duplicated().to_numpy()]
    texts = without_runs(distinct["text"].tolist(), common.template)
    templates = pd.factorize(distinct["template_hash"])[0].astype(np.int64)
    first, second, _ = similar_pairs(texts, COPIES, kinds=templates)
    for end in (slice(END_CHARACTERS), slice(-END_CHARACTERS, None)):
        heads, tails = (shingle([texts[i][end] for i in part]) for part in (first, second))
        places = np.arange(len(first))
        alike = jaccard(heads, places, tails, places) >= COPIES
        first, second = first[alike], second[alike]
    return components(len(texts), first, second)[code]


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """Best first: what a person wrote, then the higher score, then the newer."""
    order = rows.assign(
        edited=rows["chosen"] != rows["output"].map(said),
        known=rows["score"].astype(float).fillna(-1),
    ).sort_values(
        ["edited", "known", "ts", "prompt_id", "kind"], ascending=[False, False, False, True, True]
    )
    return rows.loc[order.index].assign(replayed=False)


def _best(ranked: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The best copy of each request with the number of copies, and why the others are left out."""
    said = ranked["chosen"].where(ranked["chosen"].notna(), ranked["rejected"]).map(_plain)
    groups = ranked.assign(said=said).groupby(["split", "kind", "copies"], sort=False)
    best = ranked.assign(multiplicity=groups["prompt_id"].transform("size"))[groups.cumcount() == 0]
    kept, answer = (groups[name].transform("first") for name in ("prompt_id", "said"))
    rest = groups.cumcount() > 0
    other = ranked["label"] & (said != answer)
    why = other.map({True: "another answer to the request of ", False: "a copy of "}) + kept
    return best, _reasons(ranked.loc[rest, "prompt_id"], why[rest])


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split())


def _poisoned(rows: pd.DataFrame, reviewed: set[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Training rows with a label that does not fit, task by task; reviewers know better."""
    labels = rows[rows["label"] & (rows["split"] == "train")].sort_values("prompt_id")
    reasons: dict[str, str] = {}
    triggers: dict[str, str] = {}
    for _, task in labels.groupby(["template_hash", "contract_id"]):
        texts = [plain_text([_asked(messages)]) for messages in task["messages"]]
        found = find_poison(texts, task["chosen"].map(_plain).tolist())
        names = task["prompt_id"].tolist()
        reasons |= {names[row]: why for row, why in found.reasons.items()}
        triggers |= found.triggers
    seen = [name for name in reasons if name not in reviewed]
    return _reasons(seen, [reasons[name] for name in seen]), triggers


def _asked(messages: list[dict[str, Any]]) -> dict[str, str]:
    return {"role": "user", "content": request_text(messages)}


def _capped(ranked: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut what brings more than its share of the training rows; the best stay."""
    excluded = []
    for name, share in CAPS.items():
        train = ranked[ranked["split"] == "train"]
        within = train["template_hash"] if name == "wording" else pd.Series("", train.index)
        key = {
            "user": train["user_hash"],
            "wording": within + " " + train["text"].str.replace(r"\d", "0", regex=True),
            "day of a source": train["source"] + " " + train["day"],
        }[name]
        size = key.groupby(within).transform("count")
        usual = size / key.groupby(within).transform("nunique").clip(lower=1)
        cap = np.maximum(np.maximum(CAP_ROWS, share * size), CAP_TIMES * usual)
        over = key.notna() & (train.groupby(key, dropna=False).cumcount() >= cap)
        reason = [f"its {name} brings more than {int(most)} rows" for most in cap[over]]
        excluded.append(_reasons(train.loc[over, "prompt_id"], reason))
        ranked = ranked.drop(index=train.index[over])
    return ranked, pd.concat(excluded)


def _best_within_caps(ranked: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    best, copied = _best(ranked)
    kept, capped = _capped(best)
    return kept, pd.concat([copied, capped])


def _brought_back(
    rows: pd.DataFrame, clean: pd.DataFrame, capped: pd.DataFrame, trained: set[str]
) -> pd.DataFrame:
    """Bring back rows of earlier sets that only a cap keeps out."""
    room = int(REPLAY * (rows["split"] == "train").sum())
    known = clean["prompt_id"].isin(capped["prompt_id"]) & clean["prompt_id"].isin(trained)
    return pd.concat([rows, clean[known].head(room).assign(replayed=True)])
