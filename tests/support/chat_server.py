"""A real HTTP server on loopback that speaks enough of the Chat Completions API to be lied to by."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends: an answer as the model's text, or a body of its own."""

    content: str | None = None
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    finish: str = "stop"
    refusal: str | None = None
    delay_s: float = 0.0

    def payload(self, model: str) -> bytes:
        if self.body is not None:
            return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()
        if self.status != 200:
            return json.dumps({"error": {"message": self.content or "no", "type": "error"}}).encode()
        message = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
        }
        return json.dumps(completion).encode()


@dataclass
class Server:
    """The running server: its address, and the requests that it got."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The requests that were no embeddings."""
        return [request for request in self.requests if "messages" in request]

    def text(self, i: int) -> str:
        """The prompt of a request."""
        return str(self.requests[i]["messages"][1]["content"][0]["text"])

    def images(self, i: int) -> int:
        """How many images a request had."""
        return len(self.requests[i]["messages"][1]["content"]) - 1


def embeddings(request: dict[str, Any], embed: Callable[[str], list[float]]) -> Reply:
    """The answer to an embedding request; in reverse order, as the API allows."""
    data = [{"object": "embedding", "index": i, "embedding": embed(text)} for i, text in enumerate(request["input"])]
    usage = {"prompt_tokens": 10 * len(data), "total_tokens": 10 * len(data)}
    return Reply(body={"object": "list", "model": request["model"], "data": data[::-1], "usage": usage})


Script = Callable[[dict[str, Any], int], Reply]


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """Serve `script(request, number of requests before)` until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.requests)
                authorization = self.headers.get("Authorization")
                server.requests.append({**request, "authorization": authorization, "path": self.path})
            reply = script(request, number)
            time.sleep(reply.delay_s)
            self._send(reply.status, reply.payload(request.get("model", "")), reply.headers)

        def do_GET(self) -> None:
            models = {"object": "list", "data": [{"id": "good-vlm", "object": "model", "created": 0, "owned_by": "me"}]}
            self._send(200, json.dumps(models).encode(), {})

        def _send(self, status: int, payload: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
            except (BrokenPipeError, ConnectionResetError):  # the client gave up on a slow answer
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


# A model that answers well, in two passes: the groups of a corpus, then their children.
GROUPS = json.dumps(
    {"categories": [{"name": "Hat", "prompt": "a hat", "editable": True}, {"name": "Hair colour", "editable": False}]}
)
CHILDREN = json.dumps(
    {
        "categories": [
            {"name": "Hat", "children": [{"name": "Cap", "prompt": "a cap"}, {"name": "Beanie", "citation": "1"}]},
            {"name": "Hair colour", "children": ["grey"]},
        ]
    }
)


def is_second_pass(request: dict[str, Any]) -> bool:
    return "For each of these categories" in request["messages"][1]["content"][0]["text"]


def good(request: dict[str, Any], number: int) -> Reply:
    return Reply(CHILDREN if is_second_pass(request) else GROUPS)
