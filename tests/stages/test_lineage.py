"""What a study reads that no stage makes: every change of it changes its version, and nothing else does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from diffex_dagster.corpus.wording import RULES
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.settings import REVISIONS, STAGES, as_hashed, stage_settings, stage_version
from diffex_dagster.stages.setup import build_classifier, build_editor, build_store
from diffex_dagster.stages.sources import Sources
from diffex_dagster.study import Study, load_study
from diffex_dagster.study.sections import ResultsPart
from tests.support import defaults
from tests.support.toys import picture, write_study

OWN = """from tests.support.toys import PaintEditor, WarmClassifier

import words


def editor(folder, options):
    return PaintEditor(folder, options)


def classifier(folder, options):
    return WarmClassifier(folder, options)
"""
FUNCTION = "def warmth(outputs, labels):\n    return outputs[:, 1]\n"


def sources(study: Study) -> dict[str, str]:
    known = Sources(StudyContext(study), tuple(study.classifiers))
    return {name: known.version(name) for name in known.names}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """The toy study with an editor, a classifier and a target measure of its own."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "words.py").write_text("WORDS = 1\n")
    (tmp_path / "measures.py").write_text(FUNCTION)
    return load_study(
        write_study(
            tmp_path,
            editors={"paint": {"kind": "python", "factory": "own:editor"}},
            classifiers={
                "v1": {"kind": "python", "factory": "own:classifier"},
                "v2": {"kind": "python", "factory": "tests.support.toys:WarmClassifier"},
            },
            target={"label": "warm", "measure": "function", "function": "measures:warmth"},
        )
    )


def test_an_unchanged_study_has_unchanged_sources(study: Study) -> None:
    before = sources(study)
    for file in (study.folder / "images").iterdir():
        os.utime(file)  # written again, the same
    assert changed(before, sources(load_study(study.file))) == set()


def test_images_are_known_by_what_they_show_and_their_names(study: Study) -> None:
    before, file = sources(study), study.folder / "images" / "00.png"
    picture(7).save(study.folder / "images" / "new.png")
    added = sources(study)
    assert changed(before, added) == {"image_files"}
    (study.folder / "images" / "new.png").unlink()
    assert changed(before, sources(study)) == set()  # as before, whatever was there meanwhile
    file.rename(file.with_name("renamed.png"))
    assert changed(before, sources(study)) == {"image_files"}


@pytest.mark.parametrize(
    ("file", "text", "touched"),
    [
        ("own.py", OWN + "\nMORE = 1\n", {"editor", "v1/classifier"}),
        ("words.py", "WORDS = 2\n", {"editor", "v1/classifier"}),
        ("measures.py", FUNCTION.replace("1]", "1] * 2"), {"v1/classifier", "v2/classifier"}),
        ("proposal.json", '{"Red": ["ruby patch"]}', {"proposal_inputs"}),
        ("corpus.yaml", "remove: [Light]\n", {"corpus_overrides"}),
    ],
    ids=["own module", "what it imports", "target function", "recorded proposal", "corpus file"],
)
def test_a_file_changes_the_sources_that_read_it(study: Study, file: str, text: str, touched: set[str]) -> None:
    before = sources(study)
    kept = (study.folder / file).read_text()
    (study.folder / file).write_text(text)
    assert changed(before, sources(study)) == touched
    (study.folder / file).write_text(kept)
    assert changed(before, sources(study)) == set()


def test_what_own_code_made_works_as_itself_under_a_fingerprint_that_covers_its_code(study: Study) -> None:
    from tests.support.toys import PaintEditor, WarmClassifier

    editor, classifier = build_editor(study), build_classifier(study, "v1")
    assert isinstance(editor, PaintEditor) and isinstance(classifier, WarmClassifier)
    assert editor.fingerprint != PaintEditor(study.folder, {}).fingerprint
    ((_, made),) = next(iter(editor.edit({"a": picture(90)}, [EditRequest("a")])))
    assert classifier([made]).shape == (1, 2) and classifier.labels == ("cold", "warm")
    assert build_classifier(study, "v2").fingerprint == "warm-3.0-2.0"  # of an installed module: its own word


