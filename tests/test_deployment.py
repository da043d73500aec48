"""One study file in several deployments: variables in the file, the environment, and what enters no version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.deployment import VARIABLES, Deployment
from diffex_dagster.errors import DiffExError, EditorError, StudyError
from diffex_dagster.stages.settings import STAGES, stage_version
from diffex_dagster.stages.setup import (
    build_classifier,
    build_store,
    reports_folder,
)
from diffex_dagster.study import Study, load_study
from diffex_dagster.study.building import placed_editor, placed_vlm
from diffex_dagster.utils.variables import UnsetVariable, as_written, resolve
from tests.support.project import Run
from tests.support.toys import picture, write_study

ENVIRONMENT = {"DATA": "/data/faces", "EMPTY": "", "N": "4"}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("${DATA}", "/data/faces"),
        ("${DATA}/images", "/data/faces/images"),
        ("${DATA}-${N}", "/data/faces-4"),
        ("${NOWHERE:-/home}/x", "/home/x"),
        ("${EMPTY:-full}", "full"),
        ("${EMPTY:-}", ""),
        ("$${DATA}", "${DATA}"),
        ("a $5 price", "a $5 price"),
    ],
)
def test_a_variable_is_replaced_by_its_value(written: str, found: str) -> None:
    assert resolve({"a": [{"b": written}], "c": 1}, ENVIRONMENT)[0] == {"a": [{"b": found}], "c": 1}


@pytest.mark.parametrize("written", ["${NOWHERE}", "${EMPTY}", "${}", "${A B}", "${DATA", "${DATA-x}"])
def test_a_variable_without_a_value_is_refused_and_never_a_folder_of_that_name(written: str) -> None:
    with pytest.raises(UnsetVariable) as refused:
        resolve({"images": {"folder": written}}, ENVIRONMENT)
    assert refused.value.place == ("images", "folder")


def test_a_study_says_at_which_line_a_variable_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path, 2, results="${TOY_RESULTS}")
    line = 1 + file.read_text().splitlines().index("results: ${TOY_RESULTS}")
    monkeypatch.delenv("TOY_RESULTS", raising=False)
    with pytest.raises(StudyError, match=f"line {line}: results: the environment variable TOY_RESULTS is not set"):
        load_study(file)
    assert not list(tmp_path.glob("*{*"))
    monkeypatch.setenv("TOY_RESULTS", str(tmp_path / "elsewhere"))
    assert load_study(file).results_folder == tmp_path / "elsewhere"


def test_a_place_enters_no_version_and_what_is_asked_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"folder": "${TOY_DATA}/images", "size": 16}
    file = write_study(tmp_path, 2, images=images, domain="${TOY_DOMAIN}")

    def said(data: str, domain: str, *fields: str) -> dict[str, Any]:
        monkeypatch.setenv("TOY_DATA", data)
        monkeypatch.setenv("TOY_DOMAIN", domain)
        return load_study(file).settings(*fields)

    assert said("/dev", "squares", "images") == said("/prod/", "squares", "images")
    assert said("/dev", "squares", "domain") != said("/dev", "circles", "domain")
    # What somebody's own code reads may change anything.
    assert as_written({"options": {"folder": "/dev"}, "folder": "/dev"}, {"/dev": "${D}"}) == {
        "options": {"folder": "/dev"},
        "folder": "${D}",
    }


def test_the_environment_places_a_study_and_changes_no_version(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "DIFFEX_DEVICE": "cuda:1", "DIFFEX_DTYPE": "float16", "DIFFEX_BATCH_SIZE": "4", "DIFFEX_RESULTS": "/team",
        "DIFFEX_PICTURES": "/shared", "DIFFEX_RESULTS_URL": "https://reports.example.org", "DIFFEX_VLM_URL": "http://v",
        "DIFFEX_VLM_KEY_ENV": "V_KEY", "DIFFEX_CLASSIFIER_DEVICE": "cpu", "DIFFEX_SPACE": "alice",
        "DIFFEX_WORKERS": "3", "DIFFEX_DATABASE": "postgresql://db/results",
    }  # fmt: skip
    assert set(values) == set(VARIABLES)
    editors = {"sd": {"kind": "ledits", "checkpoint": "owner/name", "device": "cpu"}}
    corpus = {"vlm": {"kind": "openai", "model": "m", "key_env": "OWN_KEY"}}
    file = write_study(toy.folder, editors=editors, corpus=corpus)

    def versions(study: Study) -> dict[str, str]:
        return {stage: stage_version(study, stage) for stage in STAGES}

    before, said = versions(load_study(file)), load_study(file).settings(*Study.model_fields)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    study = load_study(file)
    assert versions(study) == before and study.settings(*Study.model_fields) == said
    assert (study.results_folder, study.pictures_place) == (
        Path("/team/toy"),
        Path("/shared"),
    )  # a database is of all studies
    assert reports_folder(study, "v1").is_relative_to("/team/toy/reports/alice")
    assert study.kept_as == "alice/toy" and study.crew is not None and study.crew.count == 3
    part = placed_editor(study)
    assert (part.device, part.dtype, part.batch_size) == ("cuda:1", "float16", 4)  # type: ignore[union-attr]
    vlm = placed_vlm(study)
    assert (vlm.base_url, vlm.key_env) == ("http://v", "V_KEY")  # type: ignore[union-attr]
    # A key that was named for one server is not sent to another.
    monkeypatch.delenv("DIFFEX_VLM_KEY_ENV")
    assert placed_vlm(load_study(file)).key_env is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DIFFEX_RESULTS", "results"),
        ("DIFFEX_DTYPE", "float8"),
        ("DIFFEX_BATCH_SIZE", "many"),
        ("DIFFEX_BATCH_SIZE", "0"),
        ("DIFFEX_VLM_URL", "localhost"),
    ],
)
def test_a_value_that_cannot_be_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(DiffExError, match=f"^{variable}: .*{value}"):
        Deployment.from_environment({variable: value})


def test_an_option_that_does_not_go_with_the_deployment_is_one_sentence(toy: Study) -> None:
    editors = {"sd": {"kind": "ledits", "checkpoint": "owner/name", "attention": "xformers"}}
    study = load_study(write_study(toy.folder, editors=editors)).deployed(editor={"device": "cpu"})
    with pytest.raises(EditorError, match=r"editors\.sd, with .*cpu.* from the deployment: attention: xformers needs"):
        placed_editor(study)


def test_pictures_may_be_on_another_disk(toy: Study, tmp_path: Path) -> None:
    study = toy.deployed(results={"folder": str(tmp_path / "local"), "pictures": str(tmp_path / "shared")})
    store = build_store(study)
    relative = store.pictures.put(picture(100))
    assert (tmp_path / "shared" / "toy" / relative).exists()
    store.query("SELECT 1")
    assert (tmp_path / "local" / "toy" / "diffex.duckdb").exists()


@pytest.mark.duckdb_file
def test_what_a_team_writes_into_a_folder_has_the_rights_that_their_umask_leaves(toy: Study, diffex: Run) -> None:
    """Pictures, database, locks, reports, pages, exported rows; with 002 a group may read and replace all."""
    before = os.umask(0o002)
    try:
        assert diffex("run", toy.file, "--classifier", "v1")[0] == 0
        assert diffex("export", toy.file, toy.results_folder / "rows.duckdb")[0] == 0
    finally:
        os.umask(before)
    written = list(toy.results_folder.rglob("*"))
    kinds = {each.suffix for each in written}
    assert {".png", ".duckdb", ".lock", ".html", ".json", ".csv"} <= kinds
    rights = {(each.is_dir(), oct(each.stat().st_mode & 0o777)) for each in (toy.results_folder, *written)}
    assert rights == {(True, "0o775"), (False, "0o664")}


def test_a_service_is_one_classifier_wherever_it_is_served(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def service(version: str, url: str = "http://a:1/score", **urls: str) -> Classifier:
        part = {"kind": "http", "url": url, "labels": ["cold", "warm"], "version": version}
        study = load_study(write_study(toy.folder, classifiers={"v1": part}))
        return build_classifier(study.deployed(classifiers={"urls": urls}), "v1")

    assert service("7", v1="http://b:2/score").url == "http://b:2/score"  # type: ignore[attr-defined]
    assert service("7").fingerprint == service("7", v1="http://b:2/score").fingerprint
    assert service("7").fingerprint != service("8", v1="http://b:2/score").fingerprint
    assert service("").fingerprint != service("", v1="http://b:2/score").fingerprint  # nothing says it is the same
    monkeypatch.setenv("SERVING", "http://a:1")
    dev = service("7", "${SERVING}/score").fingerprint
    monkeypatch.setenv("SERVING", "http://b:2")
    assert service("7", "${SERVING}/score").fingerprint == dev
