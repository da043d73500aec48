"""Options of single concepts: their text, what is worth trying, and edits that are asked for under them."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.bench.truth import SETTINGS
from diffex_dagster.corpus.vlm.answers import read_answer, tree_from_raw
from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.checkpoints import Checkpoint
from diffex_dagster.editing.ledits import LeditsEditor, LeditsEditorPart, LeditsOptions
from diffex_dagster.editing.ledits_options import NOT_PIXELS
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.editing.settings import Kind, PromptOptions, Setting, kind_of, read_setting, worth_trying
from diffex_dagster.errors import EditorError, StudyError
from diffex_dagster.stages.calibration import wanted_prompts
from diffex_dagster.stages.ready import check_pins
from diffex_dagster.study import load_study
from tests.support.project import ROOT
from tests.support.toys import PaintEditor

OWN = Setting()


def test_a_setting_and_its_text_say_the_same() -> None:
    setting = Setting(scale=3.0, mask="none", skip=0.0, warmup=2)
    assert read_setting(setting.text) == setting
    assert Setting(scale=3).text == Setting(scale=3.0).text
    with pytest.raises(EditorError, match="none of LEDITS"):
        read_setting("strength 3")


def test_any_beginning_of_what_is_worth_trying_is_a_fair_choice() -> None:
    tried = worth_trying(OWN, steps=20)
    assert tried[0] == OWN and len(set(tried)) == len(tried)
    first = tried[:8]
    assert {each.mask for each in first} == {"none", "intersection"}
    # What is not pushed draws only what the noise that it starts at leaves open: it has to start at all of it.
    assert [each.skip for each in first] == [0.0 if (each.scale, each.mask) == (1.0, "none") else 0.1 for each in first]
    unpushed = [each for each in tried if (each.scale, each.mask) == (1.0, "none")]
    assert [(each.skip, each.warmup) for each in unpushed] == [(0.0, 0)]  # whatever else is tried with others
    assert min(each.scale for each in first) == 1.0 and max(each.scale for each in first) == 10.0
    assert {each.skip for each in tried} == {0.0, 0.1, 0.3} and {each.warmup for each in tried} == {0, 4}
    assert {each.skip for each in worth_trying(OWN, steps=20, skips=False)} == {0.1}


def test_the_corpus_says_what_kind_of_attribute_it_names() -> None:
    assert kind_of(None) is kind_of("", "hair-colour") is None
    assert kind_of("the whole scene") == kind_of("Whole picture", "colour-tones") == kind_of("everywhere") == "style"
    assert kind_of("overall") == kind_of("throughout the image") == kind_of("Image-wide") == "style"
    assert (
        kind_of("whole leaf")
        == kind_of("the entire building")
        == kind_of("all over the body")
        == kind_of("overall shape")
        == "object"
    )
    assert kind_of("entire background") == kind_of("the whole sky") == "background"
    assert kind_of("whole face") == "face part"
    assert kind_of("Background", "colour-of-the-wall") == kind_of("sky") == "background"
    assert kind_of("upper body", "clothing-colour") == kind_of("skin", "skin-tone") == "colour"
    assert kind_of("lower face") == kind_of("left eye") == kind_of("hair", "hairstyle") == "face part"
    assert kind_of("upper body", "clothing") == kind_of("in front of the heart", "stone") == "object"
    corpus = tree_from_raw(read_answer((ROOT / "studies" / "avatars" / "proposal.json").read_text("utf-8")))
    kinds = {w.group: kind_of(w.region, w.group) for w in wanted_prompts(corpus)}
    assert Counter(kinds.values()) == {"face part": 9, "colour": 3, "object": 1, "background": 1}, kinds


def test_a_kind_s_presets_come_first_and_bound_the_mask() -> None:
    own = OWN.model_copy(update={"threshold": 0.75, "scale": 4.0})
    kinds: tuple[Kind | None, ...] = ("background", "colour", "object", "face part", None)
    tried = {kind: worth_trying(own, 20, kind) for kind in kinds}
    thresholds = {kind: [each.threshold for each in of[1:] if each.mask != "none"] for kind, of in tried.items()}
    assert {kind: of[0] for kind, of in thresholds.items()} == {
        "background": 0.5, "colour": 0.75, "object": 0.75, "face part": 0.9, None: 0.9,
    }  # fmt: skip
    assert max(thresholds["background"]) == 0.75 == min(thresholds["face part"]) == min(thresholds["object"])
    assert all(of[0] == own and of[1].scale == 1.0 and of[1].mask == "none" for of in tried.values())
    assert {each.scale for each in tried["face part"] if each.mask == "none"} == {1.0, 2.0, 3.0}  # gentle ones
    known = {(each.scale, each.threshold, each.mask) for each in tried[None]}
    assert all({(each.scale, each.threshold, each.mask) for each in of} <= known for of in tried.values())


def test_what_fills_the_picture_is_edited_without_a_mask() -> None:
    """A mask leaves part of the picture as it is: fog on a quarter of it shows, and moves a classifier by little."""
    tried = worth_trying(OWN, 20, "style")
    assert {each.mask for each in tried} == {"none"} and (tried[0].scale, tried[0].skip) == (1.0, 0.0)
    assert len({each.scale for each in tried}) == 4 and {each.skip for each in tried} == {0.0, 0.1, 0.3}
    free = OWN.model_copy(update={"mask": "none"})
    assert worth_trying(free, 20, "style")[0] == free  # the editor's own, where it suits


def test_a_concept_of_a_joint_edit_sets_in_at_the_noise_at_which_it_would_alone() -> None:
    late = Setting(skip=1 / 3)
    assert late.after(1 / 3, 20) is late
    joint = late.after(0.0, 20)
    assert (joint.skip, joint.warmup) == (0.0, 5)  # 15 of 20 steps over three quarters of the noise
    assert late.model_copy(update={"warmup": 4}).after(0.0, 20).warmup == 5 + 3


def test_edits_of_every_setting_come_from_one_editor(checkpoint: Path) -> None:
    """A setting edits as an editor does that was made with it, inversions of equal skip are shared, and nothing of it
    touches the fingerprint."""

    def editor(**options: object) -> LeditsEditor:
        return LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), device="cpu", steps=4, mask="none", **options))  # type: ignore[arg-type]

    one = editor()
    print_before = one.fingerprint
    images = {"a": Image.effect_noise((one.engine().resolution,) * 2, 60).convert("RGB")}
    settings = [
        Setting(scale=2.0, mask="none"),
        Setting(scale=7.0, mask="none"),
        Setting(scale=2.0, mask="none", skip=0.5),
    ]
    requests = [EditRequest("a", (Concept("a hat", setting=each.text),)) for each in settings]
    made = {r: np.asarray(p) for batch in one.edit(images, [EditRequest("a"), *requests]) for r, p in batch}
    for setting, request in zip(settings, requests, strict=True):
        other = editor(scale=setting.scale, skip=setting.skip)
        [[(_, picture)]] = other.edit(images, [EditRequest("a", (Concept("a hat"),))])
        difference = np.abs(np.asarray(picture).astype(int) - made[request]).max()
        assert difference <= 1, setting  # rounding: other batches
        assert other.fingerprint != one.fingerprint == print_before
    assert len(one._inversions._in_memory._items) == 2  # of both skips
    assert len({each.tobytes() for each in made.values()}) == 4
    joint = EditRequest("a", (requests[0].concepts[0], Concept("a beard", setting=settings[2].text)))
    [[(_, together)]] = one.edit(images, [joint])
    assert together.tobytes() not in {each.tobytes() for each in made.values()}


def test_a_prompt_s_own_options_are_no_setting_of_the_editor() -> None:
    options = LeditsOptions(checkpoint="x", prompts={"a hat": PromptOptions(scale=3.0)})
    assert options.setting(Concept("a hat")).scale == 3.0 and options.setting(Concept("a beard")) == options.own
    pinned = Setting(scale=9.0).text
    assert options.setting(Concept("a hat", setting=pinned)).scale == 9.0


def test_a_prompt_may_be_given_all_that_calibration_chooses_among() -> None:
    """`scale 1, no mask, skip 0, words none` is what the page of a calibration says; a person can write it down."""
    options = LeditsOptions(checkpoint="x", skip=0.2, prompts={"a hat": {"scale": 1, "mask": "none", "skip": 0}})  # type: ignore[dict-item]
    assert options.setting(Concept("a hat")) == Setting(scale=1.0, mask="none", skip=0.0)
    assert options.setting(Concept("a beard")).skip == 0.2
    plain = LeditsOptions(checkpoint="x", prompts={"a hat": PromptOptions(described=False)})
    assert not plain.described_of(EditRequest("a", (Concept("a hat"),)))


def test_prompts_of_before_keep_their_fingerprints() -> None:
    """Edits that were made under scale and mask of a prompt are not made again."""

    def identity(**named: Any) -> Any:
        options = LeditsOptions(checkpoint="x", prompts={"a hat": PromptOptions(scale=3.0, **named)})
        return options.identity("hash", ("cpu", "float32"), NOT_PIXELS, False)["options"]["prompts"]["a hat"]

    before = {"scale": 3.0, "threshold": 0.9, "mask": "intersection", "warmup": 0, "cooldown": None}
    assert identity() == before and identity(skip=0.0) == {**before, "skip": 0.0}
    assert identity(described=False) == {**before, "described": False}


@pytest.mark.parametrize(("named", "name"), [({"skip": 0.0}, "skip"), ({"described": False}, "described")])
def test_a_prompt_s_own_skip_is_refused_where_null_edits_depend_on_it(
    checkpoint: Path, named: dict[str, Any], name: str
) -> None:
    prompts = {"a hat": PromptOptions(**named)}
    made = LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), correct_end=False, prompts=prompts))
    image, request = {"a": Image.new("RGB", (16, 16))}, EditRequest("a", (Concept("a hat"),))
    with pytest.raises(
        EditorError, match=f"'a hat': null edits of this editor depend on {name} .*leave {name} of this"
    ):
        list(made.edit(image, [request]))


def test_a_prompt_s_own_skip_is_refused_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(ROOT / "studies" / "avatars")
    part = LeditsEditorPart(checkpoint="xl", prompts={"a hat": PromptOptions(skip=0.3)})
    study = study.changed(editors={"xl": part}, editor="xl")
    monkeypatch.setattr(checkpoints, "locate", lambda checkpoint, *_: Checkpoint(Path(checkpoint)))
    monkeypatch.setattr(checkpoints, "is_xl", lambda folder: folder.name == "xl")
    with pytest.raises(
        StudyError, match=r"study.yaml: editors.xl.prompts: 'a hat': null edits of this editor depend on"
    ):
        check_pins(study, LeditsEditor(LeditsOptions(checkpoint="xl")))
    check_pins(study, LeditsEditor(LeditsOptions(checkpoint="xl", zero_noise_steps=0)))
    check_pins(study, PaintEditor(Path(), {}))  # an editor of another kind


def test_the_grid_of_xl_has_scales_without_a_mask_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its null edits depend on the skip, so that no edit of the grid skips more or less."""
    monkeypatch.setattr(checkpoints, "locate", lambda checkpoint, *_: Checkpoint(Path(checkpoint)))
    monkeypatch.setattr(checkpoints, "is_xl", lambda folder: folder.name == "xl")
    part, xl = LeditsEditorPart(checkpoint="xl"), LeditsEditor(LeditsOptions(checkpoint="xl"))
    grid = {title: read_setting(setting) for title, setting in part.grid(xl.alike)}
    assert len(grid) == 15 and {each.skip for each in grid.values()} == {0.1}
    assert grid["scale 1, no mask"].mask == "none" and "scale 1, no mask, skip 0" in dict(part.grid())


