"""What is said of answers whose cost nobody knows: they count as unpriced, never as free.

Not here: finding prices (``prices.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_pipeline.costs.list_prices import TIERS

WHAT_TO_DO = "name its price in LOOP_PRICES_FILE"
LOG_TOKENS = "log the tokens of each answer, or its cost_usd"
NO_TOKENS = "no tokens logged"
UNPRICED = f"unpriced: {WHAT_TO_DO}"
# Answers that ended before their usage came, as the gateway has them.
CUT_OFF = ("broken", "cancelled")
# Of models that are named, and characters of a name; whoever sends requests chooses names.
SHOWN_MODELS = 5
SHOWN_CHARS = 60


def unpriced_as(row: Mapping[str, Any]) -> str | None:
    """The name under which an answer without a cost is counted; None: it is not.

    An answer that was cut off before its usage came did cost something, and nobody can find out.
    """
    cut_off = row.get("finish_reason") in CUT_OFF and not row["tokens_in"] + row["tokens_out"]
    return None if row.get("cost_usd") is not None or cut_off else billed_as(row)


def billed_as(row: Mapping[str, Any]) -> str:
    """The model of an answer, and what else of it explains that nobody knows its cost."""
    if not row["tokens_in"] and not row["tokens_out"]:
        return f"{row['model']} ({NO_TOKENS})"
    tier = str(row.get("service_tier") or "").casefold()
    return f"{row['model']} ({tier})" if tier in TIERS else str(row["model"])


def unpriced_words(models: Mapping[str, int], of: int) -> str:
    """How many answers are unpriced, of which models, and what to do.

    Args:
        models: how many of each model.
        of: answers in all.
    """
    count = f"{sum(models.values()):,} of {of:,} answers are unpriced"
    return f"{count} ({named(models)}): {what_to_do(models)}"


def named(models: Mapping[str, int]) -> str:
    """The models with the most answers, and how many these are."""
    most = sorted(models.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{model[:SHOWN_CHARS]} {count:,}" for model, count in most[:SHOWN_MODELS]]
    more = [f"{len(most) - SHOWN_MODELS} more models"] if len(most) > SHOWN_MODELS else []
    return ", ".join([*shown, *more])


def what_to_do(models: Mapping[str, int]) -> str:
    """What to do about them."""
    without = [model for model in models if model.endswith(f"({NO_TOKENS})")]
    priced = WHAT_TO_DO if len(models) == 1 else WHAT_TO_DO.replace("its price", "their prices")
    if not without:
        return priced
    return LOG_TOKENS if len(without) == len(models) else f"{priced}; {LOG_TOKENS}"
