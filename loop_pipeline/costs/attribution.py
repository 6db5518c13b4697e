"""What routed traffic costs, item by item, beside what the frontier would have billed.

Not here: prices of a token (``prices.py``).
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

# Real server bills run 30-50% above the sticker: disk, egress, failed starts, idle replicas.
LOADED_FACTOR = 1.35
# Items of the bill.
STUDENT = ("student, served", "student, wasted on escalations")
ESCALATIONS = "frontier, escalations"
SHADOW = "frontier, shadow calls"
AGAIN = "frontier, asked twice"
TRAINING = "training"
REVIEW = "review"


class CostNumbers(BaseModel):
    """Five figures that only make sense together. Ratios are shares of the frontier's own bill."""

    model_config = ConfigDict(frozen=True)

    requests: int
    coverage: float
    requests_per_hour: float
    server_hourly_usd: float
    loaded_factor: float
    frontier_usd: float
    student_usd_per_request: float
    parts: dict[str, float]
    covered_ratio: float | None
    blended_ratio: float
    loaded_ratio: float
    utilisation: float | None
    break_even_requests_per_hour: float | None
    logged_requests_per_hour: float | None = None
    assumed_requests_per_hour: float | None = None

    @property
    def bill_usd(self) -> float:
        """Everything that the window really costs."""
        return math.fsum(self.parts.values())

    @property
    def pays(self) -> bool | None:
        """Whether the logged load is enough for the student's rent; None: one is not known."""
        logged, even = self.logged_requests_per_hour, self.break_even_requests_per_hour
        return None if logged is None or even is None else logged >= even

    def at_logged_load(self) -> CostNumbers:
        """The same at the logged load; what was assumed instead is in another field.

        Raises:
            ValueError: no load was logged.
        """
        load = self.logged_requests_per_hour
        if not load:
            raise ValueError("no figures at the logged load without one")
        times = self.requests_per_hour / load
        parts = {k: v * times if k in STUDENT else v for k, v in self.parts.items()}
        routed = math.fsum(parts[name] for name in (*STUDENT, ESCALATIONS))
        return self.model_copy(
            update={
                "requests_per_hour": load,
                "assumed_requests_per_hour": self.requests_per_hour,
                "student_usd_per_request": self.student_usd_per_request * times,
                "parts": parts,
                "covered_ratio": None if self.covered_ratio is None else self.covered_ratio * times,
                "blended_ratio": routed / self.frontier_usd,
                "loaded_ratio": math.fsum(parts.values()) / self.frontier_usd,
                "utilisation": None if self.utilisation is None else self.utilisation / times,
            }
        )


def student_usd_per_request(
    server_hourly_usd: float, requests_per_hour: float, *, loaded_factor: float = LOADED_FACTOR
) -> float:
    """One student call's share of a rented server, idle time included.

    Args:
        server_hourly_usd: what the server is rented for, USD an hour.
        requests_per_hour: student calls an hour that share it, averaged around the clock.
        loaded_factor: real bill over sticker price.

    Returns:
        USD.

    Raises:
        ValueError: a figure is missing, not finite or not positive.
    """
    figures = (server_hourly_usd, requests_per_hour, loaded_factor)
    if not all(math.isfinite(figure) and figure > 0 for figure in figures):
        raise ValueError(f"a student call has no price without rent and load, got {figures}")
    return server_hourly_usd * loaded_factor / requests_per_hour


