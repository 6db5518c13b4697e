"""Several vLLM servers as one: an adapter counts as served once it answers on every one.

Not here: which adapters are wanted (``store/checkpoints.py``).

Nothing is taken away before that: after a failure the old adapters still serve everywhere, and
replicas that got as far keep the new one, which no policy names. The next attempt finishes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_pipeline.serving.adapter_check import flaw, remember, remember_also
from loop_pipeline.serving.kubernetes import Cluster
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_answer import Answer, Messages
from loop_pipeline.serving.student_server import Reconciled, StudentServer
from loop_pipeline.settings import LoopSettings


@dataclass(frozen=True)
class Question:
    """A held-out request, and the answer that is known of the adapter if it was a sure one."""

    messages: Messages
    expected: str | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter to serve, and what to ask it first: short, middling and long requests.

    ``sha256`` is of the weights that were approved, ``config_sha256`` of their configuration;
    empty where that is not known.
    """

    name: str
    folder: str
    questions: Sequence[Question]
    sha256: str = ""
    config_sha256: str = ""

    @property
    def flaw(self) -> str | None:
        """Why it must not be loaded; None if its files are whole and the approved ones."""
        problem = flaw(Path(self.folder), self.sha256, self.config_sha256)
        return f"{self.name} is not loaded: {problem}" if problem else None


@dataclass(frozen=True)
class Fleet:
    """Replicas that serve the same adapters.

    Args:
        servers: at least one.
        memory: where to note what a server on this machine has to reload after a restart.
    """

    servers: Sequence[StudentServer]
    memory: Path | None = None

    @property
    def urls(self) -> list[str]:
        """Addresses of the replicas, as people may see them."""
        return [server.address for server in self.servers]

    def ensure(self, adapters: Sequence[Adapter]) -> dict[str, list[str]]:
        """Load, warm up and probe adapters on every replica; take nothing away.

        Returns:
            Names that had to be loaded, by the replica's URL.

        Raises:
            ServerError: an adapter's files are damaged or not the approved ones; or the first
                replica that did not do it, no later one was asked.
        """
        loaded = self._load(adapters)
        if self.memory is not None:
            remember_also(self.memory, {adapter.name: adapter.folder for adapter in adapters})
        return loaded

    def wait_ready(self, seconds: float) -> None:
        """Wait until every replica answers.

        Raises:
            ServerError: one did not.
        """
        for server in self.servers:
            server.wait_ready(seconds)

    def _load(self, adapters: Sequence[Adapter]) -> dict[str, list[str]]:
        if problem := next(filter(None, (adapter.flaw for adapter in adapters)), None):
            raise ServerError(problem)
        loaded: dict[str, list[str]] = {}
        for number, server in enumerate(self.servers, 1):
            try:
                loaded[server.address] = [a.name for a in adapters if _make_ready(server, a)]
            except ServerError as error:
                place = f"replica {number} of {len(self.servers)}, {server.address}"
                raise ServerError(f"{place}: {error}") from error
        return loaded

    def reconcile(self, adapters: Sequence[Adapter]) -> dict[str, Reconciled]:
        """Make these adapters, and no others, the ones every replica serves.

        Twice the same: the second time, nothing is loaded and nothing unloaded.

        Returns:
            What was done, by the replica's URL.

        Raises:
            ServerError: a replica did not do it; old adapters stay wherever one failed to load.
        """
        loaded = self._load(adapters)
        wanted = {adapter.name: adapter.folder for adapter in adapters}
        done = {server.address: server.reconcile(wanted) for server in self.servers}
        if self.memory is not None:
            remember(self.memory, wanted)
        return {
            url: Reconciled(
                loaded=sorted(loaded[url]),
                kept=sorted(set(wanted) - set(loaded[url])),
                unloaded=changes.unloaded,
            )
            for url, changes in done.items()
        }

    def missing(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Adapters that a replica lacks, by its URL; a replica that lacks none is left out."""
        held = {server.address: server.models() for server in self.servers}
        lacking = {url: sorted(set(names) - set(models)) for url, models in held.items()}
        return {url: absent for url, absent in lacking.items() if absent}

    def answers(self, adapter: Adapter) -> list[Answer]:
        """Put an adapter's first question to it on every replica."""
        return [_ask(server, adapter, adapter.questions[0]) for server in self.servers]


def sort_out(adapters: Sequence[Adapter]) -> tuple[list[Adapter], list[str]]:
    """Adapters that can be loaded, and what is wrong with the others: each costs itself only."""
    flaws = [adapter.flaw for adapter in adapters]
    whole = [a for a, problem in zip(adapters, flaws, strict=True) if problem is None]
    return whole, [problem for problem in flaws if problem]


def _make_ready(server: StudentServer, adapter: Adapter) -> bool:
    """Returns whether the adapter had to be loaded."""
    new = server.load(adapter.name, adapter.folder)
    try:
        # The first request of each length is a slow one: it should not be a user's.
        for question in adapter.questions if new else adapter.questions[:1]:
            _ask(server, adapter, question)
    except ServerError:
        if new:
            with contextlib.suppress(ServerError):  # what went wrong first is what to mend
                server.unload(adapter.name)
        raise
    return new


def _ask(server: StudentServer, adapter: Adapter, question: Question) -> Answer:
    answer = server.answer(adapter.name, question.messages)
    if question.expected is not None and answer.text != question.expected:
        raise ServerError(
            f"{adapter.name!r} answers {answer.text[:80]!r} where it was sure of"
            f" {question.expected[:80]!r} when it was evaluated: the base model there, or the"
            " adapter, is another one"
        )
    return answer


def open_fleet(
    settings: LoopSettings, announce: Sequence[Adapter] | None = None, *, timeout: float = 120.0
) -> Fleet:
    """The replicas that the settings name.

    Args:
        settings: LOOP_SERVING_DRIVER and what belongs to it.
        announce: to Kubernetes: note these adapters on the Deployment and wait for its rollout.
        timeout: seconds one request to a server may take.

    Raises:
        ServerError: Kubernetes cannot be asked, or runs no ready server.
    """
    if settings.serving_driver == "kubernetes":
        cluster = Cluster(
            settings.k8s_api,
            settings.k8s_token_file,
            settings.k8s_namespace,
            settings.k8s_deployment,
        )
        if announce is not None:
            cluster.roll_out({adapter.name: adapter.folder for adapter in announce})
        pods = cluster.pod_urls()
        return Fleet([StudentServer(u, timeout, None, settings.max_answer_tokens) for u in pods])
    urls = settings.vllm_urls
    if not urls:
        raise ServerError("LOOP_VLLM_URL names no server")
    log = settings.vllm_log if len(urls) == 1 else None
    servers = [StudentServer(u, timeout, log, settings.max_answer_tokens) for u in urls]
    return Fleet(servers, settings.vllm_log.with_name("adapters.json"))
