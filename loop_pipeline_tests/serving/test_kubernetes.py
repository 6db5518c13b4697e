"""The Kubernetes driver against an API server of plain HTTP that knows the four calls."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.serving import kubernetes
from loop_pipeline.serving.fleet import Adapter, open_fleet
from loop_pipeline.serving.kubernetes import ANNOTATION, Cluster, ClusterError
from loop_pipeline.serving.probes import PLAIN
from loop_pipeline.settings import LoopSettings
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.serving.stub import Stub

TOKEN = "ey-secret"
DEPLOYMENT = "/apis/apps/v1/namespaces/prod/deployments/vllm"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices"


class Api(ThreadingHTTPServer):
    """One Deployment of two replicas, complete after so many looks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: tuple[int, Any] | None = None  # instead of the right one
        self.delay = 0.0
        self.looks_until_complete = 0
        self.conditions: list[dict[str, str]] = []
        self.endpoints: list[dict[str, Any]] = []
        self.annotations: dict[str, str] = {"other": "kept"}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def deployment(self) -> dict[str, Any]:
        done = self.looks_until_complete <= 0
        self.looks_until_complete -= 1
        return {
            "metadata": {"generation": 4, "annotations": self.annotations},
            "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 4,
                "replicas": 2 if done else 3,
                "updatedReplicas": 2,
                "availableReplicas": 2 if done else 1,
                "conditions": self.conditions,
            },
        }


class _Handler(BaseHTTPRequestHandler):
    server: Api  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._reply(None)

    def do_PATCH(self) -> None:
        assert self.headers["content-type"] == "application/merge-patch+json"
        self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _reply(self, body: Any) -> None:
        api = self.server
        api.asked.append((self.command, self.path, body))
        time.sleep(api.delay)
        status, reply = 200, None
        if api.answer:
            status, reply = api.answer
        elif self.headers["authorization"] != f"Bearer {TOKEN}":
            status, reply = 401, {"message": "Unauthorized"}
        elif self.path.startswith(SLICES):
            reply = {"items": [{"ports": [{"port": 8000}], "endpoints": api.endpoints}, {}]}
        elif self.path == DEPLOYMENT:
            if body:
                api.annotations |= body["metadata"]["annotations"]
            reply = api.deployment()
        else:
            status, reply = 404, {"message": f"{self.path} not found"}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def cluster(api: Api, token: Path) -> Cluster:
    return Cluster(f"http://127.0.0.1:{api.server_port}/", token, "prod", "vllm")


def test_it_notes_the_adapters_and_waits_for_the_rollout(api: Api, cluster: Cluster) -> None:
    api.looks_until_complete = 3
    cluster.roll_out({"student-1": "/adapters/1"}, pause=0.01)
    assert [(method, path) for method, path, _ in api.asked] == [
        ("PATCH", DEPLOYMENT),
        *[("GET", DEPLOYMENT)] * 3,
    ]
    assert json.loads(api.annotations[ANNOTATION]) == {"student-1": "/adapters/1"}
    assert api.annotations["other"] == "kept"
    assert "spec" not in api.asked[0][2], "a change of adapters restarts no server"


def test_a_rollout_that_does_not_end_is_said_with_its_counts(api: Api, cluster: Cluster) -> None:
    api.looks_until_complete = 10**6
    with pytest.raises(ClusterError, match=r"prod/vllm is not rolled out.*'availableReplicas': 1"):
        cluster.roll_out({}, seconds=0.05, pause=0.01)
    api.conditions = [{"reason": "ProgressDeadlineExceeded", "message": "pod pulls no image"}]
    with pytest.raises(ClusterError, match="is stuck: pod pulls no image"):
        cluster.roll_out({}, pause=0.01)


def test_only_ready_pods_are_replicas(api: Api, cluster: Cluster) -> None:
    api.endpoints = [
        {"addresses": ["10.0.0.9"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.8"], "conditions": {"ready": False}},
        {"addresses": ["10.0.0.7"]},
        {"addresses": ["fd00::1"], "conditions": {}},
    ]
    assert cluster.pod_urls() == [
        "http://10.0.0.7:8000",
        "http://10.0.0.9:8000",
        "http://[fd00::1]:8000",
    ]
    assert api.asked[-1][1].endswith("?labelSelector=kubernetes.io/service-name=vllm")
    api.endpoints = []
    with pytest.raises(ClusterError, match="service prod/vllm has no ready pod"):
        cluster.pod_urls()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (403, {"message": "cannot patch"}),
            "HTTP 403.*cannot patch.*get and patch",
        ),
        ((404, {"message": "gone"}), "HTTP 404.*LOOP_K8S_DEPLOYMENT or LOOP_K8S_NAMESPACE"),
        ((500, {"message": "etcd"}), "HTTP 500.*etcd"),
    ],
)
def test_a_refusal_says_what_is_missing(
    api: Api, cluster: Cluster, answer: tuple[int, Any], words: str
) -> None:
    api.answer = answer
    with pytest.raises(ClusterError, match=words) as caught:
        cluster.roll_out({})
    assert TOKEN not in str(caught.value)