@pytest.mark.duckdb_file
def test_a_database_is_known_wherever_it_is_moved_and_a_new_one_is_another(study: Study) -> None:
    assert sources(study)["results"] == "none"
    store = build_store(study)
    store.put_samples(study.name, {"a": "a.png"})
    first = sources(study)["results"]
    shutil.move(study.results_folder, study.folder / "moved")
    assert sources(study)["results"] == "none"
    assert sources(study.changed(results=ResultsPart(folder=Path("moved"))))["results"] == first
    build_store(study).put_samples(study.name, {"a": "a.png"})
    assert sources(study)["results"] not in (first, "none")


def test_settings_are_narrow(toy: Study) -> None:
    def touches(**changes: object) -> set[str]:
        other = load_study(write_study(toy.folder, **changes))
        stages = ("sample_images", "vlm_corpus", "corpus", "level1_edits", "level1_scores", "level2_scores",
                  "ranked_report", "classifier_comparison")  # fmt: skip
        return {stage for stage in stages if stage_version(other, stage) != stage_version(toy, stage)}

    pages = {"ranked_report", "classifier_comparison"}
    controls = {"control_prompts": ["flornip"]}
    assert touches(effects=controls | {"margin": 0.1}) == pages
    scored = {"level1_scores", "level2_scores"}  # the gate, and which edits are made the other way
    assert touches(effects=controls | {"level": 0.1}) == scored | pages
    assert touches(title="Another") == pages
    assert touches(owners=["team:vision"], results="elsewhere") == set()
    assert touches(report={"gradcam": 0}) == {"ranked_report"}
    assert touches(search={"joint_size": 2}) == {"level2_scores", *pages}
    assert touches(search={"beam": 1}) == {"level1_scores", "level2_scores", *pages}
    assert touches(effects={"control_prompts": ["quib"]}) == {"level1_edits", "level1_scores", "level2_scores", *pages}
    assert touches(domain="squares") == {"vlm_corpus", "ranked_report"}
    assert touches(images={"folder": "images", "size": 32}) == {"sample_images"}
    assert "sample_images" not in touches(seed=1)  # nothing is drawn at random
    assert touches(effects=controls | {"level": 0.05}) == set()  # as the default


def test_control_prompts_by_default_are_others_than_before(toy: Study) -> None:
    """A study that names none was made with two words; those that name these two stay up to date."""
    named = as_hashed(stage_settings(toy, "level1_edits"))
    assert named["effects.nonsense"] == ["flornip"]
    two, three = (
        as_hashed(stage_settings(load_study(write_study(toy.folder, effects=effects)), "level1_edits"))
        for effects in ({"control_prompts": ["flornip", "quazzle vint"]}, {})
    )
    assert "effects.nonsense" not in two and len(three["effects.nonsense"]) == 3


def test_what_a_stage_comes_to_make_of_the_same_settings_is_out_of_date(
    toy: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {stage: stage_version(toy, stage) for stage in STAGES}
    for stage in STAGES:
        with monkeypatch.context() as changed:
            changed.setitem(REVISIONS, stage, REVISIONS.get(stage, {}) | {"revision": 9})  # type: ignore[arg-type]
            assert {s for s in STAGES if stage_version(toy, s) != before[s]} == {stage}
    assert REVISIONS["corpus"] == REVISIONS["vlm_corpus"] == {"rules": RULES}


def test_a_default_that_changes_is_a_new_revision_of_what_it_decides() -> None:
    """Where it is meant: `REVISIONS` or `_IN_FULL` in `stages.settings`, then `python -m tests.support.defaults`."""
    assert defaults.described() == defaults.FILE.read_text("utf-8")


def test_the_kind_of_a_part_is_a_setting_and_an_unknown_stage_an_error(toy: Study) -> None:
    vlm = {"kind": "openai", "model": "a-model", "retries": 1}
    asked = load_study(write_study(toy.folder, corpus={"vlm": vlm}))
    settings = stage_settings(asked, "vlm_corpus")
    assert settings["corpus.vlm.openai.model"] == "a-model" and "corpus.vlm.openai.retries" not in settings
    with pytest.raises(ValueError, match="there is no stage 'level3_scores'"):
        stage_settings(toy, "level3_scores")  # type: ignore[arg-type]
