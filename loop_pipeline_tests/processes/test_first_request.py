"""The request that a newcomer pastes is one that the demo's student can be certified for."""

from __future__ import annotations

import datetime as dt
import json
import random
import shlex

import numpy as np

from loop_pipeline.demo.desk_answers import PLAIN, desk_answer
from loop_pipeline.demo.simulated_desk import visits, write_request
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.processes.first_request import QUESTION, first_request


def test_it_is_like_the_traffic_of_the_demo_and_its_answer_is_known() -> None:
    rng = random.Random(7)
    asked = [write_request(rng, visit) for visit in visits(rng, 3000, 21, dt.date(2026, 9, 1))]
    assert QUESTION not in {request.text for request in asked}
    embedder = Embedder.fit([request.text for request in asked], seed=0)
    # The router sends what is at most as familiar as this to the frontier.
    assert np.linalg.norm(embedder.transform([QUESTION])[0]) > embedder.floor
    answer = desk_answer(json.loads(shlex.split(first_request("http://x"))[-1])["messages"])
    assert answer != PLAIN