def test_a_rotated_token_is_read_anew_and_a_wrong_one_is_said(
    api: Api, cluster: Cluster, token: Path
) -> None:
    token.write_text("old")
    with pytest.raises(ClusterError, match=r"HTTP 401.*LOOP_K8S_TOKEN_FILE"):
        cluster.roll_out({})
    token.write_text(TOKEN)
    cluster.roll_out({})
    token.unlink()
    with pytest.raises(ClusterError, match=r"no Kubernetes token.*LOOP_K8S_TOKEN_FILE"):
        cluster.roll_out({})


def test_an_api_that_hangs_or_is_not_there_is_said(
    api: Api, cluster: Cluster, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.delay = 1
    monkeypatch.setattr(kubernetes, "CALL_S", 0.1)
    with pytest.raises(ClusterError, match="no answer in time"):
        cluster.pod_urls()
    with pytest.raises(ClusterError, match=r"Kubernetes at http://127\.0\.0\.1"):
        Cluster(f"http://127.0.0.1:{free_port()}", token, "prod", "vllm").pod_urls()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterError, match="set LOOP_K8S_API"):
        Cluster("", token, "prod", "vllm").pod_urls()


def test_the_fleet_of_the_settings_is_the_ready_pods(
    api: Api, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LoopSettings(
        home=tmp_path,
        serving_driver="kubernetes",
        k8s_api=f"http://127.0.0.1:{api.server_port}",
        k8s_token_file=token,
        k8s_namespace="prod",
    )  # pyright: ignore[reportCallIssue]
    pod = Stub()
    api.endpoints = [{"addresses": ["127.0.0.1"]}]
    monkeypatch.setattr(Cluster, "pod_urls", lambda self: [pod.url])
    adapter = Adapter("student-1", "/adapters/1", [PLAIN])
    fleet = open_fleet(settings, announce=[adapter])
    assert json.loads(api.annotations[ANNOTATION]) == {"student-1": "/adapters/1"}
    fleet.reconcile([adapter])
    assert pod.adapters == {"student-1": "/adapters/1"}
    pod.stop()


@pytest.mark.parametrize("url", ["http://10.0.0.1:6443", "http://api.example", "ftp://127.0.0.1"])
def test_a_token_is_not_sent_where_it_can_be_read(token: Path, url: str) -> None:
    with pytest.raises(ClusterError, match="a token is sent over https only") as caught:
        Cluster(url, token, "prod", "vllm").pod_urls()
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "text",
        5,
        {},
        {"items": None},
        {"items": [5]},
        {"items": [{"ports": [{}], "endpoints": [{"addresses": ["10.0.0.1"]}]}]},
        {"items": [{"ports": [{"port": "x"}], "endpoints": [{"addresses": ["10.0.0.1"]}]}]},
        {"items": [{"ports": [{"port": 1}], "endpoints": [{"addresses": ["evil.example/"]}]}]},
        {"items": [{"ports": [{"port": 1}], "endpoints": [{}]}]},
        {"items": [{"ports": [{"port": 1}], "endpoints": ["a"]}]},
    ],
)
def test_a_reply_that_is_not_kubernetes_is_said(api: Api, cluster: Cluster, reply: Any) -> None:
    api.answer = (200, reply)
    with pytest.raises(ClusterError, match=r"GET .*the reply is not Kubernetes'.*LOOP_K8S_API"):
        cluster.pod_urls()


@pytest.mark.parametrize(
    "reply", [[], {}, {"spec": None}, {"spec": {}, "metadata": 5}, {"status": 5, "spec": {}}]
)
def test_a_deployment_that_is_none_is_said(api: Api, cluster: Cluster, reply: Any) -> None:
    api.answer = (200, reply)
    with pytest.raises(ClusterError, match="the reply is not Kubernetes'"):
        cluster.roll_out({}, seconds=0.05, pause=0.01)


def test_a_name_leads_to_no_other_path(api: Api, token: Path) -> None:
    strange = Cluster(f"http://127.0.0.1:{api.server_port}", token, "../../secrets?x=", "vllm")
    with pytest.raises(ClusterError, match="HTTP 404"):
        strange.roll_out({})
    assert api.asked[0][1] == ("/apis/apps/v1/namespaces/..%2F..%2Fsecrets%3Fx%3D/deployments/vllm")
