"""A worker's copies of the store: a damaged one changes nothing, and is said once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.live_files import CONTRACTS, HOLDS, KEYS, POLICY, LiveFiles
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.whole_file import write_whole
from loop_pipeline_tests.routing.conftest import World, bundle, world  # noqa: F401  fixtures

OURS, THEIRS = b"o" * 64, b"t" * 64
KEY: dict[str, Any] = {
    "sha256": "a" * 64,
    "name": "desk",
    "app": "desk",
    "roles": ["call"],
    "limits": None,
    "expires_at": None,
}
GOOD = json.dumps({"required": True, "keys": [KEY]})
NO_JSON = ["", "{", GOOD[:40], "[" * 100_000, "\x00"]
NO_KEYS = [
    *NO_JSON,
    "{}",
    "[]",
    "null",
    "5",
    '"keys"',
    '{"required": false}',
    '{"required": "no", "keys": []}',
    '{"required": true, "keys": {"a": 1}}',
    '{"required": true, "keys": "abc"}',
    '{"required": true, "keys": [5]}',
    json.dumps({"required": True, "keys": [KEY | {"roles": "admin"}]}),
    json.dumps({"required": True, "keys": [KEY | {"expires_at": "never"}]}),
    json.dumps({"required": True, "keys": [KEY | {"limits": [1]}]}),
    json.dumps({"required": True, "keys": [{"sha256": "a" * 64}]}),
]
NO_HOLDS = [
    *(*NO_JSON, "{}", "[]", "null"),
    *('{"groups": "abc"}', '{"groups": [1]}', '{"groups": 5}'),
    *('{"groups": [], "shadow": [1]}', '{"groups": [], "shadow": {"g": "often"}}'),
    *('{"groups": [], "shadow": {"g": 7}}', '{"groups": [], "shadow": {"g": NaN}}'),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_whole(tmp_path / KEYS, GOOD)
    write_whole(tmp_path / HOLDS, json.dumps({"groups": ["g1"]}))
    return tmp_path


@pytest.fixture
def access() -> Access:
    return Access(loopback=True, passthrough=False)


@pytest.fixture
def make(folder: Path, access: Access) -> Callable[..., LiveFiles]:
    return lambda secret=OURS: LiveFiles(folder, folder, access, {}, secret=secret)


@pytest.mark.parametrize("text", NO_KEYS)
def test_damaged_keys_leave_the_old_ones_and_are_said_once(make, folder, access, text, caplog):
    files = make()
    write_whole(folder / KEYS, text)
    with caplog.at_level(logging.ERROR):
        files.look()
        files.look()
    assert set(access.keys) == {"a" * 64}
    assert access.required
    assert len(caplog.records) == 1
    write_whole(folder / KEYS, json.dumps({"required": False, "keys": []}))
    files.look()
    assert not access.keys
    assert not access.required


@pytest.mark.parametrize("text", NO_KEYS)
def test_keys_that_are_damaged_at_the_start_let_nobody_in(make, folder, access, text):
    write_whole(folder / KEYS, text)
    make()
    assert access.required
    assert not access.keys


@pytest.mark.parametrize("text", NO_HOLDS)
def test_damaged_holds_leave_the_old_ones(make, folder, text, caplog):
    files = make()
    write_whole(folder / HOLDS, text)
    with caplog.at_level(logging.ERROR):
        files.look()
        files.look()
    assert files.held == {"g1"}
    assert len(caplog.records) == 1


def test_copies_that_are_gone_change_nothing(make, folder, access):
    files = make()
    (folder / KEYS).unlink()
    (folder / HOLDS).unlink()
    files.look()
    assert set(access.keys) == {"a" * 64}
    assert files.held == {"g1"}


def test_only_a_policy_that_the_installation_signed_is_obeyed(
    make,
    folder: Path,
    world: World,  # noqa: F811
    bundle: PolicyBundle,  # noqa: F811
    caplog,
):
    world.embedder.save(folder / "embedder.npz")
    files = make()
    for text, says in (
        (bundle.to_text(), "is not signed"),
        (signed(bundle, THEIRS), "another secret"),
        (bundle.to_text()[:100], "not JSON"),
        ("[]", "not a JSON object"),
    ):
        write_whole(folder / POLICY, text)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            files.look()
            files.look()
        assert files.router is None
        assert says in (files.problem or "")
        assert len(caplog.records) == 1
    write_whole(folder / POLICY, signed(bundle, OURS))
    files.look()
    assert files.router is not None
    assert files.router.bundle == bundle
    write_whole(folder / POLICY, signed(world.fit(previous=bundle), THEIRS))
    files.look()
    assert files.router.bundle == bundle, "the old one stays"
    assert "another secret" in (files.problem or "")


def test_a_worker_without_the_secret_obeys_no_policy(
    make,
    folder: Path,
    world: World,  # noqa: F811
    bundle: PolicyBundle,  # noqa: F811
):
    world.embedder.save(folder / "embedder.npz")
    write_whole(folder / POLICY, signed(bundle, b""))
    files = make(b"")
    files.look()
    assert files.router is None
    assert "was given no secret of the installation" in (files.problem or "")


def test_without_keys_a_task_has_the_contract_that_all_apps_with_it_share(
    folder: Path, access: Access
) -> None:
    one, other = {"kind": "label", "labels": ["a"]}, {"kind": "label", "labels": ["b"]}
    apps = {"shop": {"sort": one, "tag": one}, "desk": {"tag": other}, "help": {"sort": one}}
    write_whole(folder / CONTRACTS, json.dumps({"apps": apps}))
    files = LiveFiles(folder, folder, access, {}, secret=OURS)
    files.look()
    asked = [("default", "sort"), ("default", "tag"), ("default", "chat"), ("desk", "sort")]
    assert [files.contract_of(app, task) for app, task in asked] == [one, None, None, None]
    assert files.contract_of("desk", "tag") == other


def test_shares_of_groups_are_read_with_the_holds(make, folder):
    files = make()
    assert files.shadow_rates == {}
    write_whole(folder / HOLDS, json.dumps({"groups": [], "shadow": {"g2": 0.1}}))
    files.look()
    assert (files.held, files.shadow_rates) == (frozenset(), {"g2": 0.1})
