"""From images to features over a real HTTP server that speaks the Chat Completions API, on a real Dagster instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.errors import DiffExError
from diffex_dagster.running import explain_study
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study, load_study
from tests.corpus.chat_server import Reply, serving
from tests.corpus.test_proposing import good
from tests.toys import edits_made, write_study

KEY = "sk-a-secret-that-must-not-be-kept"


def study_on(folder: Path, url: str, **vlm: Any) -> Study:
    """The toy study with a vision-language model at `url`."""
    part = {"kind": "openai", "model": "good-vlm", "base_url": url, "key_env": "TOY_KEY", "images_per_call": 8} | vlm
    return load_study(write_study(folder, corpus={"vlm": part, "edits": "corpus.yaml"}))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)


def test_images_become_features_and_no_request_is_sent_twice(tmp_path: Path) -> None:
    with serving(good) as server:
        study = study_on(tmp_path, server.url)
        first = explain_study(study, ["v1"], lambda *event: None).metadata["vlm_corpus"]
        sent = len(server.requests)
        assert first["calls_made"] == sent >= 2 and first["tokens"] > 0
        features = build_store(study).query("SELECT name FROM features")["name"].tolist()
        assert {"Hat", "Cap", "Beanie", "Hair colour"} <= set(features)
        made = edits_made(tmp_path)

        again = explain_study(study, ["v1"], lambda *event: None).metadata["vlm_corpus"]
        assert (again["calls_made"], again["calls_reused"], len(server.requests)) == (0, sent, sent)
        assert edits_made(tmp_path) == made

        # A person's edit never calls the model, and leads to edits for exactly that feature.
        (tmp_path / "corpus.yaml").write_text("add: [{name: Ruby, prompt: ruby patch}]\n")
        explain_study(study, ["v1"], lambda *event: None)
        assert len(server.requests) == sent
        new = edits_made(tmp_path)[len(made) :]
        assert {prompts for _, prompts in new} == {("ruby patch",)} and len(new) == 8


def test_the_key_is_kept_nowhere(tmp_path: Path) -> None:
    with serving(good) as server:
        explain_study(study_on(tmp_path, server.url), ["v1"], lambda *event: None)
    assert any(KEY in str(request["authorization"]) for request in server.requests)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (lambda request, number: Reply("I cannot help with these images.", refusal="I cannot help."), "refus"),
        (lambda request, number: Reply("no such model", status=404), "good-vlm"),
        (lambda request, number: Reply("nothing to see here"), "vlm|answer|feature|model"),
    ],
)
def test_a_bad_answer_is_one_sentence_before_any_edit(tmp_path: Path, script: Any, sentence: str) -> None:
    with serving(script) as server, pytest.raises(DiffExError, match=f"(?i){sentence}") as caught:
        explain_study(study_on(tmp_path, server.url, retries=0), ["v1"], lambda *event: None)
    assert KEY not in str(caught.value) and "Traceback" not in str(caught.value)
    assert edits_made(tmp_path) == []


def test_a_missing_key_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_KEY")
    with serving(good) as server, pytest.raises(DiffExError, match="TOY_KEY"):
        explain_study(study_on(tmp_path, server.url), ["v1"], lambda *event: None)


def test_a_starter_or_a_whole_tree_needs_no_model(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "a", corpus={"starter": "birds"}))
    assert explain_study(study, ["v1"], lambda *event: None).metadata["corpus"]["groups"] >= 10
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "corpus.yaml").write_text("tree: [{name: Red, prompt: red patch, children: [dark red patch]}]\n")
    study = load_study(write_study(tmp_path / "b", corpus={}))
    assert explain_study(study, ["v1"], lambda *event: None).metadata["corpus"]["groups"] == 1
    (tmp_path / "b" / "corpus.yaml").write_text("# nothing\n")
    with pytest.raises(DiffExError, match="there is no feature; name a vlm or a starter, or write a tree"):
        explain_study(study, ["v1"], lambda *event: None)
