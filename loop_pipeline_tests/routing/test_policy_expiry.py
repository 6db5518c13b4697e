"""Certificates end: by their date, and when something else runs than they speak about."""

from __future__ import annotations

import datetime as dt
import json

import pandas as pd
import pytest

from loop_pipeline.hashing import seal_of
from loop_pipeline.routing.policy import BadBundle, load_bundle
from loop_pipeline.routing.policy_fit import expiry
from loop_pipeline.routing.router import Router


def dated(world, newest: dt.datetime) -> pd.DataFrame:
    """Calibration rows up to a moment; gold rows are younger and do not count."""
    rows = world.answers
    age = pd.Series(range(len(rows)), rows.index)
    age -= age[rows["split"] == "calibration"].min()
    ts = pd.Timestamp(newest) - pd.to_timedelta(age, unit="min")
    return rows.assign(ts=ts.where(rows["split"] != "gold", pd.Timestamp(newest + dt.timedelta(9))))


def arm(router, world):
    row = world.answers[world.answers["group_id"] != "unassigned"].iloc[0]
    messages = [{"role": "user", "content": row["text"]}]
    return router.decide(messages, "p", row["template_hash"])


def test_the_date_is_counted_from_the_newest_calibration_row(world):
    moment = dt.datetime(2026, 3, 1, 23, 0, tzinfo=dt.UTC)
    rows = dated(world, moment)
    assert expiry(rows, 30) == "2026-03-31"
    assert expiry(world.answers, 30) is None
    bundle = world.fit(rows, certificate_days=30)
    assert bundle.expires == "2026-03-31"
    assert world.fit(rows.sample(frac=1), certificate_days=30).to_text() == bundle.to_text()


@pytest.mark.parametrize(("days", "expected"), [(-1, "student"), (90, "frontier")])
def test_from_that_day_on_everything_goes_to_the_frontier(world, days, expected):
    newest = dt.datetime.now(dt.UTC) - dt.timedelta(days)
    bundle = world.fit(dated(world, newest), certificate_days=89 if days > 0 else 2)
    decision = arm(Router.load(bundle, world.embedder), world)
    assert decision.arm == expected
    assert decision.group_id is not None
    if expected == "frontier":
        assert f"expired on {bundle.expires}" in decision.reason


@pytest.mark.parametrize(
    ("running", "reason"),
    [
        ({"frontier": "big", "detector": "1"}, None),
        ({"something": "new"}, None),
        ({"detector": "2"}, "the certificates are void: detector is 2, was 1"),
        ({"frontier": "bigger"}, "the certificates are void: frontier is bigger, was big"),
    ],
)
def test_what_runs_has_to_be_what_was_certified(world, bundle, running, reason):
    decision = arm(Router.load(bundle, world.embedder, running=running), world)
    assert (decision.arm == "frontier") == (reason is not None)
    assert reason is None or decision.reason == reason


@pytest.mark.parametrize("expires", ["soon", "2026-02-30", "2026-1-1x"])
def test_a_date_that_is_none_is_refused(bundle, expires):
    document = json.loads(bundle.to_text()) | {"expires": expires}
    del document["sha256"]
    with pytest.raises(BadBundle, match="policy refused"):
        load_bundle(json.dumps(document | {"sha256": seal_of(document)}))
