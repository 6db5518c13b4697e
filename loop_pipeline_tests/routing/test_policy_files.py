"""A policy is obeyed where the installation signed it, with the embedder it was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loop_pipeline.groups.embedding.embedder import DIMENSIONS
from loop_pipeline.hashing import seal_of
from loop_pipeline.routing.live_router import LiveRouter
from loop_pipeline.routing.policy import BadBundle, PolicyBundle, load_bundle, seal
from loop_pipeline.routing.policy_files import load_signed, signed, unsigned_because
from loop_pipeline.routing.router import Router
from loop_pipeline_tests.routing.conftest import World

OURS, THEIRS = b"o" * 64, b"t" * 64


def test_a_signed_policy_has_the_name_it_had_and_is_read_back(bundle: PolicyBundle):
    text = signed(bundle, OURS)
    assert load_signed(text, OURS) == bundle
    assert load_bundle(text).to_text() == bundle.to_text()
    assert signed(load_bundle(text), OURS) == text, "twice the same bytes"
    assert unsigned_because(text, OURS) is None


def change(text: str, **fields: object) -> str:
    return json.dumps(json.loads(text) | fields)


def resealed(text: str, **fields: object) -> str:
    """What someone can do who may write the store but does not know the secret."""
    document = json.loads(text) | fields
    plain = {k: v for k, v in document.items() if k not in ("sha256", "signature")}
    return json.dumps(document | {"sha256": seal_of(plain)})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text, b: b.to_text(), r"is not signed; .*loop policy sign"),
        (lambda text, b: change(text, signature=None), "is not signed"),
        (lambda text, b: signed(b, THEIRS), r"another secret; .*LOOP_INSTALLATION_SECRET"),
        (lambda text, b: change(text, signature=""), "another secret"),
        (lambda text, b: change(text, signature="ü" * 64), "another secret"),
        (lambda text, b: change(text, signature=["a"]), "another secret"),
        (lambda text, b: change(text, signature=True), "another secret"),
        (lambda text, b: change(text, signature=b.sha256), "another secret"),
        (lambda text, b: resealed(text, delta=0.04), "another secret"),
        (lambda text, b: resealed(text, exploration_rate=1), "another secret"),
        (lambda text, b: change(text, delta=0.04), "says sha256"),
    ],
)
def test_a_policy_that_we_did_not_sign_is_refused_with_what_to_do(bundle, spoil, says):
    with pytest.raises(BadBundle, match=says) as caught:
        load_signed(spoil(signed(bundle, OURS), bundle), OURS)
    assert "\n" not in str(caught.value)
    assert OURS.decode() not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, world: World, bundle: PolicyBundle) -> Path:
    world.embedder.save(tmp_path / "embedder.npz")
    (tmp_path / "policy.json").write_text(signed(bundle, OURS), "utf-8")
    return tmp_path


def test_a_running_router_obeys_signed_policies_only(folder: Path, world: World, bundle):
    file = folder / "policy.json"
    live = LiveRouter(lambda: file.read_text("utf-8"), folder, secret=OURS)
    other = world.fit(previous=bundle, frontier={"model": "bigger"})
    for text, says in ((other.to_text(), "is not signed"), (signed(other, THEIRS), "another")):
        file.write_text(text, "utf-8")
        assert not live.refresh()
        assert live.current.bundle == bundle
        assert says in (live.problem or "")
        with pytest.raises(BadBundle, match=says):
            Router.load(file, secret=OURS)
    file.write_text(signed(other, OURS), "utf-8")
    assert live.refresh()
    assert live.current.bundle == other


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"policy"', "[" * 10**5, "\x00"])
def test_a_copy_that_is_no_policy_leaves_the_old_one(folder: Path, bundle, text: str):
    file = folder / "policy.json"
    live = LiveRouter(lambda: file.read_text("utf-8"), folder, secret=OURS)
    file.write_text(text)
    assert not live.refresh()
    assert "policy refused" in (live.problem or "")
    file.write_bytes(b"\xff\xfe\x00")
    assert not live.refresh()
    assert live.current.bundle == bundle


def flip(at: float) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        file.write_bytes(content)

    return spoil


def cut(at: float) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(at * len(content))])

    return spoil


def other_array(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
        np.savez(file, allow_pickle=False, **(arrays | {name: make(arrays[name])}))

    return spoil


def one_array(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


def without(name: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with np.load(file) as stored:
            np.savez(file, **{key: stored[key] for key in stored.files if key != name})

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"not a zip"),
        lambda file: file.write_bytes(b"PK\x03\x04"),
        lambda file: file.write_bytes(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x01a."),
        one_array,
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
        cut(0.1),
        cut(0.5),
        cut(0.99),
        flip(0.0),
        flip(0.3),
        flip(0.5),
        flip(0.9),
        without("idf"),
        other_array("components", lambda a: a[:-1]),
        other_array("components", lambda a: a.T),
        other_array("components", lambda a: a[:, :0]),
        other_array("idf", lambda a: a * np.float16(np.nan)),
        other_array("idf", lambda a: a.astype(str)),
        other_array("floor", lambda a: np.zeros(2, np.float16)),
        other_array("boilerplate", lambda a: a[:-3]),
        other_array("boilerplate", lambda a: np.frombuffer(b"\xff\xfe", np.uint8)),
        other_array("idf", lambda a: a + np.float16(1)),
    ],
)
def test_a_damaged_embedder_is_one_line_and_the_old_policy_stays(folder, world, bundle, spoil):
    file = folder / "policy.json"
    live = LiveRouter(lambda: file.read_text("utf-8"), folder, secret=OURS)
    spoil(folder / "embedder.npz")
    with pytest.raises(BadBundle, match="policy refused: ") as caught:
        Router.load(file)
    assert "\n" not in str(caught.value)
    file.write_text(signed(world.fit(previous=bundle, frontier={"model": "b"}), OURS), "utf-8")
    assert not live.refresh()
    assert live.current.bundle == bundle
    world.embedder.save(folder / "whole.npz")
    if (folder / "embedder.npz").is_dir():
        (folder / "embedder.npz").rmdir()
    (folder / "whole.npz").replace(folder / "embedder.npz")
    assert live.refresh(), "mended, it is taken without another policy"


def test_centroids_of_another_length_than_the_embedders_vectors_are_refused(world, bundle):
    fields = bundle.model_dump(exclude={"sha256"})
    for group in fields["groups"]:
        group["centroid"] = group["centroid"][:-1]
    with pytest.raises(BadBundle, match=rf"lies at {DIMENSIONS - 1} coordinates"):
        Router.load(seal(**fields), world.embedder)