def attribute(
    *,
    requests: int,
    coverage: float | None,
    requests_per_hour: float | None,
    server_hourly_usd: float,
    frontier_usd: float,
    covered_frontier_usd: float | None = None,
    student_calls: int | None = None,
    shadow_rate: float = 0.02,
    again_rate: float = 0.0,
    training_usd: float = 0.0,
    review_usd: float = 0.0,
    capacity_requests_per_hour: float | None = None,
    logged_requests_per_hour: float | None = None,
    loaded_factor: float = LOADED_FACTOR,
) -> CostNumbers:
    """Split the bill of a window and set it beside what the frontier would have billed.

    A cascade: the student is called first, covered answers are served, the others go on to the
    frontier and their student call is wasted. A share of the covered ones is shadowed.

    Args:
        requests: requests in the window, covered or not.
        coverage: share of all requests that the student answers for good.
        requests_per_hour: student calls an hour that share the server; often an assumption.
        server_hourly_usd: rent, USD an hour.
        frontier_usd: what the frontier would have billed for the whole window.
        covered_frontier_usd: its bill for the covered requests only; default: their even share.
        student_calls: requests that the student was asked at all; default: every one.
        shadow_rate: share of the covered requests that the frontier answers too.
        again_rate: share of the shadowed requests, covered or not, that it answers once more.
        training_usd: retraining in the window.
        review_usd: human review in the window.
        capacity_requests_per_hour: what the server can do; gives the utilisation.
        logged_requests_per_hour: student calls an hour that the log itself holds.
        loaded_factor: real bill over sticker price.

    Returns:
        The five figures and the items of the bill, which sum to it.

    Raises:
        ValueError: coverage or load is missing or impossible. A ratio without them says nothing.
    """
    calls = requests if student_calls is None else student_calls
    covered, load, share = _window(
        requests, calls, coverage, requests_per_hour, frontier_usd, covered_frontier_usd
    )
    unit = student_usd_per_request(server_hourly_usd, load, loaded_factor=loaded_factor)
    parts = {
        STUDENT[0]: covered * unit,
        STUDENT[1]: (calls - covered) * unit,
        ESCALATIONS: frontier_usd - share,
        SHADOW: shadow_rate * share,
        TRAINING: training_usd,
        REVIEW: review_usd,
    }
    if again_rate:
        parts[AGAIN] = again_rate * shadow_rate * frontier_usd
    routed = math.fsum(parts[name] for name in (*STUDENT, ESCALATIONS))
    return CostNumbers(
        requests=requests,
        coverage=covered / requests,
        requests_per_hour=load,
        server_hourly_usd=server_hourly_usd,
        loaded_factor=loaded_factor,
        frontier_usd=frontier_usd,
        student_usd_per_request=unit,
        parts=parts,
        covered_ratio=covered * unit / share if share > 0 else None,
        blended_ratio=routed / frontier_usd,
        loaded_ratio=math.fsum(parts.values()) / frontier_usd,
        utilisation=load / capacity_requests_per_hour if capacity_requests_per_hour else None,
        # Below this many student calls an hour the rent eats what the covered requests save.
        break_even_requests_per_hour=(
            server_hourly_usd * loaded_factor * calls / share if share > 0 else None
        ),
        logged_requests_per_hour=logged_requests_per_hour,
    )


def _window(
    requests: int,
    calls: int,
    coverage: float | None,
    requests_per_hour: float | None,
    frontier_usd: float,
    covered_frontier_usd: float | None,
) -> tuple[float, float, float]:
    """Covered requests, load an hour, the bill of the covered ones. Refuses what cannot be."""
    if coverage is None or not 0 <= coverage <= 1:
        raise ValueError(f"no cost ratio without coverage between 0 and 1, got {coverage}")
    if requests_per_hour is None:
        raise ValueError("no cost ratio without the load (requests an hour) behind it")
    if requests < 1 or not (math.isfinite(frontier_usd) and frontier_usd > 0):
        raise ValueError(f"no cost ratio of {requests} requests billed {frontier_usd} USD")
    covered = coverage * requests
    if not covered - 1e-9 * requests <= calls <= requests:
        raise ValueError(f"{covered:g} of {requests} covered, but the student was called {calls}x")
    share = coverage * frontier_usd if covered_frontier_usd is None else covered_frontier_usd
    if not 0 <= share <= frontier_usd * (1 + 1e-9):
        raise ValueError(f"covered requests billed {share} of {frontier_usd} USD")
    return covered, requests_per_hour, share
