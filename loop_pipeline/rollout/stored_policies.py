"""Policies in the store as documents: to be shown whoever signed them, to be obeyed only if we did.

Not here: putting one in force (``release.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from loop_pipeline.routing.policy import BadBundle, PolicyBundle, load_bundle
from loop_pipeline.routing.policy_files import load_signed, signed
from loop_pipeline.store.policies import active_policy, policy_text, policy_texts, replace_text
from loop_pipeline.whole_file import write_whole

log = logging.getLogger(__name__)


class CannotRelease(RuntimeError):
    """What was asked is not possible now; says why, and nothing was changed."""


def read_document(text: str, secret: bytes | None) -> PolicyBundle:
    """A policy from its document; with a secret, one that this installation has signed.

    Raises:
        BadBundle: it was altered, is of an unknown schema version, or is not signed.
    """
    return load_bundle(text) if secret is None else load_signed(text, secret)


def in_force(engine: Engine, secret: bytes | None = None) -> PolicyBundle | None:
    """The policy that routes now, canary included.

    Args:
        engine: the store.
        secret: of the installation, where the policy is obeyed and not only shown.

    Raises:
        BadBundle: it was altered; or, with a secret, this installation has not signed it.
    """
    active = active_policy(engine)
    return read_document(active["bundle"], secret) if active else None


def obeyed(engine: Engine, secret: bytes | None) -> PolicyBundle | None:
    """The policy in force if it may be obeyed; one that may not is said, and counts as none."""
    try:
        return in_force(engine, secret)
    except BadBundle as error:
        log.warning("no policy is obeyed: %s", error)
        return None


def find_document(engine: Engine, name: str) -> str:
    """The document of a policy by what a person would call it.

    Args:
        engine: the store.
        name: a file, ``active``, ``previous``, or the beginning of a sha256.

    Raises:
        CannotRelease: there is none, or several begin like that.
        BadBundle: the policy in force was altered, and the one before it is asked for.
    """
    if Path(name).is_file():
        return Path(name).read_text("utf-8")
    if name in ("active", "previous"):
        active = active_policy(engine)
        if active is None:
            raise CannotRelease("no policy is in force")
        document: str = active["bundle"]
        return document if name == "active" else _document_before(engine, load_bundle(document))
    found = policy_texts(engine, name)
    if len(found) != 1:
        raise CannotRelease(
            f"{len(found)} policies begin with {name!r}: give a file, active, previous, canary, or"
            " the beginning of a sha256 (`loop history` lists them)"
        )
    return found[0]


def find_policy(engine: Engine, name: str) -> PolicyBundle:
    """A policy as ``find_document`` finds it, or ``canary``: the one on trial.

    Raises:
        BadBundle: it was altered, or is of an unknown schema version.
        CannotRelease: there is none, or several begin like that.
    """
    if name != "canary":
        return load_bundle(find_document(engine, name))
    now = in_force(engine)
    if now is None or now.canary is None:
        raise CannotRelease("no rollout is in progress")
    return now.canary.policy


def student_of(bundle: PolicyBundle) -> str:
    """Checkpoint id of a policy's student; empty where no student was good enough yet."""
    return bundle.student["checkpoint_id"]


def parent_of(engine: Engine, bundle: PolicyBundle, secret: bytes | None = None) -> PolicyBundle:
    """The policy that a rollback returns to: for one with a canary, the same without it.

    Raises:
        CannotRelease: there is none.
        BadBundle: it was altered, or is not signed.
    """
    return read_document(_document_before(engine, bundle), secret)


def _document_before(engine: Engine, bundle: PolicyBundle) -> str:
    text = policy_text(engine, bundle.parent) if bundle.parent else None
    if text is None:
        raise CannotRelease(f"policy {bundle.sha256[:12]} is the first: there is none before it")
    return text


def without_canary(
    engine: Engine, bundle: PolicyBundle, secret: bytes | None = None
) -> PolicyBundle:
    """The champion's own policy."""
    return bundle if bundle.canary is None else parent_of(engine, bundle, secret)


def sign_policy(engine: Engine, folder: Path, name: str, secret: bytes) -> Iterator[PolicyBundle]:
    """Sign a stored policy, and those before it, as a rollback may return to each.

    Args:
        engine: the store.
        folder: of the policy documents; the files there are written anew.
        name: as for ``find_document``; a file cannot be signed, the store has its copy.
        secret: of this installation.

    Yields:
        Every policy that was signed; none that was signed already.

    Raises:
        CannotRelease: there is none, or several begin like that.
        BadBundle: one was altered: signing would not mend it.
    """
    text: str | None = find_document(engine, name)
    while text is not None:
        bundle = load_bundle(text)
        document = signed(bundle, secret)
        if document != text and policy_text(engine, bundle.sha256) is not None:
            replace_text(engine, bundle.sha256, document)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / f"{bundle.sha256[:16]}.json", document)
            yield bundle
        text = policy_text(engine, bundle.parent) if bundle.parent else None
