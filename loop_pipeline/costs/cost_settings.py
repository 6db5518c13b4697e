"""The settings of money: prices of your own, and what the student's server costs.

Not here: all other settings (``settings.py``, which holds these too), and the prices themselves.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from loop_pipeline.costs.prices import Prices, prices_of


class CostSettings(BaseSettings):
    """What a deployment says of its costs."""

    prices_file: Path | None = Field(
        None, description="YAML with prices of your own, which win over list prices; empty: none."
    )
    server_hourly_usd: float = Field(
        1.40, gt=0, description="What the student's server costs an hour."
    )
    requests_per_hour: float = Field(
        7200, gt=0, description="Requests an hour that share the student's server."
    )

    @field_validator("prices_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("prices_file")
    @classmethod
    def _has_prices(cls, value: Path | None) -> Path | None:
        # Before anything is priced by half of a file.
        prices_of(value)
        return value

    @cached_property
    def prices(self) -> Prices:
        """Prices that hold here: those of LOOP_PRICES_FILE, then list prices."""
        return prices_of(self.prices_file)
