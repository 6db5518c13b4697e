"""The rollout in progress, and what the answers to the same requests say about it.

Not here: what follows from it (``canary.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.answers.agreement import agreement_of
from loop_pipeline.rollout.canary import Step, step_due
from loop_pipeline.rollout.stored_policies import CannotRelease, in_force, student_of
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.policies import policy_events
from loop_pipeline.store.shadow_answers import conversation_unit, paired_answers


@dataclass(frozen=True)
class Rollout:
    """A challenger on trial beside the champion, and the step that is due."""

    stage: str
    weight: float
    champion: PolicyBundle
    challenger: PolicyBundle
    due: Step


def current_rollout(engine: Engine) -> Rollout | None:
    """The rollout in progress with its evidence so far; None if there is none."""
    now = in_force(engine)
    if now is None or now.canary is None:
        return None
    canary, events = now.canary, policy_events(engine)
    own = events[events["canary_id"] == student_of(canary.policy)]
    started = own.loc[own["action"] == "started", "at"].max()
    began = own[(own["at"] >= started) & (own["stage"] == canary.stage)].iloc[0]
    before = int((began["evidence"] or {}).get("rows", 0))
    due = step_due(paired_outcomes(engine, now, started), canary.stage, began["at"], before)
    return Rollout(canary.stage, canary.weight, now, canary.policy, due)


def paired_outcomes(engine: Engine, bundle: PolicyBundle, since: pd.Timestamp) -> pd.DataFrame:
    """Live requests that frontier, champion and challenger answered since the rollout began.

    The first of each conversation only, as the others hang on it; of requests without one, the
    first of each user and hour. A request that comes again is no new evidence either. What both
    answered in the held-out replay does not count: that was the gate's.

    Returns:
        prompt_id, dedup_key, ts, champion_disagrees, challenger_disagrees, in the order they came.
    """
    if bundle.canary is None:
        raise CannotRelease("no rollout is in progress")
    champion, challenger = student_of(bundle), student_of(bundle.canary.policy)
    live = paired_answers(engine, adapter_name(champion), adapter_name(challenger), since)
    live["ts"] = pd.to_datetime(live["ts"], utc=True)
    for who in ("champion", "challenger"):
        same = agreement_of(live[who], live["frontier"], live["contract"])
        live[f"{who}_disagrees"] = np.logical_not(same)
    live = live.sort_values(["ts", "prompt_id"])
    columns = ["conversation_id", "user_hash", "ts", "prompt_id"]
    live["unit"] = [conversation_unit(*row) for row in live[columns].itertuples(index=False)]
    live = live.drop_duplicates("unit").drop_duplicates("dedup_key")
    names = ["prompt_id", "dedup_key", "ts", "champion_disagrees", "challenger_disagrees"]
    return live[names].reset_index(drop=True)
