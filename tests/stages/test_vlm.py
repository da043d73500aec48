"""From images to features over a real HTTP server that speaks the Chat Completions API, on a real Dagster instance."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.running import explain_study
from diffex_dagster.cli import corpus as corpus_cli
from diffex_dagster.cli import main as cli
from diffex_dagster.corpus.showing import render_tree
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study, load_study
from tests.support.chat_server import CHILDREN, GROUPS, Reply, embeddings, good, is_second_pass, serving
from tests.support.material import EVIL
from tests.support.toys import edits_made, write_study

KEY = "sk-a-secret-that-must-not-be-kept"


def study_on(folder: Path, url: str, corpus: dict[str, Any] | None = None, **vlm: Any) -> Study:
    """The toy study with a vision-language model at `url`."""
    part = {"kind": "openai", "model": "good-vlm", "base_url": url, "key_env": "TOY_KEY", "images_per_call": 8} | vlm
    return load_study(write_study(folder, corpus={"vlm": part, "overrides": "corpus.yaml", **(corpus or {})}))


def materialize(study: Study, instance: dg.DagsterInstance | None = None) -> dict[str, dict[str, Any]]:
    """Materialize the stages up to the corpus, on an instance; returns the metadata of each."""
    stages = ("sample_images", "vlm_corpus", "corpus")
    job = build_study(study, ["v1"]).resolve_job_def("toy_explain")
    with instance or dg.DagsterInstance.ephemeral() as home:
        keys = [dg.AssetKey(["toy", stage]) for stage in stages]
        result = job.execute_in_process(instance=home, asset_selection=keys, raise_on_error=False)
    found = {event.asset_key.path[-1]: event.materialization.metadata
             for event in result.get_asset_materialization_events() if event.asset_key}  # fmt: skip
    return {stage: {name: value.value for name, value in values.items()} for stage, values in found.items()}


def features(study: Study) -> dict[str, tuple[str, int, str]]:
    """Feature id -> name, level and source, as the database has the current corpus."""
    return {f.id: (f.name, f.level, f.source) for f in build_store(study).current_corpus(study.name).walk()}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)


@pytest.mark.slow
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


def test_every_kind_of_answer_on_the_way_to_features(tmp_path: Path) -> None:
    """Eight images in four batches: rate-limited, refused, too many images, in pseudo-JSON, cut off, slow."""
    refused: list[int] = []
    slow: list[int] = []
    overflow = {"error": {"message": "maximum context length is 4096 tokens", "code": "context_length_exceeded"}}

    def script(request: dict[str, Any], number: int) -> Reply:
        text, pictures = request["messages"][1]["content"][0]["text"], len(request["messages"][1]["content"]) - 1
        if number == 0:
            return Reply("slow down", status=429, headers={"retry-after-ms": "1"})
        if is_second_pass(request):
            if not slow:
                slow.append(number)
                return Reply(CHILDREN, delay_s=4.0)
            if "cut off" in text:
                return Reply(CHILDREN)
            return Reply(CHILDREN[: CHILDREN.index('{"name": "Beanie"')], finish="length")
        if number == 2 or refused:
            refused.append(number)
            if len(refused) == 1:
                return Reply(None, refusal="I cannot describe people")
        if pictures == 2 and number >= 3:
            return Reply(status=400, body=overflow)
        return Reply('Sure!\n```\n{"Hat": {"cap",}, "Hair colour": {"grey"},}\n```')

    with serving(script) as server:
        study = study_on(tmp_path, server.url, images_per_call=2, parallel=1, timeout_s=2.0)
        metadata = materialize(study)
        assert {"hat", "hat/cap", "hat/beanie", "hair-colour/grey"} <= set(features(study))
        (warning,) = metadata["vlm_corpus"]["warnings"]
        assert "refused" in warning and "I cannot describe people" in warning
        assert slow and edits_made(tmp_path) == []
        sent = len(server.requests)
        again = materialize(study)["vlm_corpus"]
        # Only what was refused is asked again (here it overflows, and is answered with one image); the rest is kept.
        assert again["calls_made"] == 1 and len(server.requests) == sent + 2 and not again["warnings"]


def test_cleaning_asks_too_and_everything_is_counted(tmp_path: Path) -> None:
    """Near-duplicates by embedding, the leakage check, a third level, a price of the user's own, shown in metadata."""
    caps = [{"name": "Cap", "prompt": "a cap", "children": [{"name": "Logo"}]}, {"name": "Baseball headgear"},
            {"name": "Hot air"}, {"name": "Warm coat"}]  # fmt: skip
    asked: list[str] = []

    def script(request: dict[str, Any], number: int) -> Reply:
        if "input" in request:
            return embeddings(request, lambda text: [1.0, 0.1 * text.startswith("base"), float(text not in
                              ("a cap", "baseball headgear")) * (1 + len(text))])  # fmt: skip
        text = request["messages"][1]["content"][0]["text"]
        if "tells these classes apart" in text:
            asked.append(text)
            return Reply('{"restating": [{"name": "hot air", "reason": "says warm"}]}')
        return Reply(
            json.dumps({"categories": [{"name": "Hat", "children": caps}]}) if is_second_pass(request) else GROUPS
        )

    with serving(script) as server:
        study = study_on(
            tmp_path, server.url, {"levels": 3}, embedding_model="embedder", leak_check=True,
            prices={"good-vlm": [1.0, 10.0], "embedder": [0.5, 0.0]},
        )  # fmt: skip
        first = materialize(study)["vlm_corpus"]
        assert first["calls_made"] == len(server.requests) == 4  # two passes, the leakage check, the embeddings
        embedded = next(len(request["input"]) for request in server.requests if "input" in request)
        assert first["tokens"] == 3 * 1200 + 10 * embedded
        assert first["price_usd"] == pytest.approx((3 * (1000 * 1.0 + 200 * 10.0) + 10 * embedded * 0.5) / 1e6)
        again = materialize(study)["vlm_corpus"]
        assert (again["calls_made"], again["calls_reused"], again["tokens"], again["price_usd"]) == (0, 4, 0, 0.0)
    assert features(study)["hat/cap/logo"][1] == 3
    assert not {"hat/hot-air", "hat/warm-coat", "hat/baseball-headgear"} & set(features(study))
    assert "warm, cold" in asked[0]  # the classifier's classes, the one that is explained first
    steps = dict(part.split("**", 1) for part in str(first["cleaning"]).split("- **")[1:])
    assert "restates a class" in steps["leakage"] and "restates the class 'warm'" in steps["leakage"]
    assert "similarity" in steps["near-duplicates"] and ": 1" in steps["near-duplicates"].splitlines()[0]
    assert "nothing" in steps["duplicates"] and "no children" in steps["vagueness"]


