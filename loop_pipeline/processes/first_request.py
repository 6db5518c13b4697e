"""The first request a newcomer sends to a live loop: a line that can be pasted.

Not here: what it is answered (``demo/desk_answers.py``).
"""

from __future__ import annotations

import json

# Of the simulated desk: the frontier knows it, and a student that was certified for it may answer.
QUESTION = "Hello, where is my order 48213? It is urgent."


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
