"""The words of the corpus that pictures are described in: which they are, when they are found, and when not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.assets.running import explain_study, prepare_study
from diffex_dagster.cli import calibrate as calibrate_command
from diffex_dagster.cli import source_prompts as command
from diffex_dagster.corpus.starters import load_starter
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.answers import read_answer, tree_from_raw
from diffex_dagster.corpus.vlm.raw import RawFeature
from diffex_dagster.corpus.vlm.recorded import RecordedVLM
from diffex_dagster.editing.calibration import Wanted
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.editing.vocabulary import VocabularyGroup, prompt_without, words_of
from diffex_dagster.errors import DiffExError, StoreError, StudyError
from diffex_dagster.stages import source_prompts as stage
from diffex_dagster.stages.calibration import budget_of, calibrate, study_edits, wanted_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.plan import PlannedStage, plan_edits
from diffex_dagster.stages.settings import Stage, stage_version
from diffex_dagster.stages.source_prompts import (
    find_again,
    find_source_prompts,
    most_tries,
    source_prompts_version,
)
from diffex_dagster.stages.tried_first import tried_first
from diffex_dagster.stages.trying import Trying
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent
from diffex_dagster.workers.bench import Bench
from diffex_dagster.workers.remote import on_workers
from tests.support.calibrating import set_up
from tests.support.project import ROOT
from tests.support.toys import PaintEditor, SourcePromptEditor, edits_made, picture, write_study


def words(prompt: str) -> int:
    return len(prompt.split())


def tree(*groups: RawFeature) -> Corpus:
    return tree_from_raw(list(groups))


def test_the_words_are_the_groups_whose_children_exclude_each_other() -> None:
    corpus = tree_from_raw(read_answer((ROOT / "studies" / "avatars" / "proposal.json").read_text("utf-8")))
    found, left_out = words_of(corpus, words, 1000)
    assert list(found) == sorted(group.id for group in corpus.groups if group.id != "jewellery-and-marks")
    turned, _ = words_of(replace(corpus, groups=corpus.groups[::-1]), words, 1000)
    assert list(turned.items()) == list(found.items())  # a picture's description reads the same
    assert left_out == {"jewellery-and-marks": "a picture may show several of its children"}
    eyewear = found["eyewear"]
    assert eyewear.words[0] == "round glasses" and eyewear.optional and eyewear.covers("eyewear", "an eyepatch")
    assert "facial hair" not in found["beard"].words  # what a feature takes away is no word for a picture
    shown = (("beard", "a light beard"), ("hair-colour", "red hair"))
    assert prompt_without("facial hair", shown, found) == "red hair"  # it takes away what is shown of its group
    tokens = {word: 3 for group in found.values() for word in group.words}
    left_out = words_of(corpus, lambda prompt: tokens.get(prompt, 4), 38)[1]
    assert list(left_out) == ["jewellery-and-marks"]  # a model that reads little is told of every part of the picture
    assert not found["hair-colour"].kinds  # a heading is no edit


def test_of_deeper_trees_the_finest_words_that_exclude_each_other() -> None:
    hats: RawFeature = {
        "name": "hats",
        "prompt": "a hat",
        "exclusive": True,
        "children": [{"name": "a fez"}, {"name": "a top hat"}],
    }
    scarves: RawFeature = {
        "name": "scarves",
        "prompt": "a scarf",
        "exclusive": False,
        "children": [{"name": "a red scarf"}, {"name": "a blue scarf"}],
    }
    found, _ = words_of(
        tree({"name": "Worn", "editable": False, "exclusive": True, "children": [hats, scarves, {"name": "a mask"}]}),
        words,
        100,
    )
    assert found["worn"].words == ("a fez", "a top hat", "a scarf", "a mask")
    assert found["worn"].kinds == {"a hat": ("a fez", "a top hat")}
    found, left_out = words_of(
        tree({"name": "Worn", "editable": False, "exclusive": False, "children": [hats, scarves]}), words, 100
    )
    assert list(found) == ["worn/hats"] and set(left_out) == {"worn", "worn/scarves"}
    twice, left_out = words_of(
        tree(
            {"name": "A", "exclusive": True, "children": [hats, {"name": "a cap"}]},
            {"name": "B", "exclusive": True, "children": [{"name": "a fez"}, {"name": "a bow"}]},
        ),
        words,
        100,
    )
    assert list(twice) == ["a"] and left_out == {"b": "too few words"}  # a word belongs to one group


def test_short_of_tokens_what_most_answers_named_stays() -> None:
    def group(name: str, support: int, longest: str) -> RawFeature:
        children: list[RawFeature] = [{"name": f"{name} {longest}"}, {"name": f"{name} x"}]
        return {"name": name, "exclusive": True, "support": support, "editable": False, "children": children}

    corpus = tree(group("a", 1, "of two"), group("b", 3, "of two words"), group("c", 3, "x y"))
    assert list(words_of(corpus, words, 100)[0]) == ["a", "b", "c"]
    found, left_out = words_of(corpus, words, 8)  # the longest prompt takes 4; by half and with a comma b 2, c 1.75
    assert list(found) == ["b", "c"] and "8 tokens" in left_out["a"]
    assert list(words_of(corpus, words, 8, controls=["quite a long control prompt too"])[0]) == ["b"]
    assert list(words_of(load_starter("face"), words, 0)[0]) == []


@pytest.fixture(autouse=True)
def takes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only LEDITS++ describes pictures: here an editor does that paints."""
    monkeypatch.setattr(Study, "finds_source_prompts", True)


