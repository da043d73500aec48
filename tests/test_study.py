"""Study files: what is accepted, and the sentence that a mistake gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.errors import StudyError
from diffex_dagster.study import Study, find_study, load_study
from tests.toys import write_study

ROOT = Path(__file__).parent.parent


def test_the_shipped_study_is_valid_and_knows_its_files() -> None:
    study = load_study(ROOT / "studies" / "avatars")
    assert study.name == "avatars"
    assert study.path(study.corpus.edits).exists()
    assert study.prefix == "avatars"
    assert study.with_editor("exact").prefix == "avatars_exact"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nmae": "x"}, r"nmae: there is no such field; did you mean 'name'\?"),
        ({"domain": None}, r"domain: .*string"),
        ({"name": "my study"}, r"name: .*pattern"),
        ({"target": {"label": "warm", "measure": "margin"}}, r"target: a margin needs 'against'"),
        ({"target": {"measure": "logit"}}, r"target\.label: the field is missing; add it"),
        ({"images": {"folder": "images", "size": 4}}, r"images\.size: .*16"),
        ({"images": {"folder": "images", "sise": 64}}, r"images\.sise: .*did you mean 'size'"),
        ({"search": {"beam": 0}}, r"search\.beam: .*1"),
        ({"search": {"gate": "loud"}}, r"search\.gate: .*'magnitude' or 'signed'"),
        ({"effects": {"margin": -1}}, r"effects\.margin: .*greater than 0"),
        ({"editors": {}}, r"editors: .*at least 1"),
        ({"editors": {"e": {"checkpoint": "x"}}}, r"editors\.e: 'kind' is missing"),
        ({"editors": {"e": {"kind": "magic"}}}, r"editors\.e: .*'ledits', 'python'"),
        ({"editors": {"e": {"kind": "ledits", "checkpoint": "x", "steps": 0}}}, r"editors\.e\.ledits\.steps"),
        ({"editor": "other"}, r"editor 'other' is not one of editors \(paint\)"),
        ({"classifiers": {"corpus": {"kind": "transformers", "checkpoint": "x"}}}, r"that is the name of a stage"),
        ({"classifiers": {"v1": {"kind": "python", "factory": "no colon"}}}, r"classifiers\.v1\.python\.factory"),
        (
            {"corpus": {"vlm": {"kind": "recorded", "file": "a"}, "starter": "face"}},
            r"name a vlm or a starter, not both",
        ),
    ],
)
def test_a_mistake_names_file_field_and_remedy(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    file = write_study(tmp_path, **changes)
    with pytest.raises(StudyError, match=sentence) as caught:
        load_study(file)
    assert str(file) in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study file"):
        load_study(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("name: [unclosed")
    with pytest.raises(StudyError, match=r"not valid YAML.*line 1"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text("just words")
    with pytest.raises(StudyError, match="has no fields"):
        load_study(tmp_path)


def test_an_unknown_study_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="one of avatars"):
        find_study("birds", ROOT)


def test_a_checkpoint_is_a_folder_beside_the_study_or_a_hub_id(toy: Study) -> None:
    assert (
        toy.checkpoint("stable-diffusion-v1-5/stable-diffusion-v1-5") == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    assert toy.checkpoint("images") == str(toy.folder / "images")
    # "images" is a folder here, so a missing "images/v2" is a missing folder, not somebody's hub repository.
    assert toy.checkpoint("images/v2") == str(toy.folder / "images" / "v2")
    assert toy.checkpoint("./missing") == str(toy.folder / "missing")
