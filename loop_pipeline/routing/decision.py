"""What the router is asked, and what it says before a call and after it.

Not here: deciding (``router.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from loop_pipeline.groups.embedding.embedder import Floats
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.stats.sampling import shadow_coin
from loop_pipeline.traces.messages import MAX_CHARS


@dataclass(frozen=True, slots=True)
class Decision:
    """Who is asked first.

    ``adapter`` is the name by which the cheaper model is asked (the student's adapter, or another
    upstream), None for the frontier; a ``canary`` is judged by its own thresholds. ``score`` is
    that of a model judged before the call. ``propensity`` is the chance that all models answer
    this request (the shadow coin), the same for every request of a group at a time, so that
    shadowed requests are a uniform sample of the group's traffic: each goes to the frontier and to
    every one of ``Router.adapters``.
    Escalated requests enter calibration only if ``shadow`` is set: that thins them with the same
    coin.
    """

    arm: Literal["student", "frontier"]
    group_id: str | None
    reason: str
    propensity: float
    shadow: bool
    adapter: str | None = None
    canary: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether the student's answer goes out.

    ``text`` is what goes out: the answer, in the form of its contract if its own was another. It is
    None where nothing of the student's does.
    """

    action: Literal["serve", "escalate"]
    score: float | None
    threshold: float | None
    reason: str
    text: str | None = None


class Asked(NamedTuple):
    """A request as ``Router.decide`` takes it."""

    messages: Sequence[Mapping[str, Any]]
    prompt_id: str
    template_hash: str | None = None
    conversation_id: str | None = None
    app: str = ""


class Text:
    """A request's text, embedded at most once by each embedder."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.vectors: dict[int, Floats] = {}

    def vector(self, embedder: TextEmbedder) -> Floats:
        """Its vector, as ``embedder.project`` gives it."""
        if id(embedder) not in self.vectors:
            self.vectors[id(embedder)] = embedder.project([self.text])[0]
        return self.vectors[id(embedder)]


def shadowed_at(decision: Decision, rates: Mapping[str, float], prompt_id: str) -> Decision:
    """A decision with the shadow share of its group, where that is more than the policy's.

    Whom the policy's coin draws, this one draws as well. What is drawn with no chance at all is no
    part of the traffic that evidence comes from, and stays so.
    """
    rate = rates.get(decision.group_id or "", 0.0)
    if not rate > decision.propensity > 0:
        return decision
    drawn = decision.shadow or shadow_coin(prompt_id) < rate
    return replace(decision, propensity=rate, shadow=drawn)


def unread(text: str) -> str | None:
    """Why the text of a request is not looked at; None if it is."""
    if not text.strip():
        return "the request has no text, or not only text"
    if len(text) > MAX_CHARS:
        return f"the request has {len(text)} characters, the router reads {MAX_CHARS}"
    return None


def embed(texts: Sequence[Text], embedder: TextEmbedder) -> None:
    """Embed texts together; if that fails, each is tried alone when it is decided on."""
    read = [text for text in texts if unread(text.text) is None]
    if len(read) < 2:
        return
    try:
        vectors = embedder.project([text.text for text in read])
    except Exception:  # noqa: BLE001  one odd text must not take the others with it
        return
    for text, vector in zip(read, vectors, strict=True):
        text.vectors[id(embedder)] = vector