def study_in(folder: Path, plain: float, described: float, calibrates: bool | None = True, images: int = 8) -> Study:
    editor = {
        "kind": "python", "factory": "tests.support.toys:SourcePromptEditor",
        "options": {"plain": plain, "described": described},
    }  # fmt: skip
    changes = {"editors": {"paint": editor}, "calibrate": calibrates, "calibration": {"budget": 1.0}}
    return load_study(write_study(folder, images, **changes))


def test_words_are_frozen_at_the_first_run_and_every_edit_is_made_with_them(tmp_path: Path) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0, images=24)
    work = set_up(study)
    with pytest.raises(StoreError, match="materialize source_prompts first"):
        source_prompts_version(study, work.store, work.bare_editor.fingerprint)
    first = find_source_prompts(work)
    assert first.prompts.used and list(first.prompts.words) == ["blue"] and first.edits.made > 0
    assert "with the words and" in first.prompts.why
    work = work.changed()
    assert work.editor.fingerprint != work.bare_editor.fingerprint
    found = calibrate(work)
    assert 0 < found.edits.made + first.edits.made <= found.budget / 0.8 + 2 * 6  # the study needs null edits anyway
    level1_edits(work)
    assert work.store.count("edits", editor=work.editor.fingerprint) > work.store.count("edits", editor="knob-1") > 0
    made = edits_made(tmp_path)
    again = find_source_prompts(work)
    assert (again.edits.made, again.version, again.newer) == (0, first.version, []) and edits_made(tmp_path) == made
    planned = {stage.stage: stage for stage in plan_edits(work, [])}
    assert planned["level1_edits"].edits_missing == 0


def test_words_that_do_harm_are_not_used(tmp_path: Path) -> None:
    work = set_up(study_in(tmp_path, plain=0.0, described=0.6, images=24))
    found = find_source_prompts(work)
    assert found.prompts.used is False and list(found.prompts.words) == ["blue"] and found.edits.made > 0
    work = work.changed()
    assert work.editor.fingerprint == work.bare_editor.fingerprint and find_source_prompts(work).edits.made == 0
    other = find_source_prompts(set_up(study_in(tmp_path / "other", plain=0.0, described=0.6, calibrates=False)))
    assert other.prompts.used and "calibrate: false" in other.prompts.why and not other.edits.made
    few = set_up(study_in(tmp_path / "few", plain=0.0, described=0.6, images=2))
    assert "are too few" in find_source_prompts(few).prompts.why


