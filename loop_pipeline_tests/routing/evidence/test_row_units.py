"""Rows that err together are found and named, whatever the traffic carries."""

from __future__ import annotations

from typing import Any

import pandas as pd

from loop_pipeline.routing.evidence.row_units import about_units, unit_names

NOON = "2026-09-01T12:05:00+00:00"


def traffic(*rows: dict[str, Any]) -> pd.DataFrame:
    """Rows of traffic, each with another text unless it is said."""
    plain = {"ts": NOON, "user_hash": None, "conversation_id": None, "settled": None}
    texts = ("where is my parcel", "cancel the blue chair", "vat number for invoices", "hello")
    return pd.DataFrame(
        [plain | {"prompt_id": f"p{i}", "text": texts[i]} | row for i, row in enumerate(rows)]
    )


def test_rows_of_a_conversation_are_one_unit() -> None:
    names = unit_names(traffic({"conversation_id": "c"}, {"conversation_id": "c"}, {}))
    assert names == ["conversation c", "conversation c", "request p2"]


def test_near_duplicates_are_one_unit_wherever_they_were_found() -> None:
    text = "please tell me where the parcel with my new garden chairs is now"
    names = unit_names(traffic({"text": text}, {"text": f"{text} please"}, {}))
    assert names == ["what is asked like p0", "what is asked like p0", "request p2"]
    settled = unit_names(traffic({"settled": "x"}, {"settled": "y"}, {"settled": "x"}))
    assert settled == ["what is asked like p0", "request p1", "what is asked like p0"]


def test_without_conversation_ids_a_user_and_an_hour_are_one() -> None:
    user = {"user_hash": "abcdef0123456789"}
    rows = traffic(user, user | {"ts": "2026-09-01T12:59:00+00:00"}, user | {"ts": "2026-09-02"})
    rows["ts"] = pd.to_datetime(rows["ts"], utc=True, format="ISO8601")
    names = unit_names(rows)
    assert names[0] == names[1] == "what user abcdef01 asked on 2026-09-01 from 12:00 UTC"
    assert names[2] == "request p2"
    in_talk = unit_names(
        traffic(user | {"conversation_id": "a"}, user | {"conversation_id": "b"}, user)
    )
    assert len(set(in_talk)) == 3


def test_ties_run_on_from_one_kind_to_the_next() -> None:
    names = unit_names(
        traffic(
            {"conversation_id": "c", "settled": "u"},
            {"settled": "u"},
            {"conversation_id": "c"},
            {"settled": "v"},
        )
    )
    assert len({*names[:3]}) == 1
    assert names[3] == "request p3"


def test_an_id_that_everything_carries_stays_one_unit() -> None:
    rows = pd.concat([traffic({"conversation_id": "always"})] * 300, ignore_index=True)
    rows["prompt_id"] = [f"p{i}" for i in range(300)]
    rows["text"] = [f"question number {i} of its own" for i in range(300)]
    assert set(unit_names(rows)) == {"conversation always"}


def test_no_rows_are_no_units() -> None:
    assert unit_names(traffic({}).head(0)) == []
    assert about_units(pd.DataFrame({"unit": []})) == ""
    assert about_units(pd.DataFrame({"prompt_id": ["p"]})) == ""


def test_it_is_said_what_units_are_of() -> None:
    rows = pd.DataFrame({"unit": ["a", "a", "b"], "conversation_id": ["a", "a", "b"]})
    assert about_units(rows) == "3 calibration rows in 2 units: conversations and near-duplicates."
    none = rows.assign(conversation_id=None)
    assert "None has a conversation id" in about_units(none)
    assert "what one user asks in one hour count as one unit" in about_units(none)
    some = rows.assign(conversation_id=pd.Series(["a", None, None]))
    assert "2 have no conversation id" in about_units(some)
