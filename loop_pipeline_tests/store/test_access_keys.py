from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.access_keys import (
    add_key,
    key_sha256,
    keys_in_force,
    list_keys,
    revoke_key,
)

NOW = dt.datetime.now(dt.UTC)
PLAIN: dict[str, Any] = {"app": "shop", "roles": ["call"], "limits": {}}


def test_a_key_is_known_by_its_digest_only(engine: Engine):
    key = add_key(
        engine, name="web", app="shop", roles=["feedback", "call"], limits={"parallel": 9}
    )
    assert key.startswith("lk_")
    assert len(key) > 40
    [row] = keys_in_force(engine, NOW)
    assert row == {
        "key_sha256": key_sha256(key),
        "name": "web",
        "app": "shop",
        "roles": ["call", "feedback"],
        "limits": {"parallel": 9},
        "expires_at": None,
    }
    assert key not in str(list_keys(engine))


def test_revoked_and_expired_keys_are_listed_but_not_in_force(engine: Engine):
    add_key(engine, name="web", **PLAIN)
    add_key(engine, name="old", **PLAIN, expires_at=NOW - dt.timedelta(hours=1))
    add_key(engine, name="new", **PLAIN, expires_at=NOW + dt.timedelta(hours=1))
    revoke_key(engine, "web")
    assert [row["name"] for row in keys_in_force(engine, NOW)] == ["new"]
    assert {row["name"] for row in list_keys(engine)} == {"web", "old", "new"}
    with pytest.raises(ValueError, match="no valid key is named 'web'"):
        revoke_key(engine, "web")
    add_key(engine, name="web", **PLAIN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"roles": ["root"]}, "roles of a key are"),
        ({"roles": []}, "roles of a key are"),
        ({"limits": {"per_day": 1}}, "limits of a key are"),
        ({"limits": {"parallel": 0}}, "above 0"),
        ({"app": ""}, "a name and an app"),
    ],
)
def test_a_wrong_key_is_refused(engine: Engine, change: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        add_key(engine, name="web", **(PLAIN | change))


def test_two_valid_keys_have_two_names(engine: Engine):
    add_key(engine, name="web", **PLAIN)
    with pytest.raises(ValueError, match="there is a key named 'web'"):
        add_key(engine, name="web", **PLAIN)