@pytest.mark.parametrize("described", [0.0, 0.6])
def test_options_that_the_study_names_are_those_that_words_are_tried_under(tmp_path: Path, described: float) -> None:
    """A study that tunes its editor is not calibrated; its words are compared all the same, in its own edits."""
    work = set_up(study_in(tmp_path, plain=0.3, described=described, calibrates=None, images=24))
    assert not work.study.calibrates
    most = stage.most_tries(work.study, work.corpus, 24)
    assert f"at most {most} edits to see whether the words" in tried_first(work)
    found = find_source_prompts(work)
    assert found.prompts.used is (described == 0.0) and "8 pairs" in found.prompts.why
    made = found.edits.made
    assert 0 < made <= most + 2 * 6
    level1_edits(work.changed())
    again = [each for each in edits_made(tmp_path) if edits_made(tmp_path).count(each) > 2]
    assert not again  # each edit was made once by either editor, and no more


@pytest.mark.parametrize(
    ("edits", "sized"),
    [(36, (3, 8, 4)), (25, (2, 8, 4)), (12, (2, 4, 2)), (10, (2, 3, 2)), (9, (1, 6, 3)), (4, (0, 0, 0))],
)
def test_a_second_setting_comes_before_more_pairs_and_a_third_after(edits: int, sized: tuple[int, int, int]) -> None:
    arms, pairs, controls = stage._size(["a", "b", "c"], edits, 100)
    assert (len(arms), pairs, controls) == sized
    assert len(arms) * (pairs + controls) <= edits


def test_edits_that_were_made_without_words_stay_valid(tmp_path: Path) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0, calibrates=False)
    work = set_up(study)
    level1_edits(work)
    made = edits_made(tmp_path)
    found = find_source_prompts(work)
    assert not found.prompts.used and "stay valid" in found.prompts.why
    level1_edits(work.changed())
    assert edits_made(tmp_path) == made


def test_a_run_finds_them_once_and_an_edited_corpus_makes_no_edit_anew(tmp_path: Path) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0, calibrates=False, images=4)
    first = prepare_study(study, "level1_edits", silent)
    assert first.metadata["source_prompts"]["used"] and first.metadata["level1_edits"]["edits_made"] > 0
    (tmp_path / "corpus.yaml").write_text(
        "add:\n  - {name: Green, exclusive: true, editable: false, children: [light green, dark green]}\n"
    )
    before = edits_made(tmp_path)
    second = prepare_study(study, "level1_edits", silent)
    new = edits_made(tmp_path)[len(before) :]
    assert new and {prompt for _, prompts in new for prompt in prompts if len(prompts) == 1} <= {
        "light green",
        "dark green",
    }
    assert "(green)" in second.metadata["source_prompts"]["newer"]

    said: list[str] = []
    assert list(command.make(study, silent).words) == ["blue"] and not said
    found = command.make(study, silent, said.append, again=True)
    assert list(found.words) == ["blue", "green"] and found.used and "a run makes anew" in said[0]
    assert said[1].startswith("no edits are to be tried: the words are not compared")  # nothing is calibrated
    before = edits_made(tmp_path)
    prepare_study(study, "level1_edits", silent)
    assert len(edits_made(tmp_path)) - len(before) > len(new)


def test_words_are_found_again_in_a_calibrated_study(tmp_path: Path) -> None:
    """Without words before: both editors are tried on the same pairs, though one of them is calibrated already."""
    study = study_in(tmp_path, plain=0.3, described=0.0, images=24)
    work = set_up(study)
    calibrate(work.editing_with(work.bare_editor))
    assert find_source_prompts(work).prompts.used is False
    for words_before in (False, True):
        calibrate(work.changed())
        find_again(work)
        found = find_source_prompts(work.changed())
        assert found.prompts.used and found.prompts.why.startswith("edits on 6 pairs"), words_before
        assert "nan" not in found.prompts.why


