"""The words that belong to the form of a template's answers, learned from a worker's latest ones.

Not here: which words those are (``labels/hallucination/wording_features.py``).

"Customer asks for" stands in no request, and is no invention. Offline a whole day's answers tell
the form; neither the policy nor the detector holds it, so each worker learns it anew. Until it has
seen a template's first answers there is no form, and more of them escalate than need to.
"""

from __future__ import annotations

from collections import deque

from loop_pipeline.labels.hallucination.wording_features import usual_stems

KEPT = 200
# Between two times that a form is learned anew; as many answers are the fewest that show one.
EVERY = 20
# A deployment has a few templates; a client that varies its system prompt must not fill memory.
MOST_TEMPLATES = 256


class AnswerForms:
    """Forms by template hash."""

    def __init__(self) -> None:
        self._answers: dict[str, deque[str]] = {}
        self._usual: dict[str, frozenset[str]] = {}
        self._seen: dict[str, int] = {}

    def usual(self, template: str) -> frozenset[str]:
        """Stems of the form of a template's answers, none while few are known."""
        return self._usual.get(template, frozenset())

    def saw(self, template: str, output: str) -> None:
        """Learn from an answer, whether or not it goes out."""
        if template not in self._answers:
            if len(self._answers) >= MOST_TEMPLATES:
                self._forget(next(iter(self._answers)))
            self._answers[template] = deque(maxlen=KEPT)
        self._answers[template].append(output)
        self._seen[template] = seen = self._seen.get(template, 0) + 1
        if seen % EVERY == 0:
            self._usual[template] = usual_stems(self._answers[template], at_least=EVERY)

    def _forget(self, template: str) -> None:
        for known in (self._answers, self._usual, self._seen):
            known.pop(template, None)
