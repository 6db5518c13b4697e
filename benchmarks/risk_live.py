"""How long does it take until a group whose promise is broken is the frontier's again?

One live run through a real gateway, a store, `loop ship` and the look of the sensor, taken after
every 40 requests. Frontier and student are local servers that agree, until the frontier's answers
to a fifth of the requests of one of two groups are others; a tenth of the requests is shadowed.
Counted from that moment on; while the group is held, 400 requests more are asked, half of them of
it.

    python -m benchmarks.risk_live
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.record import Start, record, table
from loop_pipeline_tests.gateway.live_alarm import COIN, DRIFT, live_alarm


def main() -> None:
    """Run it, and write the results."""
    start = Start()
    with tempfile.TemporaryDirectory() as folder:
        found = live_alarm(Path(folder))
    row = {
        "disagree": DRIFT,
        "shadowed": COIN,
        "requests until held": found.requests_until_held,
        "checked until held": found.checked_until_held,
        "until held": found.seconds_until_held,
        "until obeyed": found.seconds_until_obeyed,
        "asked while held": found.asked_after,
        "by the student": found.served_after,
        "by the frontier": found.at_frontier_after,
        "other group by the student": found.served_in_the_other_group,
        "by the student after the release": found.served_after_release,
    }
    units = {"disagree": "share", "shadowed": "share", "until held": "s", "until obeyed": "s"}
    print(record(__file__, __doc__, [table("The group that drifts", [row], units)], start))


if __name__ == "__main__":
    main()
