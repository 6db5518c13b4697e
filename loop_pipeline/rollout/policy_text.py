"""A policy in words, and what changed between two.

Not here: what it achieves (``doctor``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loop_pipeline.confidence.ceiling import NOT_MEASURED, ceiling_words
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle


def differences(old: PolicyBundle, new: PolicyBundle) -> list[str]:
    """One sentence for each change that matters to a reader; empty if the two are one.

    Groups are matched by id, whatever they are called.
    """
    if old.sha256 == new.sha256:
        return []
    said = {"what is promised": promised(old)}, {"what is promised": promised(new)}
    kind = _fields("", *said) if old.margin != new.margin else ()
    lines = [*_canary(old, new), *kind, *_promise(old, new), *_models(old, new), *_groups(old, new)]
    if old.evidence_hash == new.evidence_hash:
        lines.append("both rest on the same evidence")
    return lines or ["only the parent or the score's numbers differ"]


def summary(bundle: PolicyBundle) -> list[str]:
    """What a policy promises, in a few lines, then a line for each group."""
    usd = expected_usd(bundle)
    lines = [
        f"policy {bundle.sha256[:12]}, recalibration {bundle.recalibration}, parent "
        f"{(bundle.parent or 'none')[:12]}, certificates expire: {bundle.expires or 'never'}"
        + (f", for app {bundle.app} only" if bundle.app else ""),
        f"promise: {promised(bundle)}, in every group, at most {bundle.delta:.1%} chance that it "
        "is broken anywhere, ever; by wording only where the contract is text",
        f"all requests: {ceiling_words(bundle.ceiling)}",
        f"certified coverage {coverage(bundle):.1%} of the groups' requests, expected cost "
        f"{_usd(usd)} a request at the assumed load (LOOP_REQUESTS_PER_HOUR; `loop costs pays`), "
        f"{bundle.exploration_rate:.0%} shadowed",
        *([f"rests on {bundle.units}"] if bundle.units else []),
    ]
    groups = sorted(bundle.groups, key=lambda g: (g.arm != "student", g.name))
    return [*lines, *(f"  {g.name} [{g.group_id[:8]}]: {_line(bundle, g)}" for g in groups)]


def promised(bundle: PolicyBundle) -> str:
    """What the certificates of a policy promise, in words."""
    frontier = bundle.frontier.get("model", "the frontier")
    if bundle.margin is None:
        return (
            f"at least {bundle.target_agreement:.1%} of what a cheaper model answers agrees with "
            f"{frontier}"
        )
    return (
        f"what a cheaper model answers agrees with {frontier} as often as {frontier} agrees with "
        f"itself, less at most {100 * bundle.margin:.1f} points"
    )


def coverage(bundle: PolicyBundle) -> float:
    """Certified share of the calibration requests that a cheaper model may answer."""
    total = sum(group.n for group in bundle.groups)
    accepted = sum(group.accepted for group in bundle.groups if group.arm == "student")
    return accepted / total if total else 0.0


def expected_usd(bundle: PolicyBundle) -> float | None:
    """Expected cost of a request (USD), groups weighted by their rows; None if not known."""
    priced = [(g.n, g.expected_usd_per_request) for g in bundle.groups if g.n]
    if not priced or any(usd is None for _, usd in priced):
        return None
    return sum(n * (usd or 0.0) for n, usd in priced) / sum(n for n, _ in priced)


def _promise(old: PolicyBundle, new: PolicyBundle) -> Iterator[str]:
    for name, before, after in (
        ("target agreement", old.target_agreement, new.target_agreement),
        ("chance of a broken promise", old.delta, new.delta),
        ("certified coverage", coverage(old), coverage(new)),
        ("shadowed share", old.exploration_rate, new.exploration_rate),
    ):
        if before != after:
            yield f"{name}: {before:.1%} -> {after:.1%}"
    before_usd, after_usd = expected_usd(old), expected_usd(new)
    if before_usd != after_usd:
        yield f"expected cost of a request: {_usd(before_usd)} -> {_usd(after_usd)}"
    if old.app != new.app:
        yield f"app: {old.app or 'all'} -> {new.app or 'all'}"
    if old.recalibration != new.recalibration:
        yield f"recalibration: {old.recalibration} -> {new.recalibration}"
    if old.expires != new.expires:
        yield f"expires: {old.expires or 'never'} -> {new.expires or 'never'}"
    if old.schema_version != new.schema_version:
        yield f"schema version: {old.schema_version} -> {new.schema_version}"


def _models(old: PolicyBundle, new: PolicyBundle) -> Iterator[str]:
    yield from _fields("student", old.student, new.student)
    yield from _fields("frontier", old.frontier, new.frontier)
    yield from _fields("version", old.versions, new.versions)
    before = {model.name: model.version for model in old.others}
    yield from _fields("other model", before, {m.name: m.version for m in new.others})
    if old.prices != new.prices:
        yield f"prices: {old.prices} -> {new.prices}"
    if old.embedder_version != new.embedder_version:
        yield f"embedder: {old.embedder_version[:12]} -> {new.embedder_version[:12]}"
    if old.score.kind != new.score.kind:
        yield f"score: {old.score.kind} -> {new.score.kind} ({new.score.reason})"


def _fields(title: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield (
                f"{title} {name}".lstrip() + f": {old.get(name, 'none')} -> {new.get(name, 'none')}"
            )


def _groups(old: PolicyBundle, new: PolicyBundle) -> Iterator[str]:
    before = {group.group_id: group for group in old.groups}
    after = {group.group_id: group for group in new.groups}
    for group_id in sorted({*before, *after}, key=lambda g: (after.get(g) or before[g]).name):
        was, now = before.get(group_id), after.get(group_id)
        if was is None and now is not None:
            yield f"group {now.name} is new: {_where(new, now)}"
        elif now is None and was is not None:
            yield f"group {was.name} is gone (it went {_where(old, was)})"
        elif was is not None and now is not None:
            yield from _one_group(old, new, was, now)


def _one_group(
    old: PolicyBundle, new: PolicyBundle, was: GroupPolicy, now: GroupPolicy
) -> Iterator[str]:
    if was.name != now.name:
        yield f"group {was.name} is called {now.name} now"
    if (_asked(old, was), was.reason) != (_asked(new, now), now.reason):
        yield f"group {now.name}: {_where(old, was)} -> {_where(new, now)}"
    elif now.arm == "student":
        changed = [
            f"{name} {_number(a)} -> {_number(b)}"
            for name, a, b in (
                ("threshold", was.threshold, now.threshold),
                ("coverage", was.coverage, now.coverage),
                ("bound", was.agreement_lower, now.agreement_lower),
                ("rows", was.n, now.n),
            )
            if a != b
        ]
        if changed:
            yield f"group {now.name}: {', '.join(changed)}"
    if was.centroid != now.centroid or was.radius != now.radius:
        yield f"group {now.name}: its requests have moved"


def _asked(bundle: PolicyBundle, group: GroupPolicy) -> str:
    if group.arm == "frontier":
        return "the frontier"
    return group.model or bundle.student.get("adapter", "the student")


def _where(bundle: PolicyBundle, group: GroupPolicy) -> str:
    if group.arm == "frontier":
        return f"to the frontier ({group.reason})"
    bound = f", at least {group.agreement_lower:.1%} agree" if group.agreement_lower else ""
    return f"to {_asked(bundle, group)} for {group.coverage:.1%}{bound}"


def _line(bundle: PolicyBundle, group: GroupPolicy) -> str:
    """A group with its ceiling, unless the reason has named it already."""
    where = _where(bundle, group)
    if group.ceiling is None:
        return f"{where}; ceiling {NOT_MEASURED}"
    ceiling = ceiling_words(group.ceiling)
    told = ceiling.removeprefix("ceiling: ") in where
    return where if told else f"{where}; {ceiling}"


def _canary(old: PolicyBundle, new: PolicyBundle) -> Iterator[str]:
    def told(bundle: PolicyBundle) -> str:
        canary = bundle.canary
        if canary is None:
            return "none"
        return f"{canary.policy.student.get('adapter')}, {canary.stage}, {canary.weight:.0%}"

    if told(old) != told(new):
        yield f"canary: {told(old)} -> {told(new)}"


def _usd(value: float | None) -> str:
    return UNPRICED if value is None else f"${value:.6f}"


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}"
