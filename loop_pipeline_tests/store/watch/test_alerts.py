from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine

from loop_pipeline.store.database import count
from loop_pipeline.store.tables import AlertRow
from loop_pipeline.store.watch.alerts import open_alerts, raise_alert, resolve_alerts

NOW = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def test_a_cause_is_said_once_a_day_for_each_subject_until_it_is_over(engine: Engine):
    assert raise_alert(engine, "hold", "g1", "first", now=NOW)
    assert not raise_alert(engine, "hold", "g1", "again", now=NOW + dt.timedelta(hours=2))
    assert raise_alert(engine, "hold", "g2", "another", now=NOW)
    assert raise_alert(engine, "hold", "g1", "tomorrow", now=NOW + dt.timedelta(days=1))
    assert [a["text"] for a in open_alerts(engine)] == ["first", "another", "tomorrow"] or (
        {a["text"] for a in open_alerts(engine)} == {"first", "another", "tomorrow"}
    )
    assert resolve_alerts(engine, "hold", "g1", now=NOW) == 2
    assert [a["subject"] for a in open_alerts(engine, "hold")] == ["g2"]
    assert open_alerts(engine, "blind") == []
    assert raise_alert(engine, "hold", "g1", "back", now=NOW + dt.timedelta(hours=3))
    assert count(engine, AlertRow) == 3
