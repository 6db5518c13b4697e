"""Private texts and keys go to the server that was configured, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop_pipeline.groups.embedding.ask_encoder import EmbedderError, ask_endpoint
from loop_pipeline.http_calls.http_safety import keeps_secret, origin_of
from loop_pipeline.labels.hallucination.llm_judge import Judge, JudgeError
from loop_pipeline.serving.kubernetes import Cluster, ClusterError
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline_tests.redirects import elsewhere

PRIVATE = "a private text"


def judge(url: str, _folder: Path) -> None:
    Judge(url, "m", "key").ask(PRIVATE, "answer")


def embedder(url: str, _folder: Path) -> None:
    ask_endpoint([PRIVATE], f"{url}/v1/embeddings#m", "key")


def student(url: str, _folder: Path) -> None:
    StudentServer(url).answer("student-1", [{"role": "user", "content": PRIVATE}])


def cluster(url: str, folder: Path) -> None:
    (folder / "token").write_text("key")
    Cluster(url, folder / "token", "prod", "vllm").roll_out({"student-1": f"/a/{PRIVATE}"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("send", "kind", "setting"),
    [
        (judge, JudgeError, "LOOP_JUDGE_URL"),
        (embedder, EmbedderError, "LOOP_EMBEDDER"),
        (student, ServerError, "LOOP_VLLM_URL"),
        (cluster, ClusterError, "LOOP_K8S_API"),
    ],
)
def test_a_redirect_is_not_followed_but_said(send, kind, setting, status, tmp_path: Path):
    with elsewhere(status) as server:
        with pytest.raises(kind, match=r"sends on to http://localhost:\d+/there") as caught:
            send(server.url, tmp_path)
        assert server.received == []
    assert setting in str(caught.value)
    assert PRIVATE not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host/v1/embeddings#m", "https://HOST:443/other", True),
        ("http://host", "https://host", False),
        ("https://host", "https://host.evil.example", False),
        ("https://host", "https://host:8443", False),
        ("https://host@evil.example/v1", "https://host/v1", False),
        ("https://host", "", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one, other, same):
    assert (origin_of(one) == origin_of(other)) is same


def test_an_address_that_is_none_has_an_origin_of_its_own():
    assert origin_of("http://[bad") != origin_of("http://[worse")
    assert origin_of("http://host:port") != origin_of("http://host")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://10.0.0.1:6443", True),
        ("http://127.0.0.1:8001", True),
        ("http://localhost:8001", True),
        ("http://[::1]:8001", True),
        ("http://10.0.0.1:6443", False),
        ("http://localhost.evil.example", False),
        ("ftp://127.0.0.1", False),
        ("", False),
    ],
)
def test_a_token_is_sent_where_nobody_on_the_way_can_read_it(url, kept):
    assert keeps_secret(url) is kept