def test_both_editors_are_tried_on_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their null edits may differ, and with them the images that show a prompt least."""

    def least_shown(self: Trying, new: Sequence[Wanted]) -> dict[Wanted, list[str]]:
        order = -1 if self.work.editor.words else 1  # type: ignore[attr-defined]
        return {wanted: list(self._images)[::order] for wanted in new}

    monkeypatch.setattr(Trying, "_least_shown", least_shown)
    found = find_source_prompts(set_up(study_in(tmp_path, plain=0.0, described=0.0, images=24)))
    assert found.prompts.why.startswith("edits on 6 pairs")


def test_nothing_is_compared_where_every_prompt_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = set_up(study_in(tmp_path, plain=0.0, described=0.6, images=24))
    prompts = {feature.prompt: "" for feature in work.corpus.walk()}
    monkeypatch.setattr(Study, "pinned", prompts)
    found = find_source_prompts(work)
    assert found.prompts.used and "0 prompts to try on" in found.prompts.why and not found.edits.made


def test_another_study_s_edits_are_no_reason_to_do_without_words(tmp_path: Path) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0, images=24)
    first = find_source_prompts(set_up(study))
    other = study.model_copy(update={"name": "another"})
    set_up(other)
    second = find_source_prompts(StudyContext(other))
    assert (second.prompts, second.edits.made) == (first.prompts, 0)  # the same answer, from the same edits


def test_words_hold_until_others_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = set_up(study_in(tmp_path, plain=0.3, described=0.0, images=24))
    version = find_source_prompts(work).version
    find_again(work)
    monkeypatch.setattr(stage, "_tried", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a run that is killed
        find_source_prompts(work.changed())
    study, store, bare = work.study, work.store, work.bare_editor.fingerprint
    assert work.changed().editor.fingerprint != bare and source_prompts_version(study, store, bare) == version
    assert {each.stage: each for each in plan_edits(work.changed(), [])}["source_prompts"].edits_missing > 0
    with pytest.raises(ZeroDivisionError):  # goes on with it
        find_source_prompts(work.changed())
    monkeypatch.undo()
    monkeypatch.setattr(Study, "finds_source_prompts", True)
    assert find_source_prompts(work.changed()).version == version
    assert {each.stage: each for each in plan_edits(work.changed(), [])}["source_prompts"].edits_missing == 0

    begun = replace(store.source_prompts(study.kept_as, bare), used=None)  # type: ignore[type-var]
    store.put_source_prompts(study.kept_as, bare, begun)
    with pytest.raises(StoreError, match="materialize source_prompts first"):
        source_prompts_version(study, store, bare)


def test_each_stage_announces_its_own_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def announced(_: object, planned: PlannedStage) -> None:
        said.append(planned.stage)
        if planned.stage == "editor_calibration" or len(said) > 1:
            raise StudyError("said")

    for asset in ("source_prompts", "calibration"):
        monkeypatch.setattr(f"diffex_dagster.assets.{asset}.announce", announced)
    with pytest.raises(DiffExError, match="said"):
        prepare_study(study_in(tmp_path, plain=0.0, described=0.0, images=2), "editor_calibration", silent)
    assert said == ["source_prompts", "editor_calibration"]


def test_what_is_tried_first_is_said_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each command that tries anything: the most edits for the words, those for the options, and the study's."""
    study = study_in(tmp_path, plain=0.3, described=0.0, images=24)
    corpus, said = corpus_now(study), list[str]()
    every, words = study_edits(study, corpus, 24), most_tries(study, corpus, 24)
    options = budget_of(study, corpus, wanted_prompts(corpus), 24)
    assert (words, options) == (int(0.2 * every), int(0.8 * every))
    of_words = f"tried first: at most {words} edits to see whether the words that describe pictures do harm"
    of_options, of_study = (
        f"{options} edits to find the options of 6 prompts",
        f", for the study's {every} edits, joint ones apart",
    )
    both = f"{of_words} and {of_options}{of_study}"

    def run() -> list[str]:
        """What a run says first; it goes no further."""
        with monkeypatch.context() as started:
            started.setattr("diffex_dagster.assets.running._materialized", lambda *_: None)
            heard: list[str] = []
            explain_study(study, ["v1"], silent, heard.append)
        return heard

    assert run() == [both] and not edits_made(tmp_path)
    found = command.make(study, silent, said.append)
    assert found.used and said == [of_words + of_study]
    assert run() == [f"tried first: at most {of_options}{of_study}"]
    assert command.make(study, silent, said.append) == found and len(said) == 1
    calibrated, _ = calibrate_command.make(study, silent, said.append)
    assert said[1:] == [f"tried first: at most {of_options}{of_study}"]
    assert calibrated.budget == options and run() == []

    work = StudyContext(study)
    assert tried_first(work, anew=True) == f"tried first: at most {of_options}{of_study}"
    find_again(work)
    assert run() == [both]  # other words are another editor, of whose options nothing is known
    with monkeypatch.context() as asked:
        asked.setattr("diffex_dagster.stages.tried_first.corpus_now", _not_asked)
        with pytest.raises(StoreError):
            tried_first(work)
        asked.setattr(RecordedVLM, "live", True)
        assert tried_first(work).startswith("tried first: at most 100% of the study's edits; how many these are")
    assert tried_first(StudyContext(study.changed(calibrate=False))) == ""


