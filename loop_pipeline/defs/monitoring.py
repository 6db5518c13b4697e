"""Monitoring: who looks whether the promise is kept after a policy is in force."""

from typing import Any

import dagster as dg

from loop_pipeline.defs.automation import SENSOR
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.routing import routing_policy
from loop_pipeline.monitoring.risk_text import lines_of_look, watched_table
from loop_pipeline.monitoring.risk_watch import Look, look
from loop_pipeline.rollout.group_holds import lines_of_holds
from loop_pipeline.store.watch.alerts import open_alerts
from loop_pipeline.traces.shown_text import text_list, text_table


def _look(loop: Loop) -> Look:
    return look(loop.engine(), blind_hours=loop.settings().blind_hours)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=SENSOR,
    description="""Watches the promise: looks at every answer that a student served and the frontier
gave as well, and holds a group whose answers disagree more often than was promised.

When to turn it on: as soon as a student serves. It looks every half minute and acts by itself: a
held group is the frontier's within seconds. It also says when no answer has been checked for an
hour while a student serves. Each tick says where every group stands.

Read more in docs/concepts/monitoring.md.""",
)
def risk_watch(context: dg.SensorEvaluationContext, loop: Loop) -> dg.SkipReason:
    """Look once. There is no run to start: what is due is done here, at once."""
    found = _look(loop)
    for line in found.said:
        context.log.warning(line)
    return dg.SkipReason("\n".join(lines_of_look(found)))


@dg.asset_check(asset=routing_policy)
def served_answers_keep_the_promise(loop: Loop) -> dg.AssetCheckResult:
    """No group is held, and the answers that are served are being checked.

    **If it fails,** it only warns: a group is held, so the frontier answers it, or nobody can tell
    whether the promise is kept.

    **What to do:** look at the group's newest answers (`loop policy risk`). If its traffic or the
    frontier has changed, let `refresh_policy` certify it again; `loop policy release` ends a hold.

    **Read more** in `docs/concepts/monitoring.md`.
    """
    found, engine = _look(loop), loop.engine()
    alerts, holds = open_alerts(engine), lines_of_holds(engine)
    metadata: dict[str, Any] = {"held_groups": len(holds), "open_alerts": len(alerts)}
    if found.groups:
        metadata["groups"] = dg.MetadataValue.md(text_table(watched_table(found), index=False))
    if alerts:
        metadata["alerts"] = dg.MetadataValue.md(text_list([row["text"] for row in alerts]))
    return dg.AssetCheckResult(
        passed=not holds and not alerts,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(holds or [row["text"] for row in alerts]) or None,
        metadata=metadata,
    )
