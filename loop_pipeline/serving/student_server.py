"""Talks to one vLLM server over HTTP: which adapters it holds, and what they answer.

Not here: vllm itself; and several servers (``fleet.py``).

Adapters are loaded by name while the server runs; the base model is served as ``base``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from loop_pipeline.http_safety import Redirected, refuse_redirect
from loop_pipeline.masking import masked
from loop_pipeline.serving.adapter_check import flaw, misfit, sha256_in
from loop_pipeline.serving.server_errors import ServerError, last_lines, reason_of, subject_of
from loop_pipeline.serving.student_answer import Answer

# vLLM may have been started a moment ago.
START_S = 180.0
# A machine that is gone does not refuse a connection, it says nothing.
CONNECT_S = 5.0

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reconciled:
    """What `StudentServer.reconcile` did, adapter names in order."""

    loaded: list[str]
    kept: list[str]
    unloaded: list[str]


@dataclass(frozen=True)
class StudentServer:
    """A vLLM server at ``url``. Safe to share between threads.

    Args:
        url: such as ``http://127.0.0.1:8199``.
        timeout: seconds one request may take.
        log_path: the server's log, if it is on this machine; its end is part of the errors.
        max_tokens: of an answer, at most.
    """

    url: str
    timeout: float = 120.0
    log_path: Path | None = None
    max_tokens: int = 256
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    @property
    def address(self) -> str:
        """Its URL as people may see it."""
        return masked(self.url)

    def wait_ready(self, seconds: float) -> None:
        """Wait until the server answers.

        Raises:
            ServerError: it did not within ``seconds``.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                self._call("GET", "/health", timeout=5)
            except ServerError as error:
                if time.monotonic() > end:
                    raise ServerError(
                        f"not ready after {seconds:.0f} s: {error}; is it running? (loop serve)"
                    ) from error
                time.sleep(min(0.5, seconds))
            else:
                return

    def models(self) -> dict[str, str | None]:
        """Names the server answers to, each with its parent: the base of an adapter, or None."""
        return {card["id"]: card.get("parent") for card in self._cards()}

    def check_base(self, base_dir: str) -> None:
        """Make sure that this server has the base an adapter was trained on.

        Raises:
            ServerError: it has another one; an adapter on it would answer nonsense.
        """
        [root] = [card.get("root", "") for card in self._cards() if card.get("parent") is None][:1]
        if Path(root).is_dir() and Path(base_dir).resolve() != Path(root).resolve():
            raise ServerError(f"{self.url} serves {root}, the adapter belongs to {base_dir}")

    def load(self, name: str, adapter_dir: str | Path) -> bool:
        """Serve an adapter under a name. Nothing happens if it is; another one is replaced.

        Returns:
            Whether anything had to be loaded.

        Raises:
            ServerError: the server refused, for instance an adapter of another base model.
        """
        folder = str(Path(adapter_dir).absolute())
        held = {card["id"]: card for card in self._cards()}
        root = next((c.get("root") or "" for c in held.values() if c.get("parent") is None), "")
        if name in held and held[name].get("parent") is None:
            raise ServerError(f"{self.url}: {name!r} is a base model, not a name for an adapter")
        if name in held and held[name].get("root") == folder:
            return False
        if reason := flaw(Path(folder), sha256_in(name)):
            raise ServerError(f"{name!r} is not loaded: {reason}")
        if root and (reason := misfit(Path(folder), root)):
            raise ServerError(f"{self.url} serves {root}, but {name!r} ({folder}) {reason}")
        body: dict[str, Any] = {"lora_name": name, "lora_path": folder}
        if name in held:
            body["load_inplace"] = True
        try:
            self._call("POST", "/v1/load_lora_adapter", body)
        except ServerError as error:
            # Another process was faster with the same adapter.
            if "already been loaded" not in error.words:
                raise
        return True

    def unload(self, name: str) -> bool:
        """Stop serving an adapter. Returns False if it was not there."""
        try:
            self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        except ServerError as error:
            if error.status == requests.codes.not_found:
                return False
            raise
        return True

    def reconcile(self, wanted: Mapping[str, str]) -> Reconciled:
        """Make the wanted adapters, and no others, the ones that are served.

        New ones are loaded before old ones go, so that traffic never meets an empty server. The
        base model stays. Running it twice changes nothing the second time.

        Args:
            wanted: adapter folder by name.
        """
        loaded = [name for name in sorted(wanted) if self.load(name, wanted[name])]
        surplus = sorted(n for n, parent in self.models().items() if parent and n not in wanted)
        return Reconciled(
            loaded=loaded,
            kept=sorted(set(wanted) - set(loaded)),
            unloaded=[name for name in surplus if self.unload(name)],
        )

    def answer(self, model: str, messages: Messages) -> Answer:
        """Ask for one greedy answer with the log-probability of each token.

        A request that is longer than the model's context is no error of the server: the answer is
        empty with finish reason ``too_long``, and counts as one that agrees with nothing.

        Raises:
            ServerError: no answer, with the server's own words.
        """
        start = time.perf_counter()
        try:
            reply = self._call(
                "POST",
                "/v1/chat/completions",
                {
                    "model": model,
                    "messages": list(messages),
                    "max_tokens": self.max_tokens,
                    "temperature": 0,
                    # As in training; a template without this switch is not given it by vLLM.
                    "chat_template_kwargs": {"enable_thinking": False},
                    "logprobs": True,
                },
            )
        except ServerError as error:
            if error.status != requests.codes.bad_request or "context length" not in error.words:
                raise
            return Answer("", [], 0, 0, "too_long", (time.perf_counter() - start) * 1000)
        elapsed = (time.perf_counter() - start) * 1000
        try:
            choice, usage = reply["choices"][0], reply["usage"]
            return Answer(
                text=choice["message"]["content"] or "",
                token_logprobs=[float(t["logprob"]) for t in choice["logprobs"]["content"]],
                tokens_in=usage["prompt_tokens"],
                tokens_out=usage["completion_tokens"],
                finish_reason=choice["finish_reason"] or "",
                latency_ms=elapsed,
            )
        except (KeyError, IndexError, TypeError) as error:
            raise ServerError(
                f"{self.url}: the reply for {model!r} lacks {error!r}; is it a vLLM server with"
                f" log-probabilities? It said: {str(reply)[:300]}"
            ) from error

    def _cards(self) -> list[dict[str, Any]]:
        return self._call("GET", "/v1/models")["data"]

    def _call(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        asked = f"{method} {self.url}{path}" + (f" for {subject_of(body)}" if body else "")
        try:
            reply = self._send(method, path, body, timeout or self.timeout)
        except requests.RequestException as error:
            said = str(error) if isinstance(error, Redirected) else reason_of(error)
            raise ServerError(f"{asked}: {said}{self._log_end()}") from error
        if not reply.ok:
            words = reply.text[:500].strip()
            raise ServerError(
                f"{asked}: HTTP {reply.status_code}: {words}"
                + (self._log_end() if reply.status_code >= requests.codes.server_error else ""),
                status=reply.status_code,
                words=words,
            )
        if "json" not in reply.headers.get("content-type", ""):
            return reply.text
        try:
            return reply.json()
        except ValueError as error:
            raise ServerError(f"{asked}: no JSON came back: {reply.text[:200]!r}") from error

    def _send(self, method: str, path: str, body: Any, timeout: float) -> requests.Response:
        for last in (False, True):
            session = getattr(self._local, "session", None)
            if session is None:
                session = self._local.session = requests.Session()
                session.trust_env = False  # a server of one's own is not reached through a proxy
            try:
                limits = (min(CONNECT_S, timeout), timeout)
                reply = session.request(
                    method, f"{self.url}{path}", json=body, timeout=limits, allow_redirects=False
                )
            except requests.ConnectionError as error:
                # A kept connection may have been closed meanwhile; everything asked is repeatable.
                session.close()
                del self._local.session
                if last or isinstance(error, requests.ConnectTimeout):
                    raise
            else:
                refuse_redirect(reply, "LOOP_VLLM_URL")
                return reply
        raise AssertionError("unreachable")

    def _log_end(self) -> str:
        return f"\n{last_lines(self.log_path)}" if self.log_path else ""
