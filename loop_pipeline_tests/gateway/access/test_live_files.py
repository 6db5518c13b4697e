"""What a worker obeys of the files that its parent copies."""

from __future__ import annotations

from pathlib import Path

from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.live_files import POLICY, LiveFiles
from loop_pipeline.routing.policy_files import signed
from loop_pipeline_tests.gateway.small_policy import EMBEDDER, policy

SECRET = b"s" * 64


def looked(folder: Path, text: str) -> LiveFiles:
    """The files of a worker, with this policy."""
    EMBEDDER.save(folder / "embedder.npz")
    (folder / POLICY).write_text(text)
    access = Access(loopback=True, passthrough=False)
    files = LiveFiles(folder, folder, access, {}, SECRET)
    files.look()
    return files


def test_a_policy_that_this_installation_signed_is_obeyed(tmp_path: Path) -> None:
    bundle = policy()
    files = looked(tmp_path, signed(bundle, SECRET))
    assert files.problem is None
    assert files.router is not None
    assert files.router.bundle.sha256 == bundle.sha256


def test_a_policy_that_nobody_or_somebody_else_signed_is_not(tmp_path: Path) -> None:
    for text, word in (
        (policy().model_dump_json(), "is not signed"),
        (signed(policy(), b"x" * 64), "signed with another secret"),
    ):
        files = looked(tmp_path, text)
        assert files.router is None
        assert word in (files.problem or "")
