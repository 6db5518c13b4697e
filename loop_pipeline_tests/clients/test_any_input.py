"""Whatever is sent to the gateway's endpoints, it does not fall over (schemathesis)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from loop_pipeline_tests.clients.conftest import ROOT, Clients, Routed

pytestmark = [
    pytest.mark.clients,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("clients"),
]
DOCUMENT = ROOT / "loop_pipeline" / "gateway" / "openapi.json"
# What the document says of answers holds, too; what a request is refused for, the vendor decides.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_no_input_makes_the_gateway_fail(clients: Clients, routed: Routed, tmp_path: Path) -> None:
    log = routed.home / "gateway.log"
    before, asked = log.stat().st_size, len(routed.student.asked)
    # The document's paths begin with /v1.
    command = [str(clients.python.with_name("st")), "run", str(DOCUMENT)]
    command += ["--url", routed.url.removesuffix("/v1"), "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "-n", "100", "--seed", "1"]
    command += ["--continue-on-failure", "--no-color", "--request-timeout", "30"]
    command += ["--suppress-health-check", "all", "--generation-database", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = log.read_text()[before:]
    assert done.returncode == 0, done.stdout[-6000:]
    print(re.findall(r"[\d,]+ generated.*", done.stdout))
    assert not re.search(r"Traceback|in the gateway, at|ERROR|CRITICAL", said), said[-3000:]
    # The policy had its part in it.
    assert len(routed.student.asked) > asked + 5
