"""A real HTTP server on loopback that answers as a test says, and notes what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any  # of JSON, or None


class Answer(NamedTuple):
    """What the server sends back: JSON, or bytes as they are."""

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}


@dataclass
class Service:
    """A server that is running: its address, without a path, and the requests that it got."""

    url: str
    got: list[Sent] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.got]


@contextmanager
def served(answer: Callable[[Sent, int], Answer]) -> Iterator[Service]:
    """Serve `answer(request, number of requests before)` until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.title(): value for name, value in self.headers.items()}  # whatever case a client writes
            request = Sent(self.command, self.path, headers, json.loads(sent) if sent else None)
            with lock:
                number = len(service.got)
                service.got.append(request)
            made = answer(request, number)
            content = made.content if isinstance(made.content, bytes) else json.dumps(made.content).encode()
            try:
                self.send_response(made.status)
                for name, value in {"Content-Length": str(len(content)), **made.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):  # the client gave up on a slow answer
                pass

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    service = Service(f"http://127.0.0.1:{http.server_address[1]}")
    threading.Thread(target=lambda: http.serve_forever(poll_interval=0.02), daemon=True).start()
    try:
        yield service
    finally:
        http.shutdown()
        http.server_close()
