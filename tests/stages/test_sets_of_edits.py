"""Sets of edits against control edits of as many words: drift alone flips nothing, and a true pair is found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.effects import one_picture
from diffex_dagster.effects.one_picture import p_value
from diffex_dagster.report.image_model import ImageFinding, finding_data
from diffex_dagster.report.image_page import as_html, held_in_words, in_lines, render_image
from diffex_dagster.search.flipping import FlipOptions
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.control_words import control_sets, with_control_words
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.one_picture import explain_images, explain_stored, plan_images
from diffex_dagster.stages.picture_edits import Asked, Wishes, asked_of
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import Study, load_study
from tests.support.toys import Choosy, PaintEditor, edits_made, picture, write_study


class Drifting(PaintEditor):
    """Whatever it is asked for, each edit makes the left half redder by 28 to 30; painting only with `paints`."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(folder, {"batch": 256, **options})
        self.paints = bool(options.get("paints", True))

    @property
    def fingerprint(self) -> str:
        return f"drifting-{self.paints}"

    def _paint(self, image: Image.Image, request: EditRequest) -> Image.Image:
        painted = super()._paint(image, request) if self.paints else image
        pixels = np.asarray(painted).astype(int)
        pixels[:, :8, 0] += sum(28 + crc32(concept.prompt.encode()) % 3 for concept in request.concepts)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def toy(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path / "toy"))


def explained(study: Study, need: float, paints: bool, wishes: Wishes | None = None) -> tuple[ImageFinding, Asked]:
    of = study.changed(target=study.target.model_copy(update={"label": "yes"}))
    work = at_work(of, editor=Drifting(study.folder, {"paints": paints}), classifiers={"v1": Choosy(need)})
    (key,) = work.store.put_images({"0.png": picture(90)}).values()
    asked = asked_of(work.subject("v1"), corpus_now(study), wishes)
    (finding,) = explain_images(asked, {key: "0.png"}, "diffex explain")
    return finding, asked


def of_control_sets(study: Study, size: int) -> int:
    """Edits of so many words that mean nothing."""
    real = {f.prompt for f in corpus_now(study).walk()}
    return sum(len(prompts) == size and not set(prompts) & real for _, prompts in edits_made(study.folder))


def test_a_set_that_flips_by_drift_alone_is_no_flip(toy: Study) -> None:
    """One edit drifts by 30 at most, two by 56 at least; between the two every pair flips, of whatever words."""
    finding, _ = explained(toy, 40 / 255, paints=False, wishes=Wishes(FlipOptions(most=2)))
    assert not finding.flips and finding.no_flip.startswith("Nothing in this corpus flips it")
    assert finding.unseen and {len(each.features) for each in finding.unseen} == {2}
    assert {(each.controls, each.words) for each in finding.unseen} == {(19, 2)} and finding.control_flips == 0
    for each in finding.unseen:  # against single words each of them lies furthest out, as drift twice as long must
        assert p_value(each.score_after - each.score_before, [d for _, d in finding.controls]) <= finding.level
    assert of_control_sets(toy, 2) == 19  # once for all of them


def test_three_edits_that_drift_are_held_against_three(toy: Study) -> None:
    finding, _ = explained(toy, 70 / 255, paints=False)
    triples = [each for each in finding.unseen if len(each.features) == 3]
    assert not finding.flips and triples and {(each.controls, each.words) for each in triples} == {(19, 3)}
    assert of_control_sets(toy, 3) == 19


def test_a_true_pair_is_found_beside_drift(toy: Study) -> None:
    finding, _ = explained(toy, 1.0, paints=True)  # red or blue with drift beside it is 0.86 at most
    assert finding.flips and all({f.split("/")[0] for f in each.features} == {"red", "blue"} for each in finding.flips)
    assert {(len(each.features), each.controls, each.words) for each in finding.flips} == {(2, 19, 2)}
    assert all(each.redraws for each in finding.flips)  # paint changes more of the picture than drift does
    for said in (in_lines(finding), as_html(finding)):
        assert "together" in said and "needed to claim anything" not in said and "single control prompts" not in said
    page = render_image(finding)
    assert "held against 19 edits towards 2 control prompts together" in page and "with a chance of 5% at most" in page
    assert finding_data(finding)["flips"][0]["controls"] == 19


