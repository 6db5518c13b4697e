"""A bundle is read back as written, or refused in one line."""

from __future__ import annotations

import json

import pytest

from loop_pipeline.hashing import seal_of
from loop_pipeline.routing.policy import BadBundle, load_bundle


def altered(bundle, resign=False, **fields):
    document = json.loads(bundle.to_text()) | fields
    if resign:
        document["sha256"] = seal_of({k: v for k, v in document.items() if k != "sha256"})
    return json.dumps(document)


def test_written_and_read_it_is_the_same(bundle):
    again = load_bundle(bundle.to_text())
    assert again == bundle
    assert again.to_text() == bundle.to_text()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda b: altered(b, delta=0.06), "says sha256"),
        (lambda b: altered(b, sha256=None), "says sha256 None"),
        (
            lambda b: altered(b, schema_version=4),
            "schema version 4, this release reads 1 and 2 and 3",
        ),
        (lambda b: altered(b, resign=True, surprise=1), "surprise: Extra inputs"),
        (lambda b: altered(b, resign=True, groups=[{}]), r"groups\.0\.group_id: Field required"),
        (lambda b: b.to_text()[:-20], "not JSON"),
        (lambda b: "[1]", "not a JSON object"),
        (lambda b: "", "not JSON"),
        (lambda b: "[" * 100_000, "not JSON"),
        (lambda b: altered(b, delta=float("nan")), "not JSON compliant"),
    ],
)
def test_anything_else_is_refused_in_one_line(bundle, spoil, says):
    with pytest.raises(BadBundle, match=says) as caught:
        load_bundle(spoil(bundle))
    assert "\n" not in str(caught.value)


def test_a_threshold_moved_by_hand_is_noticed(bundle):
    document = json.loads(bundle.to_text())
    document["groups"][0]["threshold"] -= 1e-9
    with pytest.raises(BadBundle, match="says sha256"):
        load_bundle(json.dumps(document))
