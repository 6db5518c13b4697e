"""Which model does how well on which group, at what price, and which is best.

Not here: who may answer what (``routing``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from loop_pipeline.answers.agreement import agreement_of, kind_of
from loop_pipeline.labels.quality.inputs import Reviewed
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.ppi import MeanQuality, ppi_mean

LOGGED = "all logged"
REPLAYED = "held-out replay"
RANDOM = "shadowed or randomised"
ONE_RIGHT_ANSWER = ("label", "tags", "json")
_LONG = ["request", "prompt_id", "group_id", "model", "sample", "cost", "latency_ms", "agrees"]


def logged_rows(traces: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Logged answers with their groups; those that a coin drew are there a second time.

    The router chose who answered, the harder the request the rather the frontier: over all logged
    answers models cannot be compared. A shadowed request was drawn by its prompt id alone and all
    models answered it.

    Args:
        traces: logged traces. Where ``route.shadow_of`` names another one both belong to one
            request; ``route.shadow`` says that it was drawn. An escalated request has two answers
            as well, and was not: there the policy chose.
        members: ``group_members``.
    """
    route = [r if isinstance(r, Mapping) else {} for r in traces["route"]]
    request = [r.get("shadow_of") or p for r, p in zip(route, traces["prompt_id"], strict=True)]
    again = [bool(r.get("again")) for r in route]
    frame = traces.assign(request=request, cost=traces["cost_usd"])
    group = members.set_index("prompt_id")["group_id"]
    known = frame["prompt_id"].map(group)
    of_request = known.groupby(frame["request"]).first()
    frame["group_id"] = known.where(known.notna(), frame["request"].map(of_request))
    drawn = pd.Series([bool(r.get("shadow", r.get("shadow_of"))) for r in route], frame.index)
    drawn = drawn.groupby(frame["request"]).transform("any")
    second = frame[again]
    frame, drawn = frame.drop(index=second.index), drawn.drop(index=second.index)
    frame["agrees"] = _agreement(frame[drawn], second).reindex(frame.index)
    parts = [frame.assign(sample=LOGGED), frame[drawn].assign(sample=RANDOM)]
    return pd.concat(parts)[_LONG].dropna(subset=["group_id"])


