"""A bundle is read back as written, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from loop_pipeline.hashing import seal_of
from loop_pipeline.routing import policy, policy_files
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
            lambda b: altered(b, schema_version=5),
            "schema version 5, this release reads 1 and 2 and 3 and 4",
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


def changed_group(bundle, **fields):
    groups = json.loads(bundle.to_text())["groups"]
    groups[0] |= fields
    return altered(bundle, resign=True, groups=groups)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda b: altered(b, resign=True, exploration_rate=50), "exploration_rate: .*less than"),
        (lambda b: altered(b, resign=True, exploration_rate=-0.1), "exploration_rate: .*greater"),
        (lambda b: altered(b, resign=True, target_agreement=1.5), "target_agreement"),
        (lambda b: altered(b, resign=True, recalibration=-1), "recalibration"),
        (lambda b: altered(b, resign=True, student_usd_per_request=-1.0), "student_usd"),
        (lambda b: changed_group(b, threshold=-1e9), r"groups\.0\.threshold: .*greater"),
        (lambda b: changed_group(b, threshold=1e300), r"groups\.0\.threshold: .*less"),
        (lambda b: changed_group(b, centroid=[0.5]), "centroids .* different lengths"),
        (lambda b: changed_group(b, centroid=[]), r"groups\.0\.centroid"),
        (lambda b: changed_group(b, radius=-0.1), r"groups\.0\.radius"),
        (lambda b: changed_group(b, coverage=1.01), r"groups\.0\.coverage"),
        (lambda b: changed_group(b, n=1, accepted=2), "more errors or answers than rows"),
        (
            lambda b: altered(b, resign=True, score=b.score.model_dump() | {"coef": {}}),
            "weights do not fit",
        ),
        (
            lambda b: altered(b, resign=True, score=b.score.model_dump() | {"coef": {"mood": 1.0}}),
            "weights do not fit",
        ),
        (
            lambda b: altered(
                b,
                resign=True,
                score=b.score.model_dump() | {"scale": dict.fromkeys(b.score.scale, 0.0)},
            ),
            "divides by zero",
        ),
        (lambda b: altered(b).replace('"delta": 0.05', '"delta": 1e400'), "not JSON compliant"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused_also_under_a_new_seal(bundle, spoil, says):
    with pytest.raises(BadBundle, match=says) as caught:
        load_bundle(spoil(bundle))
    assert "\n" not in str(caught.value)


def test_a_policy_for_all_apps_has_the_bytes_it_always_had(bundle):
    assert "app" not in json.loads(bundle.to_text())
    text = altered(bundle, resign=True, app="desk")
    assert load_bundle(text).app == "desk"


def test_the_published_schema_is_the_one_in_force(world, bundle):
    file = Path(policy.__file__).with_name("policy.schema.json")
    published = json.loads(file.read_text("utf-8"))
    assert published == policy_files.schema(), f"write `loop policy schema` to {file.name}"
    document = json.loads(bundle.to_text())
    jsonschema.validate(document, published)
    jsonschema.validate(document | {policy.SIGNATURE: "00"}, published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"surprise": 1}, published)
