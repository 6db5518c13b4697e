"""A server that speaks vLLM's five endpoints, and misbehaves when told to."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stub(ThreadingHTTPServer):
    """Answers every chat with its last message in capitals, one token a word."""

    daemon_threads = True
    # Of five, which is the default, a busy machine turns connections away.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = "/models/base"
        self.adapters: dict[str, str] = {}
        self.asked: list[tuple[str, Any]] = []
        self.drop = 0  # so many chats lose their connection
        self.refuse_unload = False
        self.fail: tuple[int, str] | None = None
        self.reply: dict[str, Any] | None = None
        # Makes text and log-probability of an answer from the request's body; None: in capitals.
        self.answer: Callable[[dict[str, Any]], tuple[str, float]] | None = None
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # dropped connections are the point

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, "")
            return
        cards = [{"id": "base", "root": self.server.root, "parent": None}]
        cards += [{"id": n, "root": p, "parent": "base"} for n, p in self.server.adapters.items()]
        self._send(200, {"data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stub = self.server
        stub.asked.append((self.path, body))
        if self.path == "/v1/load_lora_adapter":
            if body["lora_name"] in stub.adapters and not body.get("load_inplace"):
                self._send(400, {"error": {"message": "it has already been loaded."}})
                return
            if "broken" in body["lora_path"]:
                self._send(400, {"error": {"message": "rank 64 is greater than max_lora_rank 16"}})
                return
            stub.adapters[body["lora_name"]] = body["lora_path"]
            self._send(200, "Success")
        elif self.path == "/v1/unload_lora_adapter" and stub.refuse_unload:
            self._send(500, {"error": {"message": "cannot unload now"}})
        elif self.path == "/v1/unload_lora_adapter":
            known = stub.adapters.pop(body["lora_name"], None)
            self._send(*((200, "Success") if known else (404, {"error": "cannot be found"})))
        else:
            self._chat(body)

    def _chat(self, body: dict[str, Any]) -> None:
        stub = self.server
        with stub.lock:
            dropped, stub.drop = stub.drop > 0, max(0, stub.drop - 1)
            stub.busy += 1
            stub.most_busy = max(stub.most_busy, stub.busy)
        time.sleep(0.005)
        with stub.lock:
            stub.busy -= 1
        text = body["messages"][-1]["content"]
        if dropped:
            self.connection.close()
            raise ConnectionAbortedError
        if body["model"] not in {"base", *stub.adapters}:
            self._send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        elif stub.fail:
            self._send(stub.fail[0], {"error": {"message": stub.fail[1]}})
        elif len(text) > 1000:
            self._send(400, {"error": {"message": "This model's maximum context length is 512"}})
        elif stub.answer:
            said, logprob = stub.answer(body)
            self._send(200, _completion(said.split(), logprob))
        else:
            self._send(200, stub.reply or _completion(text.upper().split()))

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode()
        self.send_response(status)
        kind = "application/json" if isinstance(body, dict) else "text/plain"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _completion(words: list[str], logprob: float = -0.1) -> dict[str, Any]:
    tokens = [{"token": w, "logprob": logprob * (i + 1)} for i, w in enumerate([*words, ""])]
    return {
        "choices": [
            {
                "message": {"content": " ".join(words)},
                "logprobs": {"content": tokens},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": len(tokens)},
    }
