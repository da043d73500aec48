"""A real HTTP server on loopback that speaks enough of the Chat Completions API to be lied to by."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.services import Answer, Sent, served

JSON = {"Content-Type": "application/json"}


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
MODELS = {"object": "list", "data": [{"id": "good-vlm", "object": "model", "created": 0, "owned_by": "me"}]}


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """Serve `script(request, number of requests before)` until the block ends; and a list of models."""

    def answer(sent: Sent, _: int) -> Answer:
        if sent.method == "GET":
            return Answer(MODELS, headers=JSON)
        with lock:
            number = len(server.requests)
            authorization = sent.headers.get("Authorization")
            server.requests.append({**sent.body, "authorization": authorization, "path": sent.path})
        reply = script(sent.body, number)
        time.sleep(reply.delay_s)
        return Answer(reply.payload(sent.body.get("model", "")), reply.status, JSON | reply.headers)

    lock = threading.Lock()
    with served(answer) as service:
        server = Server(f"{service.url}/v1")
        yield server


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
