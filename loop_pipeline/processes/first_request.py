"""The first request a newcomer sends to a live loop: a line that can be pasted.

Not here: what it is answered (``demo/desk_answers.py``).
"""

from __future__ import annotations

import json

# As the simulated desk is asked, word for word, so that a student certified for it answers it.
QUESTION = (
    "Good evening, I sent my order #48213 back last week and the money has not come. "
    "It is urgent. Thanks."
)


def first_request(url: str) -> str:
    """A curl command for a gateway at this address."""
    body = {
        "model": "auto",
        "messages": [
            {"role": "system", "content": "Classify the request."},
            {"role": "user", "content": QUESTION},
        ],
    }
    # -i: who answered, and why, is in the headers x-loop-*.
    return (
        f"curl -i {url}/v1/chat/completions -H 'content-type: application/json'"
        f" -H 'x-loop-task: classify' -d '{json.dumps(body)}'"
    )
