"""No secret that the process knows is shown, logged or stored, and none is sent to another server."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from PIL import Image

from diffex_dagster.api import explain
from diffex_dagster.assets import build, kept
from diffex_dagster.assets.broken import broken_study
from diffex_dagster.assets.build import build_study
from diffex_dagster.classifying.http_adapter import HttpClassifier, HttpPart
from diffex_dagster.errors import ClassifierError, StudyError, in_words
from diffex_dagster.resources import RESOURCES
from diffex_dagster.study import load_study
from diffex_dagster.utils.secrets import logger, none_raised, redact, remember, remember_address
from tests.support.chat_server import Reply, serving
from tests.support.project import Run
from tests.support.services import Answer, Sent, served
from tests.support.toys import PaintEditor, picture, write_study

SECRET = "sk-verysecret/0123456789"
IN_ADDRESS = "tok-alsosecret-42"


def test_a_key_that_a_service_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", SECRET)

    def refuse(sent: Sent, _: int) -> Answer:
        return Answer(f"no access for {'x' * 170} {sent.headers['Authorization']}".encode(), 401)

    with served(refuse) as service, pytest.raises(ClassifierError, match="status 401") as caught:
        HttpClassifier(HttpPart(url=service.url, labels=["cold", "warm"], key_env="MINE", retries=0))(
            [Image.new("RGB", (8, 8))]
        )
    assert SECRET[:8] not in str(caught.value) and "no access" in str(caught.value)


def test_every_message_is_without_the_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    assert SECRET not in str(StudyError(f"the server said {SECRET}")) and "[secret]" in str(StudyError(SECRET))
    assert "verysecret" not in redact("https://host/?key=sk-verysecret%2F0123456789")
    assert "verysecret" not in in_words(RuntimeError(f"{'x' * 225} {SECRET}"))
    remember("another-secret-1")
    assert str(StudyError("another-secret-1 was refused")) == "[secret] was refused"
    assert str(StudyError("a sentence")) == "a sentence"


SCORES = {"outputs": [[0.25, 0.75]]}


def test_a_request_is_never_sent_on_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor over a chain whose first steps stay on the server."""
    monkeypatch.setenv("MINE", SECRET)
    with served(lambda sent, number: Answer(SCORES)) as elsewhere:
        ways = {"/away": f"{elsewhere.url}/take", "/here": "/next", "/next": f"{elsewhere.url}/take?from={SECRET}"}
        with served(lambda sent, number: Answer({}, 307, {"Location": ways[sent.path]})) as service:
            for start in ("/away", "/here"):
                asked = HttpClassifier(
                    HttpPart(url=service.url + start, labels=["cold", "warm"], key_env="MINE", retries=0)
                )
                with pytest.raises(ClassifierError, match=f"redirects to {elsewhere.url}/take") as caught:
                    asked([Image.new("RGB", (8, 8))])
                assert SECRET not in str(caught.value)
            assert service.paths == ["/away", "/here", "/next"] and not elsewhere.got


@contextmanager
def telltale() -> Iterator[str]:
    """A server that is a vision-language model and a classifier, and repeats the key that it was sent: in the features
    that the model names, and in the error with which the classifier refuses more than five pictures.
    """
    tree = [
        {"name": "Red", "prompt": "red patch", "children": [{"name": f"Dark {SECRET}", "prompt": f"dark {SECRET}"}]},
        {"name": f"Key {SECRET}", "prompt": "blue patch"},
    ]

    def answer(request: dict[str, Any], _: int) -> Reply:
        if "messages" in request:
            return Reply(json.dumps({"categories": tree}))
        count = len(request["images"])
        if count > 5:
            return Reply(status=401, body={"error": f"Bearer {SECRET} has no access"})
        return Reply(body={"outputs": [[0.1 + 0.1 * i, 0.9 - 0.1 * i] for i in range(count)]})

    with serving(answer) as server:
        yield server.url


