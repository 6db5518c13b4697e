"""Talks to one vLLM server over HTTP: which adapters it holds, and what they answer.

Not here: vllm itself; and several servers (``fleet.py``).

Adapters are loaded by name while the server runs; the base model is served as ``base``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from loop_pipeline.http_calls.bounded_http import BoundedHttp
from loop_pipeline.masking import masked
from loop_pipeline.serving.adapter_check import flaw, misfit, sha256_in
from loop_pipeline.serving.server_errors import ServerError, last_lines, reason_of, subject_of
from loop_pipeline.serving.student_answer import (
    Answer,
    Messages,
    NonsenseReply,
    question_body,
    read_answer,
    too_long,
)

# vLLM may have been started a moment ago.
START_S = 180.0


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
    _http: BoundedHttp = field(default_factory=BoundedHttp, init=False, repr=False, compare=False)

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
        bases = [card for card in self._cards() if card.get("parent") is None]
        if not bases:
            raise ServerError(f"{self.url} names no base model, only adapters")
        root = bases[0].get("root") or ""
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
            body = question_body(model, messages, self.max_tokens)
            reply = self._call("POST", "/v1/chat/completions", body)
        except ServerError as error:
            if error.status is None or not too_long(error.status, error.words):
                raise
            return Answer("", [], 0, 0, "too_long", (time.perf_counter() - start) * 1000)
        try:
            return read_answer(reply, (time.perf_counter() - start) * 1000)
        except NonsenseReply as error:
            raise ServerError(
                f"{self.url}: the reply for {model!r}: {error} It said: {str(reply)[:300]}"
            ) from error

    def _cards(self) -> list[dict[str, Any]]:
        reply = self._call("GET", "/v1/models")
        cards = reply.get("data") if isinstance(reply, dict) else None
        if not isinstance(cards, list) or not all(map(_is_card, cards)):
            raise ServerError(
                f"GET {self.url}/v1/models: this is no list of models; is it a vLLM server?"
                f" It said: {str(reply)[:200]!r}"
            )
        return cards

    def _call(
        self, method: str, path: str, body: Any = None, *, timeout: float | None = None
    ) -> Any:
        asked = f"{method} {self.url}{path}" + (f" for {subject_of(body)}" if body else "")
        try:
            reply = self._http.send(method, f"{self.url}{path}", body, timeout or self.timeout)
        except requests.RequestException as error:
            raise ServerError(f"{asked}: {reason_of(error)}{self._log_end()}") from error
        if not reply.ok:
            words = reply.text[:500].strip()
            raise ServerError(
                f"{asked}: HTTP {reply.status}: {words}"
                + (self._log_end() if reply.status >= requests.codes.server_error else ""),
                status=reply.status,
                words=words,
            )
        if "json" not in reply.content_type:
            return reply.text
        try:
            return reply.json()
        except ValueError as error:
            raise ServerError(f"{asked}: no JSON came back: {reply.text[:200]!r}") from error

    def _log_end(self) -> str:
        return f"\n{last_lines(self.log_path)}" if self.log_path else ""


def _is_card(card: Any) -> bool:
    """Whether this is a model of ``/v1/models``: a name, with root and parent if they are known."""
    return (
        isinstance(card, dict)
        and isinstance(card.get("id"), str)
        and all(isinstance(card.get(name), str | None) for name in ("root", "parent"))
    )
