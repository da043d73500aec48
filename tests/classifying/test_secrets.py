"""No secret that the process knows stands in a message, and none is sent to another server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from diffex_dagster.classifying.http_adapter import HttpClassifier
from diffex_dagster.errors import ClassifierError, StudyError, in_words
from diffex_dagster.utils.secrets import redact, remember

SECRET = "sk-verysecret/0123456789"


@contextmanager
def service(location: str | None) -> Iterator[tuple[str, list[str]]]:
    """A service that repeats its headers in an error, or sends requests for /predict on."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            paths.append(self.path)
            moved = location is not None and self.path == "/predict"
            refused = f"no access for {'x' * 170} {self.headers['Authorization']}".encode()
            content = json.dumps({"outputs": [[0.25, 0.75]] * len(body["images"])}).encode() if location else refused
            self.send_response(307 if moved else 200 if location else 401)
            if moved:
                self.send_header("Location", str(location))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/predict", paths
    finally:
        server.shutdown()
        server.server_close()


def test_a_key_that_a_service_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", SECRET)
    with service(None) as (url, _), pytest.raises(ClassifierError, match="status 401") as caught:
        HttpClassifier(url, ["cold", "warm"], key_env="MINE", retries=0)([Image.new("RGB", (8, 8))])
    assert SECRET[:8] not in str(caught.value) and "no access" in str(caught.value)


def test_every_message_is_without_the_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    assert SECRET not in str(StudyError(f"the server said {SECRET}")) and "[secret]" in str(StudyError(SECRET))
    assert "verysecret" not in redact("https://host/?key=sk-verysecret%2F0123456789")
    assert "verysecret" not in in_words(RuntimeError(f"{'x' * 225} {SECRET}"))
    remember("another-secret-1")
    assert str(StudyError("another-secret-1 was refused")) == "[secret] was refused"
    assert str(StudyError("a sentence")) == "a sentence"


def test_a_request_is_not_sent_on_to_another_server() -> None:
    with service("http://localhost.invalid/elsewhere") as (url, paths):
        with pytest.raises(ClassifierError, match="redirects to http://localhost.invalid/elsewhere"):
            HttpClassifier(url, ["cold", "warm"], retries=0)([Image.new("RGB", (8, 8))])
        assert paths == ["/predict"]