def table() -> dict[str, dict[str, str]]:
    """The table of docs/howto/editor.md that says where options come from: row -> column -> text."""
    text = (ROOT / "docs" / "howto" / "editor.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text[text.index("| | steps |") :].split("\n\n")[0].splitlines()
    ]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_docs_defaults_and_the_benchmark_name_the_same_starting_points() -> None:
    authors, diffusers, here, demo = table().values()
    own = LeditsOptions(checkpoint="x")
    assert {name: str(getattr(own, name)).removesuffix(".0") for name in here} == here
    tuned = load_study(ROOT / "studies" / "avatars").editors["diffusion"]
    assert isinstance(tuned, LeditsOptions)
    assert (demo["steps"], demo["skip"], demo["mask"]) == (str(tuned.steps), f"{tuned.skip:g}", tuned.mask)
    scales = {tuned.scale, *(each.scale for each in tuned.prompts.values())}
    assert demo["scale"].split(", or ") == [f"{scale:g}" for scale in sorted(scales)]
    for said, name in ((authors, "authors"), (diffusers, "diffusers")):
        used = LeditsOptions(checkpoint="x", **SETTINGS[name])  # type: ignore[arg-type]
        assert {option: str(getattr(used, option)).removesuffix(".0") for option in said} == said, name


def test_diffusers_starting_point_is_what_its_pipeline_says() -> None:
    from diffusers import LEditsPPPipelineStableDiffusion as Pipeline

    edits, inverts = (inspect.signature(each).parameters for each in (Pipeline.__call__, Pipeline.invert))
    said = {
        "steps": inverts["num_inversion_steps"], "skip": inverts["skip"], "scale": edits["edit_guidance_scale"],
        "threshold": edits["edit_threshold"],
    }  # fmt: skip
    assert {name: each.default for name, each in said.items()} == {
        name: value for name, value in SETTINGS["diffusers"].items() if name != "source_prompts"
    }


