"""vLLM on Kubernetes: note the adapters, wait for the rollout, find the pods.

Not here: loading adapters (``fleet.py``).

The Deployment's own annotation names the adapters, not its pod template: a change of adapters must
not restart servers. They are then loaded into each ready pod over HTTP, so their folders have to
lie on a volume that the pods mount under the same path.
"""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from loop_pipeline.http_calls.http_safety import Redirected, keeps_secret, refuse_redirect
from loop_pipeline.masking import masked
from loop_pipeline.serving.server_errors import ServerError, reason_of

ANNOTATION = "loop-pipeline/adapters"
ROLLOUT_S = 600.0
CALL_S = 10.0
# What reading a reply raises that has another shape.
ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError)
HINTS = {
    401: "the token is not accepted (LOOP_K8S_TOKEN_FILE)",
    403: "its service account needs get and patch on deployments, and list on endpointslices",
    404: "is LOOP_K8S_DEPLOYMENT or LOOP_K8S_NAMESPACE misspelt?",
}


class ClusterError(ServerError):
    """Kubernetes did not do what it was asked."""


@dataclass(frozen=True)
class Cluster:
    """One Deployment of vLLM, and the Service of the same name.

    Args:
        api: URL of the API server; empty: that of the cluster this process runs in.
        token_file: read anew for each call, because Kubernetes rotates it; a ``ca.crt`` beside it
            is what the API server's certificate is checked with.
        namespace: of both.
        name: of both.
    """

    api: str
    token_file: Path
    namespace: str
    name: str

    def roll_out(
        self, adapters: Mapping[str, str], *, seconds: float = ROLLOUT_S, pause: float = 2.0
    ) -> None:
        """Note the adapters on the Deployment and wait until all of its pods are up to date.

        Args:
            adapters: folder by name.
            seconds: to wait at most.
            pause: seconds between two looks.

        Raises:
            ClusterError: not allowed, not there, stuck, or not done in time.
        """
        path = f"/apis/apps/v1/namespaces/{_part(self.namespace)}/deployments/{_part(self.name)}"
        note = {"metadata": {"annotations": {ANNOTATION: json.dumps(dict(adapters))}}}
        self._call("PATCH", path, note)
        end = time.monotonic() + seconds
        while not _complete(state := self._call("GET", path), self.name):
            if time.monotonic() > end:
                status = {k: v for k, v in state.get("status", {}).items() if isinstance(v, int)}
                raise ClusterError(
                    f"deployment {self.namespace}/{self.name} is not rolled out after"
                    f" {seconds:.0f} s: {status}; see `kubectl describe deployment {self.name}`"
                )
            time.sleep(pause)

    def pod_urls(self) -> list[str]:
        """Addresses of the ready pods behind the Service, sorted.

        Raises:
            ClusterError: there is none, or the list cannot be read.
        """
        path = f"/apis/discovery.k8s.io/v1/namespaces/{_part(self.namespace)}/endpointslices"
        query = f"?labelSelector=kubernetes.io/service-name={_part(self.name)}"
        listed = self._call("GET", f"{path}{query}")
        try:
            urls = sorted(_ready_pods(listed))
        except ODD as error:
            raise _odd("GET", path, listed, error) from error
        if not urls:
            raise ClusterError(f"service {self.namespace}/{self.name} has no ready pod")
        return urls

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        asked = f"{method} {path.partition('?')[0]}"
        if not keeps_secret(self._address()):
            raise ClusterError(
                f"Kubernetes at {masked(self._address())}: a token is sent over https only, or to"
                " this machine (kubectl proxy); set LOOP_K8S_API"
            )
        headers = {"authorization": f"Bearer {self._token()}"}
        headers |= {"content-type": "application/merge-patch+json"} if body else {}
        authority = self.token_file.with_name("ca.crt")
        with requests.Session() as session:
            session.trust_env = False  # no proxy, and no .netrc in the token's place
            session.verify = str(authority) if authority.exists() else True
            try:
                reply = session.request(
                    method,
                    f"{self._address()}{path}",
                    data=json.dumps(body) if body else None,
                    headers=headers,
                    timeout=CALL_S,
                    allow_redirects=False,
                )
                refuse_redirect(reply, "LOOP_K8S_API")
            except Redirected as error:
                raise ClusterError(f"Kubernetes: {asked}: {error}") from error
            except requests.RequestException as error:
                raise ClusterError(
                    f"Kubernetes at {self._address()}: {asked}: {reason_of(error)}"
                ) from error
        if not reply.ok:
            hint = HINTS.get(reply.status_code, "")
            words = reply.text[:300].strip()
            raise ClusterError(
                f"Kubernetes: {asked}: HTTP {reply.status_code}: {words}; {hint}",
                status=reply.status_code,
                words=words,
            )
        try:
            found = reply.json()
        except (ValueError, RecursionError) as error:
            raise _odd(method, path, reply.text, error) from error
        if not isinstance(found, dict):
            raise _odd(method, path, found, "no JSON object")
        return found

    def _address(self) -> str:
        if self.api:
            return self.api.rstrip("/")
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        if not host:
            raise ClusterError("not inside a Kubernetes cluster: set LOOP_K8S_API")
        return f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"

    def _token(self) -> str:
        try:
            return self.token_file.read_text("utf-8").strip()
        except OSError as error:
            raise ClusterError(f"no Kubernetes token: {error} (LOOP_K8S_TOKEN_FILE)") from error


def _part(name: str) -> str:
    """A name as part of a path: it cannot lead to another one."""
    return quote(name, safe="")


def _odd(method: str, path: str, reply: Any, error: object) -> ClusterError:
    """What to say of a reply that is none of Kubernetes."""
    why = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
    return ClusterError(
        f"Kubernetes: {method} {path}: the reply is not Kubernetes' ({why:.100}): {reply!s:.200};"
        " does LOOP_K8S_API name its API server?"
    )


def _ready_pods(listed: dict[str, Any]) -> Iterator[str]:
    """Addresses in a list of EndpointSlices."""
    for part in listed["items"]:
        for endpoint in (part.get("endpoints") or []) if part.get("ports") else []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                port = int(part["ports"][0]["port"])
                for address in endpoint["addresses"]:
                    # Only an address: a name could lead anywhere.
                    host = ipaddress.ip_address(address)
                    yield f"http://{f'[{host}]' if host.version == 6 else host}:{port}"


def _complete(deployment: dict[str, Any], name: str) -> bool:
    """Whether a rollout is done.

    Raises:
        ClusterError: it is stuck, or this is no Deployment.
    """
    try:
        return _rolled_out(deployment, name)
    except ODD as error:
        raise _odd("GET", f"deployment {name}", deployment, error) from error


def _rolled_out(deployment: dict[str, Any], name: str) -> bool:
    """As ``kubectl rollout status`` sees it."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    for condition in status.get("conditions", []):
        if condition.get("reason") == "ProgressDeadlineExceeded":
            raise ClusterError(f"deployment {name} is stuck: {condition.get('message', '')}")
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = [status.get(f"{kind}Replicas", 0) for kind in ("updated", "available")]
    return seen and counts == [wanted, wanted] and status.get("replicas", 0) == wanted