def _not_asked(study: Study) -> Corpus:
    raise StoreError("no proposal yet")


def test_no_words_are_tried_where_edits_without_are_there(tmp_path: Path) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0, images=24)
    work = set_up(study)
    bare = work.editing_with(work.bare_editor)
    calibrate(bare)
    level1_edits(bare)
    assert tried_first(StudyContext(study)) == ""
    assert find_source_prompts(work).edits.made == 0


def test_stages_know_whether_words_are_taken_from_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_in(tmp_path, plain=0.3, described=0.0)
    stages: tuple[Stage, ...] = ("source_prompts", "editor_calibration", "level1_edits", "ranked_report")
    auto = [stage_version(study, stage) for stage in stages]
    corpus = stage_version(study, "corpus")

    def others() -> bool:
        changed = [a != b for a, b in zip(auto, [stage_version(study, stage) for stage in stages], strict=True)]
        assert len(set(changed)) == 1 and corpus == stage_version(study, "corpus")
        return changed[0]

    assert not others()
    with monkeypatch.context() as raised:  # the rules by which pictures are described: no observed fingerprint has them
        raised.setattr("diffex_dagster.editing.vocabulary.DESCRIBING", 2)
        assert others()
    monkeypatch.setattr(Study, "finds_source_prompts", False)
    assert others()
    with pytest.raises(StudyError, match="write source_prompts: auto"):
        command.make(study, silent)


def test_the_old_key_names_the_new_one(tmp_path: Path) -> None:
    editor = {"kind": "ledits", "checkpoint": "x", "describe": {"hair": {"words": ["a bob"]}}}
    with pytest.raises(StudyError, match=r"editors\.e\.describe: it is called 'source_prompts' now; rename it"):
        load_study(write_study(tmp_path, editors={"e": editor}))


def test_workers_describe_pictures_as_whoever_asks_does(tmp_path: Path) -> None:
    editor = SourcePromptEditor(tmp_path, {"plain": 0.0, "described": 1.0})
    bench = Bench(load_study(write_study(tmp_path, 1)))
    bench.__dict__["editor"] = editor

    class Here:
        """A pool whose one worker is this process."""

        def run(self, method: str, batches: Any, given: Any, *_: Any) -> Any:
            for batch in batches:
                yield getattr(bench, method)(*given(batch))

    images, request = {"image": picture(100)}, EditRequest("image", (Concept("bright"),))
    remote: Any = on_workers(editor, Here())  # type: ignore[arg-type]
    told = remote.with_source_prompts({"blue": VocabularyGroup(words=("blue patch",))})
    assert told.fingerprint != remote.fingerprint == editor.fingerprint
    files = [
        [filed.file for batch in each.edit(images, [request]) for _, filed in batch] for each in (remote, told, remote)
    ]
    assert files[0] == files[2] != files[1]  # the words darken the picture
    assert not hasattr(on_workers(PaintEditor(tmp_path, {}), Here()), "with_source_prompts")  # type: ignore[arg-type]