def test_an_unknown_price_says_where_to_put_it(tmp_path: Path) -> None:
    with serving(good) as server:
        metadata = materialize(study_on(tmp_path, server.url))["vlm_corpus"]
    assert "corpus.vlm.prices" in metadata["price_usd"]


def test_changed_reference_text_asks_again(tmp_path: Path) -> None:
    (tmp_path / "hats.md").write_text("# Caps\nA beanie on grey squares is a knitted cap.")
    with serving(good) as server:
        study = study_on(tmp_path, server.url, {"context": ["hats.md"]})
        materialize(study)
        assert features(study)["hat/beanie"][2] == "hats.md, Caps"
        sent = len(server.requests)
        (tmp_path / "hats.md").write_text("# Caps\nA beanie on grey squares is a woollen cap.")
        assert materialize(study)["vlm_corpus"]["calls_made"] == len(server.requests) - sent == sent


def test_the_key_is_kept_nowhere(tmp_path: Path) -> None:
    """Neither by a server that repeats it in an error, nor by one that repeats it in its answers."""
    echoes = (
        lambda request, number: Reply(f"Incorrect API key provided: {KEY}", status=401),
        lambda request, number: Reply((good(request, number).content or "").replace("a cap", f"a cap {KEY}")),
    )
    for script in echoes:
        with serving(script) as server:
            materialize(study_on(tmp_path, server.url), dg.DagsterInstance.get())
        assert any(KEY in str(request["authorization"]) for request in server.requests)
    assert "hat/cap" in features(load_study(tmp_path))
    for folder in (tmp_path, Path(os.environ["DAGSTER_HOME"])):  # results and the instance's events
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert KEY.encode() not in path.read_bytes(), path