def test_their_control_edits_are_made_only_where_a_set_would_count(toy: Study) -> None:
    for need, most in ((0.5, 3), (9.0, 3)):  # one feature is enough; nothing flips it
        explained(toy, need, paints=True, wishes=Wishes(FlipOptions(most=most)))
    assert of_control_sets(toy, 2) == of_control_sets(toy, 3) == 0


def test_a_plan_counts_them(toy: Study) -> None:
    finding, asked = explained(toy, 40 / 255, paints=False)
    planned = plan_images(asked, [finding.image])
    assert planned.edits_missing == 0 and planned.edits_most == 32 + 19 + 19
    assert sum(len(prompts) > 1 for _, prompts in edits_made(toy.folder)) <= planned.edits_most
    hard = asked.subject.changed(asked.subject.study.edited_with(["1", "2"]))
    several = plan_images(Asked(hard, asked.corpus, asked.features, asked.wishes), [finding.image])
    assert several.edits_most == 32 + (3 + 4) * 19  # so many ways to take two or three of two options


def test_no_word_is_in_two_sets_and_options_are_those_of_the_set(toy: Study) -> None:
    corpus = corpus_now(toy)
    study = with_control_words(toy, corpus)
    sets = control_sets(study, corpus, ["b", "a"])
    words = [concept.prompt for each in sets for concept in each]
    assert len(sets) == 19 and len(set(words)) == len(words) == 38
    assert sets == control_sets(study, corpus, ["a", "b"])
    assert {tuple(concept.setting for concept in each) for each in sets} == {("a", "b")}
    assert [each[0].prompt for each in sets] == list(study.effects.control_prompts)


def test_where_words_run_out_the_result_says_so(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_picture, "WORDS", one_picture.WORDS[:29])
    finding, _ = explained(toy, 1.0, paints=True)
    assert {(each.controls, each.words) for each in finding.flips} == {(15, 2)}  # 30 words in all
    for said in (in_lines(finding), as_html(finding), render_image(finding)):
        assert "It was held against 15 sets of 2 control prompts, and 19 are needed to claim anything." in said
    assert "in one of 16 cases" in render_image(finding)


@pytest.mark.parametrize(("made", "words"), [(True, ["flornip", "vask"]), (True, ["flornip"]), (False, ["flornip"])])
def test_edits_of_another_tool_are_held_against_single_words_and_the_result_says_so(
    tmp_path: Path, made: bool, words: list[str]
) -> None:
    """It has made no sets of words that mean nothing; perhaps no sets at all."""
    other, effects = {"kind": "precomputed", "table": "edits.jsonl"}, {"control_prompts": words}
    file = write_study(
        tmp_path / "toy", image_count=1, editors={"other": other}, target={"label": "yes"}, effects=effects
    )
    (file.parent / "edits").mkdir()
    real = ["red patch", "dark red patch", "blue patch", "dark blue patch", "bright", "sparkles"]
    both = [f"{one};{two}" for one, two in itertools.combinations(real, 2)] if made else []
    rows = []
    for n, prompt in enumerate(["", "flornip", "vask", *real, *both]):
        concepts = tuple(Concept(each) for each in prompt.split(";") if each)
        painted = PaintEditor(tmp_path, {})._paint(picture(90), EditRequest("00.png", concepts, 0))
        painted.save(file.parent / "edits" / f"{n}.png")
        rows.append({"image": "00.png", "prompt": prompt, "file": f"edits/{n}.png"})
    (file.parent / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = load_study(file)
    work = at_work(study, classifiers={"v1": Choosy(0.8)})
    sample_images(work)
    asked = asked_of(work.subject("v1"), corpus_now(study), Wishes(FlipOptions(most=2)))
    names = dict(work.samples)
    (finding,) = explain_images(asked, names, "diffex explain")
    if made:
        assert {(len(each.features), each.controls, each.words) for each in finding.flips} == {(2, len(words), 1)}
        assert "No edits of 2 control prompts together are there" in in_lines(finding)
        alone = "One control edit says nothing of noise" in held_in_words(finding)
        assert alone == (len(words) == 1)
    else:
        assert "sets of one feature that were tried." in finding.no_flip
        assert any("4 sets more would have to be made by the tool" in warning for warning in finding.warnings)
    assert explain_stored(asked, names, "diffex explain")
