"""What an import did, in figures and in words.

Not here: importing (``ingest.py``).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter

from pydantic import BaseModel, Field

from loop_pipeline.costs.unpriced import unpriced_words

# Notes shown; the others are counted.
SHOWN_NOTES = 8
# Above this share of quarantined lines something is wrong with the export, not with a line.
MANY = 0.1


class Imported(BaseModel):
    """What an import did."""

    traces: int = 0
    traces_known: int = 0
    feedback: int = 0
    feedback_known: int = 0
    quarantined: int = 0
    quarantined_known: int = 0
    waiting: int = 0
    """Feedback in the store, of this import or an earlier one, whose trace has not come yet."""
    joined: int = 0
    """Feedback that had waited and whose trace has come now; not counted in ``feedback``."""
    days: dict[str, int] = Field(default_factory=dict)
    """Traces by day."""
    unpriced: dict[str, int] = Field(default_factory=dict)
    """Traces without a known cost, new or there before, by model."""
    notes: dict[str, int] = Field(default_factory=dict)
    """What was not used or had to be assumed, and on how many lines."""

    def __str__(self) -> str:
        """One line for people."""
        traces = f"{self.traces} new traces ({self.traces_known} were there)"
        joined = f", {self.joined} feedback joined to traces they waited for" if self.joined else ""
        return f"{traces}, {self.feedback_only()}{joined}"

    def feedback_only(self) -> str:
        """One line for an import that brings no traces."""
        waiting = f", {self.waiting} feedback still wait for their trace" if self.waiting else ""
        return (
            f"{self.feedback} new feedback ({self.feedback_known} were there), "
            f"{self.quarantined} lines quarantined ({self.quarantined_known} were there){waiting}"
        )

    def remarks(self, first_day: str) -> list[str]:
        """What else people should know, a line each.

        Args:
            first_day: the first day that daily steps see.
        """
        most = sorted(self.notes.items(), key=lambda note: (-note[1], note[0]))
        said = [f"{text} ({count} lines)" for text, count in most[:SHOWN_NOTES]]
        if len(most) > SHOWN_NOTES:
            said.append(f"{len(most) - SHOWN_NOTES} more notes of this kind")
        early = {day: n for day, n in self.days.items() if day < first_day}
        if early:
            said.append(
                f"{sum(early.values())} traces lie before LOOP_FIRST_DAY ({first_day}), where no"
                f" daily step sees them; set LOOP_FIRST_DAY={min(early)} to have them labelled"
            )
        # A clock may be ahead by a little, and a day begins sooner elsewhere.
        tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).date().isoformat()
        late = {day: n for day, n in self.days.items() if day > tomorrow}
        if late:
            said.append(
                f"{sum(late.values())} traces lie in the future (until {max(late)}), where no daily"
                " step sees them yet; look at the clock of whoever wrote them"
            )
        if self.unpriced:
            said.append(unpriced_words(self.unpriced, sum(self.days.values())))
        return said

    @property
    def exit_status(self) -> int:
        """Of the command: 1 if nothing could be read, 3 if much went to quarantine."""
        read = self.traces + self.traces_known + self.feedback + self.feedback_known + self.waiting
        bad = self.quarantined + self.quarantined_known
        if not read and bad:
            return 1
        return 3 if bad > MANY * (read + bad) else 0

    def add(self, more: Imported) -> None:
        """Count what another part of the import did."""
        for name, value in more:
            mine = getattr(self, name)
            both = {**(Counter(mine) + Counter(value))} if isinstance(mine, dict) else mine + value
            setattr(self, name, both)
