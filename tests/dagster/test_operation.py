"""What keeps a code location, an instance and a deployment going: broken studies, homes, resources, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import openai
import pytest

from diffex_dagster.assets import common
from diffex_dagster.assets.build import build_study
from diffex_dagster.classifying.http_adapter import HttpClassifier, HttpPart
from diffex_dagster.corpus.vlm.client import Client, Request
from diffex_dagster.corpus.vlm.parts import ServerOptions
from diffex_dagster.corpus.vlm.protocol import Proposer
from diffex_dagster.corpus.vlm.usage import MemoryCache, Usage
from diffex_dagster.definitions import build_studies
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import ClassifierError, CorpusError, StoreError, StudyError, may_pass, passing
from diffex_dagster.resources import RESOURCES, EditorResource, ResultsResource, VLMResource
from diffex_dagster.resources.home import home_folder
from diffex_dagster.stages.setup import build_store
from diffex_dagster.store import Store
from diffex_dagster.study import Study, load_study
from tests.support.project import ROOT, Run
from tests.support.toys import PaintEditor, edits_made, picture, write_study


def folders(definitions: dg.Definitions) -> dict[str, list[str]]:
    """The first part of every asset's key, with the keys."""
    keys: dict[str, list[str]] = {}
    for key in definitions.resolve_all_asset_keys():
        keys.setdefault(key.path[0], []).append("/".join(key.path[1:]))
    return keys


def break_owner(folder: Path) -> None:
    write_study(folder, 2, name="bad", owners=["me"])


def break_yaml(folder: Path) -> None:
    write_study(folder, 2)
    (folder / "study.yaml").write_text("name: [")


def break_key(folder: Path) -> None:
    file = write_study(folder, 2, name="bad")
    file.write_text(file.read_text().replace("target:", "tarrget:"))


def copy_good(folder: Path) -> None:
    write_study(folder, 2, name="Good")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (break_owner, "'me' is no owner; write an e-mail address, or team:name"),
        (break_yaml, "this is not valid YAML"),
        (break_key, "there is no such field"),
        (copy_good, "is called 'Good' too; give one of them another name"),
    ],
)
def test_a_broken_study_says_its_sentence_and_stops_no_other(tmp_path: Path, spoil: Any, said: str) -> None:
    write_study(tmp_path / "studies" / "a_good", 2, name="good")
    spoil(tmp_path / "studies" / "half")
    definitions = build_studies(tmp_path)
    found = folders(definitions)
    assert len(found["good"]) > 10 and found["half"] == ["study_is_broken"]
    dg.Definitions.validate_loadable(definitions)
    (spec,) = [s for s in definitions.resolve_all_asset_specs() if s.key.path[0] == "half"]
    assert spec.description and said in spec.description
    assert str(tmp_path / "studies" / "half" / "study.yaml") in spec.description
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(asset_selection=[spec.key], raise_on_error=False)
    (failure,) = result.get_step_failure_events()
    assert said in failure.step_failure_data.user_failure_data.description


def test_an_error_of_any_kind_stops_no_other_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(study: Study, **options: Any) -> dg.Definitions:
        if study.name == "bad":
            raise KeyError("who knows")
        return build_study(study, **options)

    for name in ("good", "bad"):
        write_study(tmp_path / "studies" / name, 2, name=name)
    monkeypatch.setattr("diffex_dagster.definitions.build_under_editors", build)
    definitions = build_studies(tmp_path)
    assert folders(definitions)["bad"] == ["study_is_broken"] and len(folders(definitions)["good"]) > 10
    (spec,) = [s for s in definitions.resolve_all_asset_specs() if s.key.path[0] == "bad"]
    assert f"{tmp_path / 'studies' / 'bad' / 'study.yaml'}: KeyError: 'who knows'" in str(spec.description)


