"""An object store of the tests' own: moto's S3 behind real HTTP on loopback, which fails when it is told to."""

from __future__ import annotations

import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class S3:
    """A server. `refuse(method, times)` lets it answer 503, or what else is said, to the next requests of a kind."""

    url: str
    asked: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, status
    _refused: dict[str, int] = field(default_factory=dict)
    _says: tuple[str, str] = ("503 Slow Down", "SlowDown")

    def refuse(self, method: str, times: int, status: str = "503 Slow Down", code: str = "SlowDown") -> None:
        self._refused[method], self._says = times, (status, code)

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"team-{uuid.uuid4().hex[:12]}"
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()
        return name

    def count(self, method: str, status: int | None = None) -> int:
        """How many requests of a kind there were, with this answer."""
        return sum(m == method and status in (None, s) for m, _, s in self.asked)

    def answering(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]

            def noted(status: str, *rest: Any) -> Any:
                self.asked.append((method, path, int(status.split()[0])))
                return start(status, *rest)

            if self._refused.get(method, 0) > 0:
                self._refused[method] -= 1
                noted(self._says[0], [("Content-Type", "application/xml")])
                return [f"<Error><Code>{self._says[1]}</Code></Error>".encode()]
            return app(environ, noted)

        return answer


@contextmanager
def s3_server() -> Iterator[S3]:
    """A server with its address and keys in the environment, as a person sets them."""
    pytest.importorskip("obstore", reason="the extra `buckets` is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *args: Any) -> None:
            pass

    made = S3("")
    app = made.answering(server.DomainDispatcherApplication(server.create_backend_app))
    http = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    made.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": made.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a-user", "AWS_SECRET_ACCESS_KEY": "a-secret-key-of-the-tests",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        try:
            yield made
        finally:
            http.shutdown()
            thread.join()