STYLED = "[bold red]Patch[/]"


def test_text_from_the_model_is_text_wherever_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, prompts, regions, citations, reasons and refusals: in metadata, on the page, in the terminal."""
    child = {"name": EVIL + " too", "prompt": "dark red patch", "region": EVIL, "citation": "1"}
    groups = [{"name": EVIL, "prompt": "red patch", "editable": True, "region": EVIL, "citation": "1"},
              {"name": STYLED, "prompt": EVIL + " prompt", "editable": True}]  # fmt: skip
    (tmp_path / f"{EVIL}.md").write_text("Squares are grey.")

    def script(request: dict[str, Any], number: int) -> Reply:
        text = request["messages"][1]["content"][0]["text"]
        if "tells these classes apart" in text:
            return Reply(json.dumps({"restating": [{"name": "hot " + EVIL, "reason": EVIL}]}))
        if number == 0:
            return Reply(None, refusal=EVIL)
        if is_second_pass(request):
            children = [child, {"name": "Hot " + EVIL, "prompt": "hot " + EVIL}]
            return Reply(json.dumps({"categories": [{"name": EVIL, "children": children}]}))
        return Reply(json.dumps({"categories": groups}))

    with serving(script) as server:
        study = study_on(
            tmp_path, server.url, {"context": [f"{EVIL}.md"]}, leak_check=True, images_per_call=4, parallel=1
        )
        outcome = explain_study(study, ["v1"], lambda *event: None)
    for stage, values in outcome.metadata.items():
        for name, value in values.items():
            # JSON and the cells of a table are shown as text.
            if name != "warnings" and not isinstance(value, dg.TableMetadataValue):
                assert "<img src" not in str(value), (stage, name)
    assert "&#60;img" in str(outcome.metadata["vlm_corpus"]["cleaning"])
    page = (study.results_folder / "reports" / "v1" / "index.html").read_text("utf-8")
    assert "<img src=x" not in page and "&lt;img src=x" in page
    assert "Named in" in page and "&lt;img src=x onerror=alert(1)&gt;.md" in page

    for arguments in (["corpus", "show", str(tmp_path)], ["show", str(tmp_path), "v1"]):
        monkeypatch.setattr("sys.argv", ["diffex", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            cli.main()
        assert EVIL in (printed := capsys.readouterr().out) and STYLED in printed
    tree = io.StringIO()
    Console(file=tree, width=250).print(render_tree(corpus_now(study)))
    assert f"[{EVIL}.md]" in tree.getvalue()  # the citation, literally


def test_check_before_the_model_was_asked(tmp_path: Path) -> None:
    study = study_on(tmp_path, "http://127.0.0.1:9/v1")
    out = Console(file=io.StringIO(), width=200)
    (tmp_path / "corpus.yaml").write_text("remove: [hat]\n")
    corpus_cli.check(study, out)
    assert "checked once the model has been asked" in out.file.getvalue()  # type: ignore[attr-defined]
    (tmp_path / "corpus.yaml").write_text("tree: [{name: Red, children: [dark red]}]\n")
    corpus_cli.check(study, out)
    assert "2 features in 1 groups: ready" in out.file.getvalue()  # type: ignore[attr-defined]
    (tmp_path / "corpus.yaml").write_text("remoev: [hat]\n")
    with pytest.raises(DiffExError, match="line 1: remoev: there is no such field; did you mean 'remove'"):
        corpus_cli.check(study, out)


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


@pytest.mark.slow
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
