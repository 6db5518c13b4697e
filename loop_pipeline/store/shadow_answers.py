"""Requests that several models answered, as the store has them.

Not here: what they prove (``routing/calibration_rows.py``, ``rollout/canary_evidence.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import aliased

from loop_pipeline.store.database import CHUNK, of_app, query
from loop_pipeline.store.tables import (
    ContractRow,
    StudentAnswerRow,
    TraceRow,
)
from loop_pipeline.store.traces import BROKEN

# Held-out answers that did not decide the gate: the gold split did, so it would flatter.
REPLAYED = ("validation", "calibration")

# Rows of ``traces`` belong to one request where ``route.shadow_of`` names it; ``route.adapter``
# says which cheaper model answered.
SHADOW_OF = TraceRow.route["shadow_of"].as_string()
REQUEST = func.coalesce(SHADOW_OF, TraceRow.prompt_id)
ADAPTER = TraceRow.route["adapter"].as_string()
