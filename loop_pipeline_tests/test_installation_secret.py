"""The secret of an installation is made once and stays."""

import stat
import threading
from pathlib import Path

import pytest

from loop_pipeline.installation_secret import NAME, installation_secret, keyed_digest


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = installation_secret(tmp_path / "home")
    assert installation_secret(tmp_path / "home") == first
    assert len(first) == 64
    assert stat.S_IMODE((tmp_path / "home" / NAME).stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "home").iterdir()] == [NAME]


def test_many_first_starts_at_once_agree(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(installation_secret(tmp_path)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


def test_a_given_secret_needs_no_file(tmp_path: Path) -> None:
    assert installation_secret(tmp_path, "of several machines") == b"of several machines"
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("x")
    with pytest.raises(ValueError, match="no secret"):
        installation_secret(tmp_path)


def test_a_purpose_and_a_secret_make_another_name() -> None:
    one = keyed_digest(b"a", "user", "ann")
    assert one == keyed_digest(b"a", "user", "ann")
    assert (
        len({one, keyed_digest(b"b", "user", "ann"), keyed_digest(b"a", "policy", "ann")}) == 2 + 1
    )