def _agreement(rows: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """Whether an answer says what the frontier said to the same request.

    For the frontier's own whether its second answer does, where it was asked twice: the ceiling.
    """
    told = rows[rows["producer"] == "frontier"].drop_duplicates("request")
    frontier = told.set_index("request")["output"]
    found = pd.Series(None, index=rows.index, dtype=object)
    twice = told[told["request"].isin(second["request"])]
    said = second.drop_duplicates("request").set_index("request")["output"].astype(str)
    found.loc[twice.index] = agreement_of(
        twice["output"].astype(str), said.loc[twice["request"]], twice["contract"]
    )
    others = rows[(rows["producer"] != "frontier") & rows["request"].isin(frontier.index)]
    told_to = frontier.loc[others["request"]].astype(str)
    found.loc[others.index] = agreement_of(
        others["output"].astype(str), told_to, others["contract"]
    )
    return found


def held_out_rows(
    answers: pd.DataFrame,
    traces: pd.DataFrame,
    members: pd.DataFrame,
    *,
    model: str,
    usd_per_request: float,
) -> pd.DataFrame:
    """A student's answers to held-out requests, and the frontier's beside them.

    A hash of the request held it out, and both answered it; where no router had a hand in it, that
    compares them as a shadowed request does.

    Args:
        answers: ``student_answers`` of one checkpoint.
        traces: logged traces.
        members: ``group_members``.
        model: name of the student.
        usd_per_request: what it costs.
    """
    about = traces.loc[traces["producer"] == "frontier", ["prompt_id", "route", "model"]]
    logged = traces[["prompt_id", "cost_usd", "latency_ms"]]
    frame = answers.merge(members[["prompt_id", "group_id"]], on="prompt_id").assign(
        request=lambda f: f["prompt_id"], cost=usd_per_request, model=model, sample=REPLAYED
    )
    unrouted = set(about.loc[[not isinstance(r, Mapping) for r in about["route"]], "prompt_id"])
    paired = frame[frame["prompt_id"].isin(unrouted)].assign(sample=RANDOM)
    frontier = paired.drop(columns=["model", "cost", "latency_ms"]).merge(about, on="prompt_id")
    frontier = frontier.merge(logged, on="prompt_id").assign(agrees=None)
    frontier = frontier.rename(columns={"cost_usd": "cost"})
    return pd.concat([frame, paired, frontier])[_LONG]


def inferred_verdicts(
    answers: pd.DataFrame, traces: pd.DataFrame, good: pd.Series
) -> dict[str, bool]:
    """Verdicts on a student's answers, from those on the frontier's to the same requests.

    Where a request has one right answer the student's is good if it says what a good one says. One
    that differs counts as bad, also where the frontier was wrong: that can only flatter the
    frontier. Texts can differ and both be good, so nothing is said of them.

    Args:
        answers: ``student_answers`` of one checkpoint.
        traces: logged traces, with contract.
        good: verdicts on the frontier's answers, by prompt_id.

    Returns:
        By prompt id of the request.
    """
    contracts = traces.set_index("prompt_id")["contract"]
    known = answers[answers["prompt_id"].isin(good.index.intersection(contracts.index))]
    return {
        str(p): bool(good[p]) and bool(same)
        for p, same in zip(known["prompt_id"], known["agrees"], strict=True)
        if kind_of(contracts[p]) in ONE_RIGHT_ANSWER
    }


def group_statistics(
    rows: pd.DataFrame,
    flags: pd.DataFrame,
    reviewed: Reviewed,
    *,
    student: str | None = None,
    inferred: Mapping[str, bool] | None = None,
) -> pd.DataFrame:
    """Rows of ``group_model_stats``.

    Quality is the mean over all answers of the sample by PPI++, exact below 50 reviews.

    Args:
        rows: of ``logged_rows`` and ``held_out_rows``.
        flags: columns prompt_id and flag of the logged answers that have them.
        reviewed: verdicts and scores of logged answers.
        student: name of the model that ``held_out_rows`` is about: its answers are no traces.
        inferred: verdicts on them.
    """
    rows = rows.drop_duplicates(["prompt_id", "model", "sample"])
    flagged = flags.set_index("prompt_id")["flag"]
    found = []
    for (group, model, sample), own in rows.groupby(["group_id", "model", "sample"], sort=True):
        ids = pd.Index(own["prompt_id"])
        if model == student:
            mean = _inferred_mean(ids, inferred or {}, reviewed.p_review)
            flag = flagged.iloc[:0]
        else:
            mean, flag = _mean(ids, reviewed), flagged[flagged.index.isin(ids)]
        found.append(
            {"group_id": group, "model": model, "sample": sample, "comparable": sample == RANDOM}
            | {"requests": len(own), "reviews": mean.labels if mean else 0}
            | {"quality": mean.mean if mean else None, "quality_low": mean.low if mean else None}
            | {"quality_high": mean.high if mean else None}
            | {"quality_method": mean.method if mean else None}
            | {"flagged_share": float(flag.astype(bool).mean()) if len(flag) else None}
            | _agreed(own["agrees"])
            | {"cost_per_request": float(own["cost"].astype(float).mean())}
            | _latency(own["latency_ms"])
        )
    return pd.DataFrame(found)


def _mean(ids: pd.Index, reviewed: Reviewed) -> MeanQuality | None:
    good = reviewed.good[reviewed.good.index.isin(ids)]
    proxy = reviewed.proxy
    if proxy is not None:
        proxy = proxy[proxy.index.isin(ids)]
        if not good.index.isin(proxy.index).all():
            proxy = None
    return ppi_mean(good, proxy, reviewed.p_review, reviewed.clusters)


def _inferred_mean(
    ids: pd.Index, inferred: Mapping[str, bool], p_review: pd.Series | None
) -> MeanQuality | None:
    known = {p: inferred[p] for p in ids if p in inferred}
    mean = ppi_mean(pd.Series(known, dtype=bool), None, p_review)
    return mean and mean.model_copy(update={"method": f"{mean.method}, by the frontier's reviews"})


def _agreed(values: pd.Series) -> dict[str, Any]:
    known = values.dropna().astype(bool)
    if known.empty:
        return dict.fromkeys(("agreement", "agreement_low", "agreement_high"))
    low, high = clopper_pearson(int(known.sum()), len(known))
    return {"agreement": float(known.mean()), "agreement_low": low, "agreement_high": high}


def _latency(values: pd.Series) -> dict[str, float | None]:
    known = values.dropna().astype(float)
    return {
        f"latency_p{share}_ms": float(known.quantile(share / 100)) if len(known) else None
        for share in (50, 95, 99)
    }


def frontier_usd_by_group(traces: pd.DataFrame, members: pd.DataFrame) -> dict[str, float]:
    """What the frontier billed for a priced request of each group, on average (USD).

    A group all of whose requests are unpriced is not in it.
    """
    costs = traces.merge(members[["prompt_id", "group_id"]], on="prompt_id")
    usd = costs["cost_usd"].astype(float).groupby(costs["group_id"]).mean().dropna()
    return {str(group): float(mean) for group, mean in usd.items()}
