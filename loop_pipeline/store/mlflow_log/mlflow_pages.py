"""What people meet in MLflow: what each experiment is, and a view with the columns to compare.

No run is written here; ``tracking`` and ``run_record`` do that.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple

# MLflow's page shows the first as the description. The second spares people the question what kind
# of experiment it is. The third holds a saved view: the columns of a first visit are fixed in
# MLflow's page itself, and no server can set them.
NOTE = "mlflow.note.content"
KIND = "mlflow.experimentKind"
VIEW = "mlflow.sharedViewState."


class Page(NamedTuple):
    """One experiment as people see it."""

    about: str
    kind: str
    view: str
    columns: tuple[str, ...]


PAGES = {
    "loop": Page(
        about="""Students: one run for each adapter that was trained, with its recipe, data set and
curves, and after the gate with its figures on held-out requests.

- A run's name begins with the decision and the agreement, then profile, data and number of pairs.
- Compare students by `gold_agreement` (share of answers that agree with the frontier; the tag
  `ceiling` says how often the frontier agrees with itself) and
  `gate_coverage_candidate` (share of requests a student may answer with a promise). The saved view
  *Compare students* (button *Views*) has these columns.
- The tag `decision` is what the gate said: approved, rejected or retired. `training_cut_short`
  says if time or money ended the training too early.
- The model `loop-student` has a version for each run; the alias `champion` is the one that serves.

Read more in `docs/concepts/training.md` and `docs/concepts/gate.md`.""",
        kind="custom_model_development",
        view="Compare students",
        columns=(
            "tags.`decision`",
            "metrics.`gold_agreement`",
            "tags.`ceiling`",
            "metrics.`gate_coverage_candidate`",
            "metrics.`gold_validity`",
            "metrics.`validation_loss`",
            "params.`rows`",
            "metrics.`tokens_per_second`",
        ),
    ),
    "loop-quality": Page(
        about="""The quality score: one run for each fit to people's reviews, with how well it tells
good answers from bad ones, which signals it rests on, and which thresholds it can promise.

- `auc` near 1 tells good from bad, 0.5 is a coin; `ece` is how far a score of 0.8 is from eight in
  ten; `labels` are the reviews it learned from.
- `threshold/TASK` is there only where a promise could be proven.
- The pictures are among the artifacts of a run. The saved view is *Compare fits* (button *Views*).

Read more in `docs/concepts/quality.md`.""",
        kind="custom_model_development",
        view="Compare fits",
        columns=(
            "metrics.`labels`",
            "metrics.`auc`",
            "metrics.`ece`",
            "metrics.`brier`",
            "metrics.`quality/all`",
        ),
    ),
    "loop-review": Page(
        about="""The review desk: answers that wait for people, as traces. Open the page *Review*,
queue `loop`: is it good, and if not, how should it have been?

`loop review push` brings new ones, `loop review pull` fetches the verdicts.

Read more in `docs/concepts/reviews.md`.""",
        kind="genai_development",
        view="",
        columns=(),
    ),
}

MODEL = """The student: each version is an adapter (QLoRA) on a base model; its run in the
experiment `loop` says how it was trained. The tags `status` and `reason` are the gate's decision.
The alias `champion` is the version that answers requests now; it follows the policy in force.

To go back to an earlier one use `loop rollback`, not the alias: the policy decides who serves.

Read more in `docs/concepts/rollout.md`."""


def page_tags(experiment: str) -> dict[str, str]:
    """Tags that make an experiment's page explain itself; none for one that is not the loop's."""
    page = PAGES.get(experiment)
    if page is None:
        return {}
    tags = {NOTE: page.about, KIND: page.kind}
    if page.columns:
        now = int(1000 * time.time())
        state = json.dumps({"selectedColumns": list(page.columns)})
        view = {"name": page.view, "createdAt": now, "updatedAt": now, "state": state}
        tags[VIEW + "loop"] = json.dumps(view)
    return tags