def everything_kept(*folders: Path) -> str:
    """All that the files of these folders hold, rows of DuckDB as text."""
    kept = []
    for file in sorted(each for folder in folders for each in folder.rglob("*") if each.is_file()):
        if file.suffix == ".duckdb":
            with duckdb.connect(str(file), read_only=True) as connection:
                tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
                kept += [repr(connection.execute(f'FROM "{name}"').fetchall()) for name in tables]
        kept.append(file.read_bytes().decode("latin-1"))
    return "\n".join(kept)


def telltale_study(folder: Path, url: str) -> Path:
    vlm = {"kind": "openai", "base_url": url, "model": "seer", "key_env": "MINE", "images_per_call": 8}
    service = {
        "kind": "http",
        "url": f"{url}/predict?token={IN_ADDRESS}",
        "labels": ["cold", "warm"],
        "key_env": "MINE",
    }
    return write_study(folder, corpus={"vlm": vlm, "overrides": "corpus.yaml"}, classifiers={"v1": service})


def test_a_key_that_servers_repeat_is_nowhere_after_a_run(
    tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("MINE", SECRET)
    with telltale() as url, caplog.at_level(logging.INFO):
        file = telltale_study(tmp_path / "toy", url)
        status, out, said = diffex("run", file)
        assert status == 1 and "status 401" in said and "[secret] has no access" in said
        with dg.DagsterInstance.get() as instance:
            job = build_study(load_study(file)).resolve_job_def("toy_explain")
            assert not job.execute_in_process(instance=instance, raise_on_error=False).success
        _, shown, _ = diffex("corpus", "show", file)
    kept = everything_kept(home, tmp_path / "toy" / "results")
    assert "[secret] has no access" in kept and "Key [secret]" in kept and "Key [secret]" in shown
    for text in (out, said, shown, kept, caplog.text):
        assert "verysecret" not in text and "alsosecret" not in text


def test_what_explain_raises_holds_no_key_in_any_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", SECRET)
    pictures = [picture(90 + 4 * i) for i in range(8)]
    with telltale() as url, pytest.raises(ClassifierError, match="status 401") as caught:
        service = {"kind": "http", "url": f"{url}/predict?token={IN_ADDRESS}", "labels": ["cold", "warm"]}
        tree = [{"name": "Red", "prompt": "red patch"}]
        explain(pictures, {**service, "key_env": "MINE"}, PaintEditor(tmp_path, {}), tree, "warm", size=16)
    told = "".join(traceback.format_exception(caught.value))
    assert "HTTPStatusError" in told and "verysecret" not in told and "alsosecret" not in told


def test_logs_and_causes_are_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    remember_address(f"https://me:pass%2Fword1@host/v1?api_key={IN_ADDRESS}&size=512")
    with caplog.at_level(logging.INFO):
        try:
            raise OSError(2, f"pass/word1 at {IN_ADDRESS}")
        except OSError:
            logger("of a test").exception("asked %s with %s", "https://me:pass%2Fword1@host", {"size": 512})
    assert "pass" not in caplog.text.replace("[secret]", "").replace("test_", "") or "word1" not in caplog.text
    assert IN_ADDRESS not in caplog.text and "{'size': 512}" in caplog.text

    class Fixed(Exception):
        """Whose text does not come from its arguments."""

        def __str__(self) -> str:
            return f"fixed {IN_ADDRESS}"

    with pytest.raises(StudyError) as caught, none_raised():
        try:
            try:
                raise Fixed
            except Fixed as error:
                raise KeyError(IN_ADDRESS) from error
        except KeyError as error:
            raise StudyError("a sentence") from error
    told = "".join(traceback.format_exception(caught.value))
    with pytest.raises(PermissionError, match=rf"{re.escape('[Errno 13] [secret]: ')}'a/\[secret\]'"), none_raised():
        raise OSError(13, IN_ADDRESS, f"a/{IN_ADDRESS}")
    with pytest.raises(Exception, match=r"fixed \[secret\]") as caught, none_raised():
        try:
            raise ValueError(IN_ADDRESS)
        except ValueError:
            raise Fixed
    whole = "".join(traceback.format_exception(caught.value))
    assert "ValueError: [secret]" in whole and "Fixed: fixed [secret]" in whole and IN_ADDRESS not in whole
    assert "KeyError: '[secret]'" in told and "Fixed: fixed [secret]" in told and IN_ADDRESS not in told


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("DATABASE_URL", "postgresql://me:pg%2Fword77@db/results", ["pg/word77", "pg%2Fword77"]),
        ("HTTPS_PROXY", "http://me:proxyword9@proxy:3128", ["proxyword9", "bWU6cHJveHl3b3JkOQ=="]),
        ("SERVICE", "https://only-a-token-0123456@host/v1", ["only-a-token-0123456", "b25seS1hLXRva2VuLTAxMjM0NTY6"]),
        ("SIGNED", "https://host/a.png?X-Sig=sigsig99&size=512", ["sigsig99"]),
        ("DSN", "host=db user=me password=dsnword42 dbname=results", ["dsnword42"]),
    ],
)
def test_a_password_in_an_address_of_the_environment_is_not_told(
    name: str, value: str, hidden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in the header that is made of it: `Basic`, and user and password in base64."""
    monkeypatch.setenv(name, value)
    for each in hidden:
        assert (
            redact(f"the server said: {each}, size 512 of me at db")
            == "the server said: [secret], size 512 of me at db"
        )


def test_what_stands_for_a_secret_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "secret")
    monkeypatch.setenv("MY_TOKEN", "secretive")
    once = redact("a secret, a secretive one")
    assert once == redact(once) == "a [secret], a [secret] one"


def test_paths_and_short_words_are_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    monkeypatch.setenv("LOCAL_KEY", "none")
    assert redact(f"{tmp_path}: none is there") == f"{tmp_path}: none is there"


def test_every_logger_of_the_package_is_a_clean_one() -> None:
    package = Path(__file__).parent.parent / "diffex_dagster"
    own = [file for file in package.rglob("*.py") if "logging.getLogger" in file.read_text("utf-8")]
    assert own == [package / "utils" / "secrets.py"]


def test_whatever_dagster_keeps_is_without_secrets() -> None:
    remember(SECRET)
    md, key = dg.MetadataValue, dg.AssetKey("a")
    row = dg.TableRecord({"name": SECRET})
    metadata = {
        SECRET: 1, "text": SECRET, "list": [SECRET], "md": md.md(f"- {SECRET}"), "url": md.url(f"http://h/{SECRET}"),
        "path": md.path(f"/{SECRET}"), "json": md.json({"a": [SECRET]}), "texts": md.text(SECRET),
        "table": md.table([row], dg.TableSchema([dg.TableColumn("name")])), "dagster/row_count": 3,
    }  # fmt: skip
    check = kept.checked(False, f"no {SECRET}", metadata, of=("name", key))
    told = [
        check, kept.materialized("v1", metadata, {}, [check]), kept.seen(key, metadata, f"saw {SECRET}"),
        kept.observed("v1", metadata), kept.skipped(f"at {SECRET}"), kept.failed(f"for {SECRET}"),
        kept.noticed([kept.seen(key, metadata)], {"a": "v1"}),
    ]  # fmt: skip
    for each in told:
        written = repr(vars(each) if isinstance(each, dg.Failure) else each)
        assert SECRET not in written and "[secret]" in written, written
    assert set(kept.plain(metadata)) == {"[secret]", *metadata} - {SECRET}


def test_a_broken_study_and_a_sensor_that_fails_tell_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(SECRET)
    file = write_study(tmp_path / "toy", 2)
    (asset,) = broken_study(file, KeyError(SECRET)).assets or ()
    assert isinstance(asset, dg.AssetsDefinition)
    said = " ".join(spec.description or "" for spec in asset.specs)
    assert "KeyError" in said and SECRET not in said

    def fail(*_: Any) -> Any:
        raise OSError(5, SECRET)

    monkeypatch.setattr(build.lineage, "observe", fail)
    sensor = build_study(load_study(file)).resolve_sensor_def("toy_watch")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, resources=RESOURCES) as context,
        pytest.raises(OSError, match=r"\[secret\]") as caught,
    ):
        sensor.evaluate_tick(context)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
