"""What is promised, of what and of what not, and what no method could go beyond, in words.

Not here: the figures (``numbers.py``), and a policy in words (``rollout/policy_text.py``).
"""

from __future__ import annotations

from loop_pipeline.report.numbers import Coverage, percent


def promise_sentence(found: Coverage, *, text: bool) -> str:
    """What is promised, of what, and of what not.

    Args:
        found: the coverage.
        text: whether some groups have free text.
    """
    what = found.promised or f"{found.target:.0%} agreement"
    but = "; of texts only the wording is compared, their quality is not promised" if text else ""
    return (
        f"promise: {what} in every group of labels, tags or JSON, broken with chance "
        f"{found.delta:.0%} at most{but}"
    )


def most_words(most: float | None) -> str:
    """What no method could go beyond, as it stands beside the certified coverage."""
    if most is None:
        return "the most that any method could certify is not known"
    return f"no method could certify more than {percent(most)} for this student"
