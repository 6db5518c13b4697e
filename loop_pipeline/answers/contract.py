"""Does an answer keep its contract? Deterministic: no statistics, no model.

Three outcomes: it keeps the contract; it says what the contract asks for in another form (a *slip
of form*: "**delivery**." for ``delivery``, JSON in a fence), and then the form it should have had
is known; or it breaks it.

Not here: how labels, tags and JSON are found in what was said (``forms``); JSON schemas
(``json_schema.py``); what a text rests on (``labels/hallucination``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from loop_pipeline.answers.facts import unsupported_facts
from loop_pipeline.answers.forms.bare_json import NotJSON, read_json
from loop_pipeline.answers.forms.label_forms import Labels, label_in, labels_of, plain
from loop_pipeline.answers.forms.tag_forms import NONE, tags_in
from loop_pipeline.answers.json_schema import UnsupportedContract, check_schema, schema_violations
from loop_pipeline.answers.schemas.bounded_schema import short
from loop_pipeline.answers.words import count_words

SLIP = "slip of form"


class Held(NamedTuple):
    """How an answer stands to its contract."""

    reasons: list[str]
    """Why it breaks it; empty: it does not."""
    form: str | None = None
    """What it says in the contract's form, if its own is another."""


def hold(output: str, contract: Mapping[str, Any] | None, request_text: str) -> Held:
    """Hold an answer against its contract.

    Labels and tags are compared without regard to case and spacing, like agreement is. Texts may
    only hold numbers, ids, URLs and e-mail addresses that occur in the request.

    Args:
        output: the answer.
        contract: label, tags, json or text (see ``ContractRow``); None: nothing to break.
        request_text: everything the answer may rest on: messages and context.

    Raises:
        UnsupportedContract: unknown kind, a JSON schema keyword that is not checked, or a contract
            that cannot be read. Nothing else, whatever the contract holds.
    """
    if contract is None:
        return Held([])
    kind = contract.get("kind") if isinstance(contract, Mapping) else None
    if kind == "label":
        return _label(output, known_labels(contract))
    if kind == "tags":
        return _tags(output, known_labels(contract))
    if kind == "json":
        return _json(output, contract.get("schema"))
    if kind == "text":
        return Held(_check_text(output, _max_words(contract), request_text))
    raise UnsupportedContract(
        f"contract kind {short(kind)} is not one of label, tags, json, text; correct the contract"
    )


def check_contract(output: str, contract: Mapping[str, Any] | None, request_text: str) -> list[str]:
    """Reasons why an answer breaks its contract; empty if it keeps it, or slips in its form only.

    As ``hold``, which also tells these two apart.
    """
    return hold(output, contract, request_text).reasons


def in_form(output: str, contract: Mapping[str, Any] | None) -> str:
    """An answer in its contract's form: what is learned and served where only its form slipped.

    What keeps its contract stays as it is to the last character; so does what breaks it.
    """
    if not isinstance(contract, Mapping) or contract.get("kind") not in ("label", "tags", "json"):
        return output
    try:
        form = hold(output, contract, "").form
    except UnsupportedContract:
        return output
    return output if form is None else form


def known_labels(contract: Mapping[str, Any]) -> Labels:
    """The labels of a contract.

    Raises:
        UnsupportedContract: it has none.
    """
    labels = contract.get("labels")
    if not isinstance(labels, list | tuple) or not all(isinstance(one, str) for one in labels):
        raise UnsupportedContract("the contract has no list of labels; correct the contract")
    return labels_of(tuple(labels))


def _max_words(contract: Mapping[str, Any]) -> int | None:
    words = contract.get("max_words")
    if words is not None and (isinstance(words, bool) or not isinstance(words, int | float)):
        raise UnsupportedContract("max_words of the contract is no number; correct the contract")
    if isinstance(words, float) and not math.isfinite(words):
        raise UnsupportedContract(f"max_words of the contract is {words}; correct the contract")
    return None if words is None else int(words)


def _label(output: str, labels: Labels) -> Held:
    if plain(output) in labels.plain:
        return Held([])
    label = label_in(output, labels)
    return Held([f"label {short(output)} is not in the set"] if label is None else [], label)


def _tags(output: str, labels: Labels) -> Held:
    tags = [plain(tag) for tag in output.split(",")]
    if tags == [NONE]:
        return Held([])
    reasons = [f"tag {short(tag)} is not in the set" for tag in tags if tag not in labels.plain]
    twice = sorted(tag for tag, times in Counter(tags).items() if times > 1)
    reasons += [f"tag {short(tag)} is given twice" for tag in twice]
    if not reasons or (named := tags_in(output, labels)) is None:
        return Held(reasons)
    return Held([], ", ".join(named) or NONE)


def _check_text(output: str, max_words: int | None, request_text: str) -> list[str]:
    if not output.strip():
        return ["the answer is empty"]
    facts = unsupported_facts(output, request_text)
    reasons = [f"{short(fact)} is not in the request" for fact in facts]
    if max_words is not None and (words := count_words(output)) > max_words:
        reasons.append(f"{words} words, {max_words} are allowed")
    return reasons


def _json(output: str, schema: Any) -> Held:
    check_schema(schema)
    try:
        value, bare = read_json(output)
    except NotJSON as error:
        return Held([str(error)])
    reasons = schema_violations(value, schema)
    return Held(reasons, None if reasons else bare)