@pytest.mark.slow
def test_loading_studies_warns_of_nothing(tmp_path: Path) -> None:
    """Dagster's notes to developers (beta, preview) say nothing to whoever loads a code location."""
    write_study(tmp_path / "studies" / "toy", 2, owners=["me@example.org", "team:vision"])
    code = "import diffex_dagster.definitions as d; x = d.defs(); x.resolve_asset_graph(); x.resolve_all_job_defs()"
    code = code if hasattr(dg.Definitions, "resolve_all_job_defs") else code.rpartition(";")[0]
    for url in ({}, {"DIFFEX_CODE_URL": "https://code.example.org/main"}):
        environment = {**os.environ, "DIFFEX_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT), **url}
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def linked(study: Study) -> dict[str, list[str]]:
    """The addresses (or paths) of every asset's links."""
    found = {}
    for spec in build_study(study).resolve_all_asset_specs():
        each = spec.metadata["dagster/code_references"].code_references
        found["/".join(spec.key.path[1:])] = [link.source for link in each]
    return found


def test_links_to_study_and_code_open_in_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEX_CODE_URL", "https://code.example.org/main/")
    own = {"kind": "python", "factory": "mine:Own"}
    code = "from tests.support.toys import WarmClassifier\nclass Own(WarmClassifier): pass\n"
    repository = write_study(tmp_path / "studies" / "a b", 2, classifiers={"v1": own})
    (tmp_path / "studies" / "a b" / "mine.py").write_text(code)
    found = linked(load_study(repository))
    study = "https://code.example.org/main/studies/a%20b/study.yaml"
    assert len(found) > 10 and all(links[0] == study for links in found.values())
    assert found["v1/classifier"] == [study, "https://code.example.org/main/studies/a%20b/mine.py"]
    assert found["level1_edits"] == [study]  # this package is not in that repository
    # A component: links are relative to the project.
    component = write_study(tmp_path / "project" / "src" / "defs" / "faces", 2)
    (tmp_path / "project" / "pyproject.toml").write_text("")
    (link,) = linked(load_study(component))["level1_edits"]
    assert link == "https://code.example.org/main/src/defs/faces/study.yaml"
    # A repository that has the code of the assets too.
    shipped = linked(load_study(ROOT / "studies" / "avatars" / "study.yaml"))["level1_edits"]
    assert re.fullmatch(r"https://code\.example\.org/main/diffex_dagster/assets/edits\.py#L\d+", shipped[1])
    monkeypatch.delenv("DIFFEX_CODE_URL")
    local = linked(load_study(repository))
    assert local["v1/classifier"] == [str(repository), str(repository.with_name("mine.py"))]


def test_metadata_names_tables_and_the_address_of_a_page(toy: Study, tmp_path: Path) -> None:
    served = ResultsResource(folder=str(tmp_path / "served"), url="https://reports.example.org/")
    definitions = build_study(toy, resources={"diffex_results": served})
    with dg.DagsterInstance.ephemeral() as home:
        result = definitions.resolve_job_def("toy_explain").execute_in_process(instance=home)
        found = {
            "/".join(event.asset_key.path[1:]): event.materialization.metadata
            for event in result.get_asset_materialization_events()
        }
    for stage, table, column in (
        ("sample_images", "images", "image"), ("vlm_corpus", "answers", "answer"), ("corpus", "features", "feature"),
        ("level1_edits", "edits", "edit"), ("v1/level1_scores", "gates", "kept"),
        ("v1/level2_scores", "scores", "outputs"), ("v1/ranked_report", "rankings", "decision"),
    ):  # fmt: skip
        assert found[stage]["dagster/table_name"].value == f"diffex.main.{table}"
        columns = {each.name for each in found[stage]["dagster/column_schema"].schema.columns}
        assert column in columns, (stage, columns)
        rows = found[stage]["dagster/row_count"].value
        assert rows > 0 or stage == "vlm_corpus", stage  # a recorded answer was asked of nobody
    for stage in ("v1/ranked_report", "classifier_comparison"):
        address = str(found[stage]["page"].value)
        assert address.startswith("https://reports.example.org/toy/reports/")
        page = tmp_path / "served" / address.removeprefix("https://reports.example.org/")
        assert page.name == "index.html" and page.exists()


class RedderPaint(EditorResource):
    """Edits in a way of its own, as a test or a team's service would."""

    def editor(self, study: Study) -> Editor:
        return PaintEditor(study.folder, {"log": "own.log", "version": "own"})


def explain(definitions: dg.Definitions, stages: Sequence[str], home: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    keys = [dg.AssetKey(["toy", *stage.split("/")]) for stage in stages]
    return definitions.resolve_job_def("toy_explain").execute_in_process(instance=home, asset_selection=keys)


STAGES = ("sample_images", "vlm_corpus", "corpus", "level1_edits")


def test_a_resource_is_swapped_in_definitions_and_in_a_test(toy: Study, tmp_path: Path) -> None:
    mine = {"diffex_editor": RedderPaint(), "diffex_results": ResultsResource(folder=str(tmp_path / "mine"))}
    with dg.DagsterInstance.ephemeral() as home:
        assert explain(build_study(toy, resources=mine), STAGES, home).success
    assert not edits_made(toy.folder)
    assert (toy.folder / "own.log").read_text().count("\n") > 8
    assert (tmp_path / "mine" / "toy" / "diffex.duckdb").exists() and not toy.results_folder.exists()
    # Definitions with resources of their own bring them instead; several studies share the default ones.
    own = dg.Definitions.merge(build_study(toy, resources={}), dg.Definitions(resources={**RESOURCES, **mine}))
    dg.Definitions.validate_loadable(own)
    other = load_study(write_study(tmp_path / "other", 2, name="other"))
    dg.Definitions.validate_loadable(dg.Definitions.merge(build_study(toy), build_study(other)))


class Away(VLMResource):
    """A model whose server is down for so many calls, or a mistake of the user's."""

    passes: bool = True
    calls: int = 99

    def proposer(self, study: Study, store: Store) -> Proposer:
        file = study.folder / "calls.log"
        with file.open("a") as log:
            log.write("called\n")
        if len(file.read_text().splitlines()) > self.calls:
            return super().proposer(study, store)
        error = CorpusError("the server cannot be reached: start it")
        raise passing(error) if self.passes else error


@pytest.mark.parametrize(
    ("away", "tags", "calls", "succeeds"),
    [
        (Away(calls=2), {}, 3, True),
        (Away(), {}, 1 + common.RETRIES, False),
        (Away(passes=False), {}, 1, False),
        (Away(), {common.ONCE: "true"}, 1, False),  # somebody waits at the command line
    ],
    ids=["passes", "does not pass after all", "of the user", "at the command line"],
)
def test_what_may_pass_is_tried_again_and_what_the_user_did_is_not(
    toy: Study, monkeypatch: pytest.MonkeyPatch, away: Away, tags: dict[str, str], calls: int, succeeds: bool
) -> None:
    monkeypatch.setattr(common, "RETRY_AFTER", 0.0)
    job = build_study(toy, resources={"diffex_vlm": away}).resolve_job_def("toy_explain")
    keys = [dg.AssetKey(["toy", stage]) for stage in ("sample_images", "vlm_corpus")]
    with dg.DagsterInstance.ephemeral() as home:
        result = job.execute_in_process(instance=home, asset_selection=keys, tags=tags, raise_on_error=False)
    assert result.success == succeeds
    assert len((toy.folder / "calls.log").read_text().splitlines()) == calls
    if not succeeds:
        (failure,) = result.get_step_failure_events()
        assert failure.step_failure_data.user_failure_data.description == "the server cannot be reached: start it"


def test_what_may_pass_by_itself(toy: Study) -> None:
    """A server that is down and a locked database may; a wrong key, a wrong address and a wrong file may not."""
    held = build_store(toy)
    held.put_samples(toy.name, {"a": "a.png"})
    code = f"import duckdb; c = duckdb.connect({str(held.path)!r}); print('open', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout and child.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match="is locked by") as locked:
            Store(toy.results_folder, lock_timeout=0.1, reading=True).rows("SELECT 1")
        child.kill()
    assert may_pass(locked.value)

    client = Client(
        ServerOptions(model="a-model", base_url="http://127.0.0.1:9/v1", retries=0, timeout_s=1), MemoryCache()
    )
    with pytest.raises(CorpusError, match="cannot be reached") as away:
        client.ask(Request("", "what is there?"), Usage())
    assert may_pass(away.value)
    request = httpx.Request("POST", "http://127.0.0.1:9/v1")
    for status, passes in ((401, False), (404, False), (429, True), (500, True), (503, True)):
        answer = httpx.Response(status, request=request, json={"error": {"message": "no"}})
        assert may_pass(client.server.diagnosed(openai.APIStatusError("no", response=answer, body=None))) == passes, (
            status
        )
    with pytest.raises(ClassifierError, match="cannot be reached") as service:
        HttpClassifier(HttpPart(url="http://127.0.0.1:9/", labels=("a", "b"), retries=0, timeout_s=1))([picture(1)])
    assert may_pass(service.value)
    wrapped = StudyError("the study: the service is away")
    wrapped.__cause__ = service.value
    assert may_pass(wrapped) and not may_pass(StudyError("no such field"))


def test_a_code_location_shows_which_variables_place_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "studies" / "toy", 2)
    write_study(tmp_path / "studies" / "other", 2, name="other")
    for name, value in (("DIFFEX_RESULTS", str(tmp_path / "prod")), ("DIFFEX_BATCH_SIZE", "3")):
        monkeypatch.setenv(name, value)
    definitions = build_studies(tmp_path)
    results, editor = (definitions.resources[key] for key in ("diffex_results", "diffex_editor"))
    assert (results.folder.env_var_name, editor.batch_size.env_var_name) == ("DIFFEX_RESULTS", "DIFFEX_BATCH_SIZE")
    assert results.url is None and editor.device is None
    assert explain(definitions, STAGES, dg.DagsterInstance.ephemeral()).success
    assert (tmp_path / "prod" / "toy" / "diffex.duckdb").exists()


def test_dev_and_prod_of_one_study_file_have_the_same_versions_in_other_places(
    toy: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_study(toy.folder, images={"folder": "${TOY_DATA}/images", "size": 16})
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "images").symlink_to(toy.folder / "images")
    versions = {}
    for name, data in (("dev", toy.folder), ("prod", tmp_path / "bucket")):
        monkeypatch.setenv("TOY_DATA", str(data))
        monkeypatch.setenv("PLACE", str(tmp_path / name))
        definitions = build_study(
            load_study(file), resources={"diffex_results": ResultsResource(folder=dg.EnvVar("PLACE"))}
        )
        specs = {spec.key: spec.code_version for spec in definitions.resolve_all_asset_specs()}
        with dg.DagsterInstance.ephemeral() as home:
            result = explain(definitions, STAGES, home)
            made = {
                event.asset_key: event.materialization.tags["dagster/data_version"]
                for event in result.get_asset_materialization_events()
            }
        assert (tmp_path / name / "toy" / "diffex.duckdb").exists()
        versions[name] = specs, made
    assert versions["dev"] == versions["prod"] and len(versions["dev"][1]) == len(STAGES)
    assert not toy.results_folder.exists()


IN_A_PROJECT = """
import diffex_dagster, dagster as dg
from dagster.components.testing import create_defs_folder_sandbox
from tests.support.toys import write_study

with create_defs_folder_sandbox() as sandbox:
    path = sandbox.scaffold_component(component_cls=diffex_dagster.StudyComponent, defs_path="faces")
    write_study(path, 2, name="faces")
    with sandbox.build_all_defs() as definitions:
        dg.Definitions.validate_loadable(definitions)
        assert definitions.executor is dg.in_process_executor
        assert definitions.resolve_job_def("faces_explain").executor_def is dg.in_process_executor
        assert set(diffex_dagster.resources.RESOURCES) <= set(definitions.resources or {})
"""


def test_a_component_in_another_project_runs_in_one_process_and_warns_of_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", IN_A_PROJECT], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_dagster_home_is_made_or_refused_in_a_sentence(
    toy: Study, tmp_path: Path, diffex: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for written, folder in ((".dagster", ".dagster"), (str(tmp_path / "a" / "b"), "a/b"), ("~/home", "me/home")):
        monkeypatch.setenv("DAGSTER_HOME", written)
        assert home_folder(make=False) is None
        status, out, err = diffex("plan", toy.folder)
        assert status == 0, (out, err)  # looks, and makes nothing
        assert home_folder() == tmp_path / folder
        assert "default_limit: 1" in (tmp_path / folder / "dagster.yaml").read_text()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dagster.yaml").write_text("storage: {nothing: like this}")
    for written, said in (("file", "cannot be used as a folder"), ("file/below", "cannot be used as a folder")):
        monkeypatch.setenv("DAGSTER_HOME", written)
        status, _, err = diffex("run", toy.folder)
        assert status == 1 and err.startswith("error: DAGSTER_HOME: ") and said in err and "Traceback" not in err
        assert diffex("plan", toy.folder)[0] == 1
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "broken"))
    status, _, err = diffex("run", toy.folder)
    assert status == 1 and "cannot be opened" in err and "correct its dagster.yaml" in err


def test_the_shipped_settings_are_those_of_this_checkout() -> None:
    shipped = ROOT / "diffex_dagster" / "resources" / "dagster.yaml"
    assert shipped.read_text() == (ROOT / ".dagster" / "dagster.yaml").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_with_one_line_and_130_and_loses_nothing(tmp_path: Path) -> None:
    paint = {"kind": "python", "factory": "tests.support.toys:PaintEditor", "options": {"pause": 0.5, "batch": 2}}
    write_study(tmp_path / "toy", 8, editors={"paint": paint})
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "CI": "1"}
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffex_dagster", "run", str(tmp_path / "toy")],
            env=environment, cwd=ROOT, stdout=out, stderr=out, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        end = time.monotonic() + 300
        while len(edits_made(tmp_path / "toy")) < 8 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
        status = process.wait(200)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    text = (tmp_path / "out").read_text()
    assert status == 130, text
    assert "Traceback" not in text, text
    assert text.strip().endswith("interrupted: what was finished is kept; the same command goes on from there"), text
