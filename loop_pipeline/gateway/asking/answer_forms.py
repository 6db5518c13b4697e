"""How the answers to a template use words: as the daily step learned it, else by a worker's own.

Not here: how that is learned (``labels/hallucination/habits/wording_habit.py``).

"Customer asks for" stands in no request, and is no invention. Where no day has told of a template
yet, each worker learns the form of its answers anew, and the score's own line holds: more answers
than need to escalate, and none is learned from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from loop_pipeline.labels.hallucination.habits.wording_habit import (
    MIN_FORM,
    STRICT,
    Habit,
    Said,
    usual_stems,
)

KEPT = 200
# Between two times that a form is learned anew; as many answers are the fewest that show one.
EVERY = MIN_FORM
# A deployment has a few templates; a client that varies its system prompt must not fill memory.
MOST_TEMPLATES = 256


class AnswerForms:
    """Habits by template hash."""

    def __init__(self, habits: Callable[[], Mapping[str, Habit]] = dict) -> None:
        """Know nothing yet.

        Args:
            habits: gives what the daily step learned, by template hash.
        """
        self._habits = habits
        self._answers: dict[str, deque[Said]] = {}
        self._own: dict[str, Habit] = {}
        self._seen: dict[str, int] = {}

    def habit(self, template: str) -> Habit:
        """Of a template's answers; strict where nothing was learned."""
        return self._habits().get(template) or self._own.get(template, STRICT)

    def saw(self, template: str, output: str, source: str) -> None:
        """Learn from an answer to a template of which nothing is known, whether it goes out or not.

        Args:
            template: its hash.
            output: the answer.
            source: what it rests on; of several answers to one, all count as one.
        """
        if template in self._habits():
            self._forget(template)
            return
        if template not in self._answers:
            if len(self._answers) >= MOST_TEMPLATES:
                self._forget(next(iter(self._answers)))
            self._answers[template] = deque(maxlen=KEPT)
        self._answers[template].append(Said(output, source))
        self._seen[template] = seen = self._seen.get(template, 0) + 1
        if seen % EVERY == 0:
            form = usual_stems(self._answers[template])
            self._own[template] = STRICT.model_copy(update={"form": form})

    def _forget(self, template: str) -> None:
        for known in (self._answers, self._own, self._seen):
            known.pop(template, None)
