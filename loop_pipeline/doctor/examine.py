"""Examines a policy on scored requests: its controls, what is proven, what was promised.

Not here: the sentence that sums it up (``diagnosis.py``).
"""

from __future__ import annotations

import numpy as np

from loop_pipeline.confidence.certificate import promise_state
from loop_pipeline.doctor.controls import (
    Comparison,
    Control,
    Interval,
    against,
    against_mix,
    bootstrap,
    by_length,
    by_oracle,
    control,
    exact,
    hull,
    mean_interval,
    random_routes,
)
from loop_pipeline.doctor.curves import Curve, apgr_draws, curve, random_curve, ranked
from loop_pipeline.doctor.diagnosis import (
    LENGTH,
    MIX,
    ORACLE,
    POLICY,
    RANDOM,
    RATIO,
    SINGLE,
    Diagnosis,
    GroupLine,
    ModelLine,
    verdict_of,
    warnings_of,
)
from loop_pipeline.doctor.outcome_table import CertifiedGroup, Outcomes
from loop_pipeline.stats.risk_coverage import risk_coverage

RESAMPLES = 1_000
CURVE_RESAMPLES = 200


def diagnose(outcomes: Outcomes, *, seed: int = 0, resamples: int = RESAMPLES) -> Diagnosis:
    """Everything that `loop doctor` says about a policy.

    Args:
        outcomes: of requests on which nothing was fitted.
        seed: of shuffles, ties and resamples: the same rows give the same report.
        resamples: of the bootstrap and of the random router.

    Raises:
        ValueError: there are no requests.
    """
    n = len(outcomes.chosen)
    if n == 0:
        raise ValueError("no scored requests: there is nothing to judge a router on")
    anything = (outcomes.chosen != outcomes.reference).any()
    trade = risk_coverage(outcomes.score, outcomes.good[:, outcomes.weak])
    pairs, same = outcomes.self_agreement or (0, 0)
    routers = _routers(outcomes, resamples, seed)
    policy = routers[0]
    report = Diagnosis(
        source=outcomes.source,
        verdict="",
        earns=None,
        target=outcomes.target,
        delta=outcomes.delta,
        rows=outcomes.rows,
        reference=outcomes.models[outcomes.reference],
        weak=outcomes.models[outcomes.weak],
        measure=outcomes.measure,
        models=_models(outcomes, resamples, seed),
        routers=routers,
        comparisons=_comparisons(outcomes, resamples, seed) if anything else [],
        groups=[_group(outcomes, group) for group in outcomes.certified],
        risk_coverage=_thinned(trade["coverage"].to_numpy(), 1 - trade["agreement"].to_numpy()),
        certified_point=(policy.share_away, 1 - policy.agreement.value)
        if policy.agreement
        else None,
        curves=_curves(outcomes, seed),
        apgr_over_length=_over_length(outcomes, seed),
        self_agreement=exact(same, pairs) if pairs else None,
        self_agreement_pairs=pairs,
        warnings=[],
        notes=outcomes.notes,
    )
    report.warnings = [*outcomes.warnings, *warnings_of(report)]
    report.earns, report.verdict = verdict_of(report)
    return report


def _thinned(x: np.ndarray, y: np.ndarray, most: int = 200) -> list[tuple[float, float]]:
    at = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int)) if len(x) else []
    return [(float(x[i]), float(y[i])) for i in at]


def _models(outcomes: Outcomes, resamples: int, seed: int) -> list[ModelLine]:
    quality, usd = outcomes.quality.mean(axis=0), outcomes.cost.mean(axis=0)
    on = hull(usd, quality)

    def dominator(k: int) -> str | None:
        for j in on:
            if j == k or usd[j] > usd[k] or quality[j] <= quality[k]:
                continue
            columns = outcomes.quality[:, [j, k]]
            gap = bootstrap(columns, lambda c: c[:, 0] - c[:, 1], resamples=resamples, seed=seed)
            if gap.low > 0:
                return outcomes.models[j]
        return None

    return [
        ModelLine(
            name=name,
            quality=mean_interval(outcomes.quality[:, k]),
            usd=float(usd[k]),
            on_hull=k in on,
            dominated_by=dominator(k),
        )
        for k, name in enumerate(outcomes.models)
    ]


