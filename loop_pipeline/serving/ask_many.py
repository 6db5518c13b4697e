"""Asks a server many requests at once and says how far it is.

One request is asked in ``student_server``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from loop_pipeline.serving.student_answer import Answer, Messages
from loop_pipeline.serving.student_server import StudentServer

SECONDS_BETWEEN_REPORTS = 5.0


def answer_all(
    server: StudentServer,
    model: str,
    batch: Sequence[Messages],
    *,
    concurrency: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Ask for many answers at once; the server batches them.

    Args:
        server: whom to ask.
        model: adapter name, or ``base``.
        batch: one list of messages a request.
        concurrency: requests in flight.
        on_progress: called with (answered, all) every few seconds and at the end.

    Returns:
        One answer a request, in the order asked.

    Raises:
        ServerError: the first request that failed; the rest is not asked any more.
    """
    told = time.monotonic()
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        futures = [pool.submit(server.answer, model, m) for m in batch]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                due = time.monotonic() - told > SECONDS_BETWEEN_REPORTS or done == len(futures)
                if on_progress and due:
                    told = time.monotonic()
                    on_progress(done, len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
