"""What the store knows of requests that a policy can be judged on.

Not here: the estimate (``stats/off_policy.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, func, or_, select

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.routing.calibration_rows import held_out_answers
from loop_pipeline.routing.gold_check import gold_outcomes, served
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import PolicyBundle
