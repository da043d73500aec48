"""From a report to the next attributes and back into the corpus: rounds, a real server, the command line, the asset."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image
from rich.console import Console

from diffex_dagster.assets.build import build_study
from diffex_dagster.bench.refine import Found, refine_once, scripted_answer, searched, write_study
from diffex_dagster.bench.tiles import PLACES, draw_weights, group_of
from diffex_dagster.cli import refine as refine_cli
from diffex_dagster.corpus.overrides import merge
from diffex_dagster.corpus.overrides_file import read_overrides
from diffex_dagster.corpus.refining import Suggestion
from diffex_dagster.corpus.tree import Corpus, slug
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.errors import CorpusError, StoreError
from diffex_dagster.stages.context import Planned, StudyContext
from diffex_dagster.stages.corpus import propose
from diffex_dagster.stages.report import compared_rounds, keep_completeness
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.suggestions import (
    accept,
    lines_of,
    open_suggestions,
    pictures_shown,
    question_of,
    suggest,
    write_question,
)
from tests.support.chat_server import Reply, Server, serving
from tests.support.material import HOSTILE

SEED = 1
TOP = slug(f"Mark at the {draw_weights(SEED)[1]}")


def begun(folder: Path, corpus: dict[str, Any] | None = None, seed: int = SEED) -> StudyContext:
    """A study of tiles that lacks its strongest place, with its first search behind it."""
    study, _ = write_study(folder, seed, corpus)
    work = StudyContext(study)
    sample_images(work)
    propose(work)
    return searched(work)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> StudyContext:
    return begun(tmp_path_factory.mktemp("first") / "study")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_a_group_that_is_missing_is_found_within_two_rounds(seed: int, tmp_path: Path) -> None:
    """`diffex bench refine` does so with ten seeds."""
    found: Found = refine_once(tmp_path / "study", seed)
    assert found.round in (1, 2)
    assert found.scores[-1] > found.scores[0] + 0.3 and found.scores[-1] > 0.8


def test_the_question_holds_what_is_not_explained_and_what_was_tried(first: StudyContext, tmp_path: Path) -> None:
    asked, report = question_of(first.subject("rule"))
    captions = [seen.caption for seen in asked.pictures]
    sides = [caption for caption in captions if caption.startswith("scored")]
    assert len(sides) == 12 and {"above" in c for c in sides} == {True, False} and len(captions) <= 24
    assert any("before an edit towards" in caption for caption in captions)
    assert len(asked.tried) == len(list(first.corpus.walk())) and not any(TOP in line for line in asked.tried)
    assert report.completeness and report.completeness.least_explained[0].shows is not None
    files = write_question(first.subject("rule"), tmp_path / "question")
    assert len(files) == 1 + len(captions) and "Name up to" in files[0].read_text("utf-8")


def test_a_question_shows_nothing_of_the_images_that_are_held_out(tmp_path: Path) -> None:
    """What is suggested is confirmed on images that it was not named from; the round is what the report says."""
    study, _ = write_study(tmp_path / "study", SEED)
    study = study.changed(effects=study.effects.model_copy(update={"confirmation": 0.5, "confirmation_from": 20}))
    work = StudyContext(study)
    sample_images(work)
    propose(work)
    subject = searched(work).subject("rule")
    assert subject.split.held_out
    asked, report = question_of(subject)
    samples = {image: of.tobytes() for image, of in subject.store.images(list(subject.samples)).items()}
    shown = {seen.picture.tobytes() for seen in asked.pictures}
    discovery, reported = ({samples[image] for image in of} for of in (subject.split.discovery, subject.split.reported))
    assert len(shown) > 4 and shown <= discovery and not shown & reported
    assert report.completeness
    assert {each.image for each in report.completeness.least_explained} <= set(subject.split.discovery)
    (kept,) = subject.store.rounds(compared_rounds(subject))
    assert kept.images == len(subject.split.reported)


def test_rounds_of_what_cannot_be_compared_are_counted_apart(first: StudyContext) -> None:
    subject = first.subject("rule")
    _, report = question_of(subject)
    fewer = Planned(first.corpus, dict(list(subject.samples.items())[:20]))
    target = subject.study.target.model_copy(update={"label": "no"})
    others = [
        replace(subject, planned=fewer),
        subject.changed(subject.study.changed(target=target)),
        subject.changed(judge=Other(subject.judge)),
        subject.changed(classifier=Other(subject.classifier)),
    ]
    before = subject.store.rounds(compared_rounds(subject))
    for other in others:
        assert subject.store.rounds(compared_rounds(other)) == []
        keep_completeness(other, report)
        keep_completeness(other, replace(report, corpus_version="later"))
        assert [each.round for each in subject.store.rounds(compared_rounds(other))] == [1, 2]
    assert before and subject.store.rounds(compared_rounds(subject)) == before


class Other:
    """Another part of the same kind."""

    fingerprint = "another"

    def __init__(self, of: Any) -> None:
        self.labels = getattr(of, "labels", ())


def test_small_scores_are_told_apart(first: StudyContext) -> None:
    """Of a class with a small probability two decimals would say one number of every picture."""
    _, report = question_of(first.subject("rule"))
    found, features = report.completeness, [replace(f, effect=0.0312, magnitude=0.0424) for f in report.features]
    assert found
    least = [replace(each, score=0.0312, predicted=0.0324) for each in found.least_explained]
    scored = {"score_edit": 0.0312, "score_null": 0.0, "score_placebo": None}
    examples = {f: tuple(replace(each, **scored) for each in of) for f, of in report.examples.items()}  # type: ignore
    small = replace(report, completeness=replace(found, least_explained=tuple(least)), examples=examples)
    captions = [seen.caption for seen in pictures_shown(small)]
    assert {c.split(":")[0] for c in captions if c.startswith("scored")} == {"scored 0.031, predicted 0.032"}
    assert {c.split()[-1] for c in captions if c.startswith("before")} == {"+0.031"}
    lines = [line for line in lines_of(first.corpus, features) if "on average" in line]
    assert lines and all("+0.031 on average, 0.042 either way" in line for line in lines)


def test_a_question_replaces_its_own_files_alone(first: StudyContext, tmp_path: Path) -> None:
    subject, folder = first.subject("rule"), tmp_path / "question"
    (tmp_path / "file").write_text("mine", "utf-8")
    for no_folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CorpusError, match=r"--question writes into a folder, which this is not .*name another one"):
            write_question(subject, no_folder)
    folder.mkdir()
    mine = [folder / "01.png", folder / "hat.png", folder / "97.jpg"]
    for path in mine:
        path.write_bytes(b"mine")
    with pytest.raises(CorpusError, match=r"write over 01\.png, which is not of a question"):
        write_question(subject, folder)
    assert sorted(folder.iterdir()) == sorted(mine) and all(path.read_bytes() == b"mine" for path in mine)
    mine.pop(0).unlink()
    first_files = write_question(subject, folder)
    (folder / "98.png").write_bytes(first_files[1].read_bytes())  # of a longer question
    assert write_question(subject, folder) == first_files
    assert sorted(folder.iterdir()) == sorted([*first_files, *mine])


def pictures_in(request: dict[str, Any]) -> tuple[str, list[Image.Image]]:
    text, *images = request["messages"][1]["content"]
    sent = [each["image_url"]["url"].partition(",")[2] for each in images]
    return text["text"], [Image.open(io.BytesIO(base64.b64decode(each))) for each in sent]


@pytest.fixture
def server() -> Iterator[Server]:
    """A model behind a real server: it proposes the places of the first study, and refines by looking."""
    weights, top = draw_weights(SEED)
    used = {place for place in PLACES if any(place in prompt.split(" at the ") for prompt in weights)}
    groups = [group_of(place) for place in sorted(used - {top})]

    def answer(request: dict[str, Any], number: int) -> Reply:
        text, pictures = pictures_in(request)
        if "Name up to" in text and "attributes to try next" in text:
            return Reply(scripted_answer(text, pictures))
        return Reply(json.dumps({"categories": groups}))

    with serving(answer) as found:
        yield found


def test_a_question_is_asked_once_and_only_what_is_accepted_is_edited(server: Server, tmp_path: Path) -> None:
    vlm = {"kind": "openai", "model": "m", "base_url": server.url, "image_side": 24, "images_per_call": 8}
    work = begun(tmp_path / "study", {"vlm": vlm, "overrides": "corpus.yaml"})
    study, before = work.study, work.corpus
    asked = len(server.questions)
    found = suggest(work.subject("rule"))
    assert [one.id for one in found.suggestions if not one.left_out] == [TOP] and found.answer.usage.made == 1
    other = {**compared_rounds(work.subject("rule")), "classifier": "other weights"}
    work.store.put_suggestions(other, found.corpus_version, [replace(found.suggestions[0], why="other")], "m")
    again = suggest(work.changed().subject("rule"))
    assert len(server.questions) == asked + 1 and again.answer.usage.reused == 1
    kept = [each.suggestion for each in work.store.suggestions(study.kept_as)]
    assert len(kept) == 1 + len(found.suggestions) and {one.why for one in kept} > {"other"}
    assert again.suggestions == found.suggestions
    assert work.corpus == before and not (study.folder / "corpus.yaml").exists()  # nothing is applied by itself
    proposal = work.store.current_corpus(study.kept_as, "proposal")
    (study.folder / "corpus.yaml").write_text("# my notes\nadd:\n  - Scarf  # warm\n", "utf-8")
    accept(work, proposal, [TOP])
    text = (study.folder / "corpus.yaml").read_text("utf-8")
    assert text.startswith("# my notes\nadd:\n  - Scarf  # warm\n") and "# suggested by m: " in text
    work = searched(work)
    assert TOP in {group.id for group in work.corpus.groups}
    second = suggest(work.subject("rule"))
    assert [each.round for each in second.rounds] == [1, 2] and len(server.questions) == asked + 2
    scores = [each.score for each in second.rounds]
    assert scores[0] is not None and scores[1] is not None and scores[1] > scores[0] + 0.3


def test_a_recorded_answer_is_material(first: StudyContext) -> None:
    """What a file says is cleaned, shown without what a terminal or page would take for an order, and not believed."""
    said = [
        {"kind": "group", "name": "Cap", "prompt": "a cap", "why": HOSTILE + "\x1b[2J [red]"},
        {"kind": "group", "name": "Yes man", "prompt": "yes"},
        {"kind": "finer", "under": "../../etc", "name": "x"},
    ]
    folder = first.study.folder
    (folder / "suggestions.json").write_text(json.dumps({"suggestions": said}), "utf-8")
    found = suggest(first.changed().subject("rule"))
    assert [bool(one.left_out) for one in found.suggestions] == [False, True, True]
    console = Console(file=io.StringIO(), width=200)
    refine_cli.show(first.study, found, console)
    refine_cli.take_up(first.study, [], False, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in shown and "Cap" in shown and "restates the class" in shown and "round 1" in shown
    from diffex_dagster.assets.suggestions import in_markdown

    assert "<img" not in in_markdown(found) and "<script" not in in_markdown(found)
    proposal = first.store.current_corpus(first.study.kept_as, "proposal")
    with pytest.raises(CorpusError, match=r"no suggestion 'Top hat' can be taken up; there are: cap"):
        accept(first, proposal, ["Top hat"])
    accept(first, proposal, ["Cap"])
    text = (folder / "corpus.yaml").read_text("utf-8")
    assert "\x1b" not in text and "name: Cap" in text
    assert not open_suggestions(first, proposal)
    searched(first)
    (folder / "corpus.yaml").unlink()
    searched(first)


def suggested(work: StudyContext, version: str, *said: tuple[str, str, str]) -> None:
    """A round that named (parent, name, prompt), as `suggest` keeps it."""
    found = []
    for under, name, prompt in said:
        entry = {"group": under, "name": name, "prompt": prompt} if under else {"name": name, "prompt": prompt}
        own = f"{under}/{slug(name)}" if under else slug(name)
        found.append(Suggestion(own, "finer" if under else "group", under, name, (entry,), "why"))
    work.store.put_suggestions(round_of(work, "w"), version, found, "m")


def round_of(work: StudyContext, weights: str) -> dict[str, str]:
    """What the rounds of a classifier with these weights are kept under."""
    return {"study": work.study.kept_as, "classifier_name": "rule", "classifier": weights, "editor": "paint"}


@pytest.fixture
def of_hats(tmp_path: Path) -> tuple[StudyContext, Corpus, Path]:
    """A study that proposed hats, with nothing searched."""
    study, _ = write_study(tmp_path / "study", SEED)
    hat = {"name": "Hat", "prompt": "a hat", "editable": True, "children": [{"name": "Cap", "prompt": "a cap"}]}
    corpus = tree_from_raw([{"name": "Headgear", "children": [hat, {"name": "Helmet", "prompt": "a helmet"}]}])  # type: ignore[list-item,typeddict-item]
    return StudyContext(study), corpus, study.path(study.corpus.overrides)


def test_all_of_them_are_taken_one_by_one_the_latest_round_first(of_hats: tuple[StudyContext, Corpus, Path]) -> None:
    work, proposal, file = of_hats
    suggested(work, "v1", ("", "Scarf", "a scarf"), ("", "Beard", "a beard"))
    suggested(work, "v2", ("", "Tie", "a tie"), ("", "Shawl", "a scarf"), ("headgear", "Crown", "a crown"))
    assert [one.id for one, _ in open_suggestions(work, proposal)] == [
        "tie",
        "shawl",
        "headgear/crown",
        "scarf",
        "beard",
    ]
    with pytest.raises(CorpusError, match=r"'Scarf' cannot be taken up: .*the edit that 'shawl' has already"):
        accept(work, proposal, ["shawl", "scarf"])
    assert not file.exists()
    taken, left = accept(work, proposal, [])
    assert [one.id for one in taken] == ["tie", "shawl", "headgear/crown", "beard"]
    ((twin, why),) = left
    assert twin.id == "scarf" and "'shawl' has already" in why and "line" not in why
    assert [a.node["name"] for a in read_overrides(file).add] == ["Tie", "Shawl", "Crown", "Beard"]
    assert not open_suggestions(work, proposal)
    with pytest.raises(CorpusError, match="no suggestion to take up"):
        accept(work, proposal, [])


def test_what_was_suggested_after_other_weights_or_by_another_model_is_kept(
    of_hats: tuple[StudyContext, Corpus, Path],
) -> None:
    """One corpus version; only the same question of the same model takes the place of its answer of before."""
    work, proposal, _ = of_hats
    store, columns = work.store, "study, classifier_name, corpus_version, suggestion, position, kind, under, name"
    store.database.write(
        lambda c: c.execute(
            f"INSERT INTO suggestions ({columns}, entries, why, left_out, model) VALUES (?, 'rule', 'v1', 'old', 0, "
            "'group', '', 'Old', '[{\"name\": \"Old\", \"prompt\": \"old\"}]', 'why', '', 'm')",
            [work.study.kept_as],
        )
    )
    named = {}
    for weights, model, name in (("w", "m", "Tie"), ("x", "m", "Beard"), ("w", "n", "Shawl"), ("w", "m", "Scarf")):
        one = Suggestion(slug(name), "group", "", name, ({"name": name, "prompt": name},), "why")
        store.put_suggestions(round_of(work, weights), "v1", [one], model)
        named[weights, model] = name
    kept = {(each.after.weights, each.model): each.suggestion.name for each in store.suggestions(work.study.kept_as)}
    assert kept == {**named, ("", "m"): "Old"} and len(store.suggestions(work.study.kept_as)) == 4
    assert {one.id for one, _ in open_suggestions(work, proposal)} == {"scarf", "beard", "shawl", "old"}


@pytest.mark.parametrize(
    ("said", "taken"),
    [("remove: [headgear/hat]\n", []), ("rename: {headgear/hat: Cover}\n", ["headgear/cover/top-hat"]),
     ("allow: [headgear/helmet]\n", [])],
)  # fmt: skip
def test_a_suggestion_goes_where_its_parent_is_now(
    said: str, taken: list[str], of_hats: tuple[StudyContext, Corpus, Path]
) -> None:
    work, proposal, file = of_hats
    suggested(work, "v1", ("headgear/hat", "Top hat", "a top hat"))
    file.write_text(said, "utf-8")
    before = {f.id for f in merge(proposal, read_overrides(file)).walk()}
    if taken:
        accept(work, proposal, ["Top hat"])
    now = {f.id for f in merge(proposal, read_overrides(file)).walk()}
    assert now - before == set(taken) and not open_suggestions(work, proposal)
    with pytest.raises(CorpusError, match="no suggestion 'Top hat' can be taken up"):
        accept(work, proposal, ["Top hat"])


def test_where_nothing_was_suggested_nothing_is_made(tmp_path: Path) -> None:
    study, _ = write_study(tmp_path / "study", SEED)
    console = Console(file=io.StringIO(), width=200)
    for everything in (False, True):
        with pytest.raises(StoreError, match=r"no suggestion yet; run `diffex refine study` first"):
            refine_cli.take_up(study, [], everything, console)
    assert not study.results_folder.exists()
    work = StudyContext(study)
    work.store.put_images({"one": Image.new("RGB", (8, 8))})  # results are there, in whatever database
    work.store.put_suggestions(round_of(work, "w"), "v1", [], "m")
    refine_cli.take_up(study, [], False, console)
    assert "there is no suggestion to take up; `diffex refine study`" in console.file.getvalue()  # type: ignore[attr-defined]


def test_who_cannot_be_asked_says_what_to_name(tmp_path: Path) -> None:
    study, _ = write_study(tmp_path / "study", SEED, {"vlm": {"kind": "recorded", "file": "proposal.json"}})
    with pytest.raises(CorpusError, match=r"nobody can be asked.*`suggestions`"):
        suggest(StudyContext(study).subject("rule"))
    assert (
        dg.AssetKey(["tiles", "corpus_suggestions"])
        not in build_study(study).resolve_asset_graph().get_all_asset_keys()
    )


def test_the_asset_is_made_by_hand_alone(first: StudyContext, tmp_path: Path) -> None:
    (first.study.folder / "suggestions.json").write_text(
        '{"suggestions": [{"name": "Cap", "prompt": "a cap"}]}', "utf-8"
    )
    definitions = build_study(first.study)
    key = dg.AssetKey(["tiles", "corpus_suggestions"])
    graph = definitions.resolve_asset_graph()
    assert key not in definitions.resolve_job_def("tiles_explain").asset_layer.selected_asset_keys
    assert graph.get(key).automation_condition is None and not graph.get(key).child_keys
    assert graph.get(key).parent_keys == {dg.AssetKey(["tiles", "rule", "ranked_report"])}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = dg.define_asset_job("by_hand", [key])
        made = (
            dg.Definitions(assets=list(definitions.assets or ()), jobs=[job], resources=definitions.resources)
            .resolve_job_def("by_hand")
            .execute_in_process(instance=instance)
        )
        (event,) = made.asset_materializations_for_node("tiles__corpus_suggestions")
        assert event.metadata["can_be_tried"].value == 1 and "Cap" in str(event.metadata["suggestions"].value)