def _routers(outcomes: Outcomes, resamples: int, seed: int) -> list[Control]:
    policy = control(outcomes, POLICY, outcomes.chosen, outcomes.paid)
    n, m = outcomes.quality.shape
    agreement, quality = random_routes(outcomes, resamples, seed)
    share = np.bincount(outcomes.chosen, minlength=m) / n

    def over_draws(values: np.ndarray) -> Interval:
        low, high = np.quantile(values, [0.025, 0.975])
        return Interval(value=float(values.mean()), low=float(low), high=float(high))

    shuffled = Control(
        name=RANDOM,
        share_away=policy.share_away,
        agreement=over_draws(agreement) if policy.share_away else None,
        quality=over_draws(quality),
        usd=float(outcomes.cost.mean(axis=0) @ share),
    )
    lines = [policy, shuffled, control(outcomes, LENGTH, by_length(outcomes))]
    order = np.argsort(outcomes.cost.mean(axis=0), kind="stable")
    constant = [
        control(outcomes, f"always {outcomes.models[k]}", np.full(n, k, dtype=np.int64))
        for k in order
    ]
    single = control(outcomes, SINGLE, outcomes.best_single)
    return [*lines, *constant, single, control(outcomes, ORACLE, by_oracle(outcomes))]


def _comparisons(outcomes: Outcomes, resamples: int, seed: int) -> list[Comparison]:
    """The policy against what it has to beat; USD as a share of the control's."""
    n = len(outcomes.chosen)
    found = against(outcomes, RANDOM, None, resamples=resamples, seed=seed)
    length = by_length(outcomes)
    found += against(outcomes, LENGTH, length, resamples=resamples, seed=seed)
    found += [
        c
        for c in against(outcomes, SINGLE, outcomes.best_single, resamples=resamples, seed=seed)
        if c.what == outcomes.measure
    ]
    columns = np.stack([outcomes.paid, outcomes.cost[np.arange(n), outcomes.best_single]], axis=1)
    found.append(
        Comparison(
            control=SINGLE,
            what=RATIO,
            difference=bootstrap(
                columns,
                lambda c: c[:, 0] / np.maximum(c[:, 1], 1e-300),
                resamples=resamples,
                seed=seed,
            ),
        )
    )
    mix = against_mix(outcomes, resamples=resamples, seed=seed)
    found.append(Comparison(control=MIX, what=outcomes.measure, difference=mix))
    return found


def _group(outcomes: Outcomes, group: CertifiedGroup) -> GroupLine:
    certificate = group.certificate
    own = outcomes.group == group.name
    kept = own & (outcomes.chosen != outcomes.reference)
    rows, count = np.arange(len(own)), int(kept.sum())
    right = int(outcomes.good[rows, outcomes.chosen][kept].sum())
    certified = sum(g.model is not None for g in outcomes.certified)
    verdict: str = promise_state(
        right, count, target=outcomes.target, delta=outcomes.delta, groups=certified
    )
    if group.model is None and not count:
        verdict = "not certified"
    return GroupLine(
        name=group.name,
        model=None if group.model is None else outcomes.models[group.model],
        n=certificate.n,
        threshold=certificate.threshold if group.model is not None else None,
        coverage=certificate.coverage if group.model is not None else 0.0,
        certified_agreement=certificate.agreement_lower if group.model is not None else None,
        scored=int(own.sum()),
        served=count,
        achieved=exact(right, count) if count else None,
        verdict=verdict,
        reason=group.reason,
    )


def _curves(outcomes: Outcomes, seed: int) -> list[Curve]:
    if outcomes.weak == outcomes.reference:
        return []
    gain = outcomes.quality[:, outcomes.weak] - outcomes.quality[:, outcomes.reference]
    n, after = CURVE_RESAMPLES, outcomes.after_answer
    return [
        curve(outcomes, "score", outcomes.score, resamples=n, seed=seed, after=after),
        random_curve(outcomes),
        curve(outcomes, "prompt length", -outcomes.length, resamples=n, seed=seed),
        curve(outcomes, "oracle", gain, resamples=n, seed=seed),
    ]


def _over_length(outcomes: Outcomes, seed: int) -> Interval | None:
    """APGR of the score less that of prompt length."""
    if outcomes.weak == outcomes.reference:
        return None
    value, draws = [], []
    for ease in (outcomes.score, -outcomes.length):
        order = ranked(ease, seed)
        found = curve(outcomes, "", ease, resamples=1, seed=seed)
        if found.apgr is None:
            return None
        value.append(found.apgr.value)
        draws.append(apgr_draws(outcomes, order, resamples=CURVE_RESAMPLES, seed=seed))
    gap = draws[0] - draws[1]
    low, high = np.nanquantile(gap, [0.025, 0.975])
    return Interval(value=value[0] - value[1], low=float(low), high=float(high))