def test_whoever_starts_names_a_checkpoint_and_no_option() -> None:
    """README, examples, the second world and `diffex init`: one starting point."""
    yaml = YAML(typ="safe")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    files = [*(ROOT / "studies" / "examples").glob("*/study.yaml"), ROOT / "studies" / "scenes" / "study.yaml"]
    studies = [
        yaml.load(text)
        for text in (*(b for b in blocks if "kind: ledits" in b), *(file.read_text("utf-8") for file in files))
    ]
    editors = [part for each in studies if "editors" in each for part in each["editors"].values()]
    found = [part for part in editors if part["kind"] == "ledits"]
    assert len(found) >= 6 and all(set(part) == {"kind", "checkpoint"} for part in found)


def test_another_skip_is_tried_only_where_null_edits_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last steps of Stable Diffusion XL go without the inversion's noise, unless the study says otherwise."""

    def skips(folder: Path, **options: Any) -> set[float]:
        editor = LeditsEditor(LeditsOptions(checkpoint=str(folder), **options))
        return {read_setting(each).skip for each in editor.settings() if each} - {editor.options.skip}

    monkeypatch.setattr(checkpoints, "locate", lambda checkpoint, *_: Checkpoint(Path(checkpoint)))
    monkeypatch.setattr(checkpoints, "is_xl", lambda folder: folder.name == "xl")
    assert LeditsEditor(LeditsOptions(checkpoint="sd")).settings()[0] == ""
    assert "" not in LeditsEditor(LeditsOptions(checkpoint="sd")).settings()[1:]
    editor = LeditsEditor(LeditsOptions(checkpoint="sd"))
    hard = Setting(scale=10.0, threshold=0.75)
    for setting, read in (("", editor.options.own), (hard.text, hard)):
        varied = {each: read_setting(each) for each in editor.variants(setting)}
        assert {(each.skip, each.warmup) for each in varied.values()} == {(0.0, 0), (0.3, 0), (0.1, 4)}
        assert all((each.scale, each.threshold) == (read.scale, read.threshold) for each in varied.values())
        assert set(varied) <= set(editor.settings())
    assert skips(Path("sd")) == {0.0, 0.3} == skips(Path("xl"), zero_noise_steps=0)
    assert skips(Path("xl")) == set() == skips(Path("sd"), zero_noise_steps=3)
    xl = LeditsEditor(LeditsOptions(checkpoint="xl"))
    assert xl.alike("") and xl.alike(Setting(scale=3.0).text) and not xl.alike(Setting(skip=0.0).text)
    assert editor.alike(Setting(skip=0.0).text)
