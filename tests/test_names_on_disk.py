"""Names that become files and folders: no two of them may be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffex_dagster.errors import StudyError
from diffex_dagster.stages.setup import reports_folder
from diffex_dagster.study import load_study
from tests.support.toys import write_study

WARM = {"kind": "python", "factory": "tests.support.toys:WarmClassifier"}
PAINT = {"kind": "python", "factory": "tests.support.toys:PaintEditor"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classifiers": {"comparison": WARM, "v2": WARM}}, "'comparison': its report would lie where the comparison"),
        ({"classifiers": {"Comparison": WARM}}, "'Comparison': its report would lie where"),
        ({"classifiers": {"Level1_Edits": WARM}}, "'Level1_Edits': that is the name of a stage"),
        ({"classifiers": {"v1": WARM, "V1": WARM}}, "'v1' and 'V1' differ in capital letters only"),
        ({"editors": {"paint": PAINT, "Paint": PAINT}}, "'paint' and 'Paint' differ in capital letters only"),
        ({"classifiers": {"nul": WARM}}, "'nul' is the name of a device on Windows"),
        ({"name": "COM1"}, "'COM1' is the name of a device on Windows"),
    ],
)
def test_names_that_would_share_a_folder_are_refused(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(StudyError) as refused:
        load_study(write_study(tmp_path, 1, **fields))
    assert message in str(refused.value) and "study.yaml" in str(refused.value)


def test_the_reports_of_studies_with_one_results_folder_are_apart(tmp_path: Path) -> None:
    studies = [load_study(write_study(tmp_path / name, 1, name=name, results="../shared")) for name in ("a", "b")]
    folders = [reports_folder(study, name) for study in studies for name in ("v1", "v2", "comparison")]
    assert len(set(folders)) == 6 and all(folder.is_relative_to(tmp_path / "shared/reports") for folder in folders)


def test_the_reports_of_study_files_in_one_folder_are_apart(tmp_path: Path) -> None:
    file = write_study(tmp_path, 1, name="a")
    other = write_study(tmp_path, 1, name="b").rename(tmp_path / "b.yaml")
    write_study(tmp_path, 1, name="a")
    assert reports_folder(load_study(other), "v1") == tmp_path / "results/reports/b/v1"
    assert reports_folder(load_study(file), "v1") == tmp_path / "results/reports/v1"


def test_the_reports_of_editors_and_classifiers_are_apart(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, 1, editors={"a": PAINT, "b": PAINT}, classifiers={"v": WARM, "v_b": WARM}))
    folders = {
        reports_folder(arm, name) for arm in (study, study.with_editor("b")) for name in ("v", "v_b", "comparison")
    }
    assert len(folders) == 6


def test_every_class_of_several_has_a_report_however_alike_their_names(tmp_path: Path) -> None:
    labels = ["warm", "Warm", "w arm", "w-arm", "日本", "中国"]
    part = {"kind": "python", "factory": "tests.support.toys:WarmClassifier"}
    study = load_study(write_study(tmp_path, 1, classifiers={"v": part}, target={"label": labels}))
    targets = {name: study.for_classifier(name).target.label for name in study.classifiers}
    assert sorted(targets.values()) == sorted(labels) and len({name.lower() for name in targets}) == len(labels)
