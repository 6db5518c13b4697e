"""A policy as it is kept: signed by the installation, with its embedder; refused if damaged.

Not here: what a document says (``policy.py``), deciding by it (``router.py``), where the secret
lies (``installation_secret.py``).

The sha256 of a policy keeps accidents out, and whoever can write can compute it anew. The
signature (HMAC-SHA256 of it) takes the secret, which is in no database. It stands in the document
beside the sha256, so that it travels with every copy, and outside of what is hashed, so that a
policy has the same name with and without it.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

from loop_pipeline.groups.embedding.ask_encoder import EmbedderError
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder, open_embedder
from loop_pipeline.hashing import canonical
from loop_pipeline.installation_secret import keyed_digest
from loop_pipeline.routing.policy import (
    SCHEMA_VERSION,
    SIGNATURE,
    BadBundle,
    PolicyBundle,
    load_bundle,
)

PURPOSE = "policy"


def schema() -> dict[str, Any]:
    """JSON schema of the policy document, as ``policy.schema.json`` publishes it."""
    made = PolicyBundle.model_json_schema()
    about = "By the secret of the installation that made it; not part of what sha256 is of."
    fields = made["$defs"]["PolicyBundle"]["properties"]
    fields[SIGNATURE] = {"title": "Signature", "type": "string", "description": about}
    return made | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Routing policy, version {SCHEMA_VERSION}",
    }


def signed(bundle: PolicyBundle, secret: bytes) -> str:
    """The canonical document with the installation's signature."""
    mark = keyed_digest(secret, PURPOSE, bundle.sha256)
    return canonical(bundle.model_dump() | {SIGNATURE: mark}) + "\n"


def load_signed(text: str, secret: bytes) -> PolicyBundle:
    """Read a policy document that is to be obeyed.

    Raises:
        BadBundle: in one line, as ``load_bundle``; or this installation has not signed it.
    """
    bundle = load_bundle(text)
    if problem := unsigned_because(text, secret):
        raise BadBundle(f"policy refused: {problem}")
    return bundle


def unsigned_because(text: str, secret: bytes) -> str | None:
    """What is missing before this document may be obeyed here; None if nothing is.

    Args:
        text: a document that ``load_bundle`` reads.
        secret: of this installation.
    """
    document: dict[str, Any] = json.loads(text)
    name, mark = document["sha256"], document.get(SIGNATURE)
    if not secret:
        return (
            f"{name[:12]} cannot be checked: this process was given no secret of the installation"
        )
    if mark is None:
        return (
            f"{name[:12]} is not signed; look at it (`loop policy show {name[:12]}`), then"
            f" `loop policy sign {name[:12]}` or make it anew (the asset routing_policy)"
        )
    expected = keyed_digest(secret, PURPOSE, name)
    if not isinstance(mark, str) or not hmac.compare_digest(mark.encode(), expected.encode()):
        return (
            f"{name[:12]} was signed with another secret; machines that share a store share"
            " LOOP_INSTALLATION_SECRET, and a policy from elsewhere is taken over with"
            f" `loop policy sign {name[:12]}`"
        )
    return None


def read_policy(path: Path, secret: bytes | None) -> PolicyBundle:
    """The policy in a file; with a secret, one that this installation has signed.

    Raises:
        BadBundle: it cannot be read, was altered, or is not signed.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BadBundle(f"policy refused: {path} cannot be read: {error}") from error
    return load_bundle(text) if secret is None else load_signed(text, secret)


def policy_embedder(path: Path, api_key: str, url: str) -> TextEmbedder:
    """The embedder of a policy.

    Args:
        path: of its file.
        api_key: of an embedder that is an endpoint.
        url: the only endpoint that texts and key are sent to.

    Raises:
        BadBundle: it is damaged, or of a model that is gone or not the configured one.
    """
    try:
        return open_embedder(path, api_key=api_key, endpoint=url)
    except (EmbedderError, OSError, ValueError) as error:
        said = " ".join(f"{error}".split())
        raise BadBundle(f"policy refused: its embedder cannot be opened: {said:.300}") from error


def check_embedder(bundle: PolicyBundle, embedder: TextEmbedder) -> None:
    """Make sure that an embedder is the policy's and works; its first call is made here.

    Raises:
        BadBundle: it is another one, makes other vectors, or none.
    """
    if embedder.version != bundle.embedder_version:
        raise BadBundle(
            f"policy refused: made with embedder {bundle.embedder_version[:12]}, "
            f"this one is {embedder.version[:12]}"
        )
    for group in bundle.groups:
        if (length := len(group.centroid)) != embedder.dimension:
            raise BadBundle(
                f"policy refused: group {group.group_id} lies at {length} coordinates, its"
                f" embedder makes {embedder.dimension}"
            )
    try:
        embedder.transform(["the first call builds its tables"])
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadBundle(f"policy refused: its embedder does not work: {said:.300}") from error
