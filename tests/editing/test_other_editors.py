"""Instruction editors through diffusers, and edits that another tool made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffex_dagster.editing.instruct import InstructEditor, InstructOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import EditorError
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.edits import ensure_edits
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.setup import build_editor, build_store
from diffex_dagster.study import Study, load_study
from tests.support.pipelines import qwen_edit, save_kontext
from tests.support.toys import picture, write_study

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars" / "editor"


@pytest.fixture(scope="module")
def pix2pix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An InstructPix2Pix pipeline with a small random UNet and the demo checkpoint's other parts."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(AVATARS / "vae").float()
    text = CLIPTextModel.from_pretrained(AVATARS / "text_encoder").float()
    channels = vae.config.latent_channels
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=2 * channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, attention_head_dim=4, cross_attention_dim=text.config.hidden_size,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pix2pix")
    StableDiffusionInstructPix2PixPipeline(
        vae=vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(AVATARS / "tokenizer"), unet=unet,
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def options(folder: Path, **more: Any) -> InstructOptions:
    return InstructOptions(checkpoint=str(folder), steps=2, device="cpu", dtype="float32", **more)


def test_an_instruction_is_built_from_what_is_asked(pix2pix: Path) -> None:
    editor = InstructEditor(options(pix2pix, add="give them {}", remove="take {} away", joined_by=", "))
    assert editor.instruction(EditRequest("a")) == ""
    both = (Concept("glasses"), Concept("a beard", "remove"))
    assert editor.instruction(EditRequest("a", both)) == "give them glasses, take a beard away"


def test_edits_are_the_pipelines_own_seeded_by_picture(pix2pix: Path) -> None:
    from diffusers import DiffusionPipeline

    from diffex_dagster.editing.inversions import inversion_seed
    from diffex_dagster.utils.hashing import picture_digest

    images = {"a": picture(90).resize((64, 64)), "b": picture(160).resize((64, 64))}
    requests = [EditRequest(i, concepts, 3) for i in images for concepts in ((), (Concept("round glasses"),))]
    editor = InstructEditor(options(pix2pix, guidance=4.0, image_guidance=1.5, batch_size=2))
    made = [pair for batch in editor.edit(images, requests) for pair in batch]
    assert [request for request, _ in made] == requests
    again = InstructEditor(options(pix2pix, guidance=4.0, image_guidance=1.5))
    pipeline = DiffusionPipeline.from_pretrained(pix2pix)
    for (request, result), (_, alone) in zip(made, (p for b in again.edit(images, requests) for p in b), strict=True):
        assert result.size == (64, 64)
        assert np.abs(np.asarray(result, int) - np.asarray(alone, int)).max() <= 1  # batches change only rounding
        expected = pipeline(
            "add round glasses" if request.concepts else "", images[request.image], num_inference_steps=2,
            guidance_scale=4.0, image_guidance_scale=1.5,
            generator=torch.Generator().manual_seed(inversion_seed(picture_digest(images[request.image]), 3)),
        ).images[0]  # fmt: skip
        assert np.abs(np.asarray(alone, int) - np.asarray(expected, int)).max() <= 1
    assert np.asarray(made[0][1]).tolist() != np.asarray(made[1][1]).tolist()
    assert again.fingerprint != editor.fingerprint  # batch_size moves the last bit of a pixel
    assert (
        InstructEditor(options(pix2pix, guidance=4.0, image_guidance=1.5, batch_size=2)).fingerprint
        == editor.fingerprint
    )


def test_pictures_that_are_no_numbers_are_an_error(pix2pix: Path) -> None:
    """Half precision that overflows gives NaN, which a pipeline makes black pictures of."""
    editor = InstructEditor(options(pix2pix))
    decoder = editor._pipeline.vae.decoder.conv_out
    with torch.no_grad():
        decoder.bias.fill_(float("nan"))
    with pytest.raises(EditorError, match="not finite .*float32.*black pictures: set dtype: float32"):
        next(iter(editor.edit({"a": picture(90).resize((64, 64))}, [EditRequest("a")])))


def differences(editor: InstructEditor) -> tuple[float, float]:
    """How far two edits of a picture are from its null edit, after checks that hold for every pipeline."""
    images = {"a": picture(90).resize((64, 48))}
    requests = [EditRequest("a", concepts) for concepts in ((), (Concept("round glasses"),), (Concept("a beard"),))]
    null, *edits = (picture for batch in editor.edit(images, requests) for _, picture in batch)
    assert {each.size for each in (null, *edits)} == {(64, 48)} and null.mode == "RGB"
    (again,) = next(iter(editor.edit(images, requests[1:2])))
    assert np.array_equal(np.asarray(again[1]), np.asarray(edits[0]))  # the same noise, whatever was edited before
    glasses, beard = (float(np.abs(np.asarray(each, int) - np.asarray(null, int)).mean()) for each in edits)
    return glasses, beard


def test_flux_kontext_at_a_small_size(tmp_path: Path) -> None:
    small = {"height": 48, "width": 64, "max_area": 48 * 64, "_auto_resize": False, "max_sequence_length": 16}
    editor = InstructEditor(options(save_kontext(tmp_path), guidance=2.5, parameters=small))
    assert min(differences(editor)) > 0 and len(editor.fingerprint) > 8


def test_qwen_image_edit_at_a_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

    # It looks at every picture at a million pixels, which small random weights need not.
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (64, 64, None))
    guided = {"true_cfg_scale": 4.0, "negative_prompt": " ", "height": 64, "width": 64}
    editor = InstructEditor(options(tmp_path, parameters=guided))
    vars(editor)["_pipeline"] = qwen_edit()  # as its cached property would
    editor._pipeline.set_progress_bar_config(disable=True)
    assert min(differences(editor)) > 0


def test_what_a_pipeline_does_not_take_is_named(pix2pix: Path, tmp_path: Path) -> None:
    images, request = {"a": picture(90).resize((64, 64))}, [EditRequest("a")]
    with pytest.raises(EditorError, match=r"InstructPix2PixPipeline.* takes no true_cfg_scale; leave it out"):
        list(InstructEditor(options(pix2pix, parameters={"true_cfg_scale": 4})).edit(images, request))
    with pytest.raises(EditorError, match="there is no such checkpoint; name a folder"):
        InstructEditor(options(tmp_path / "nowhere")).fingerprint
    with pytest.raises(EditorError, match=r"there is no model_index\.json"):
        InstructEditor(options(tmp_path)).fingerprint


@pytest.mark.parametrize(
    ("part", "named", "file"),
    [
        ("_class_name", ["theirs", "Pipeline"], "theirs.py"),
        ("unet", ["theirs", "UNet"], "unet/theirs.py"),
        ("unet", ["diffusers", "UNet"], "unet/diffusers.py"),
        ("unet", ["a_module_that_nobody_loaded", "UNet"], None),
    ],
)
def test_code_that_a_checkpoint_brings_is_not_run(
    pix2pix: Path, tmp_path: Path, part: str, named: list[str], file: str | None
) -> None:
    folder = Path(shutil.copytree(pix2pix, tmp_path / "checkpoint"))
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), part: named}))
    if file:
        (folder / file).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    editor = InstructEditor(options(folder))
    for use in (lambda: editor.fingerprint, lambda: list(editor.edit({"a": picture(90)}, [EditRequest("a")]))):
        with pytest.raises(EditorError, match=rf"model_index.json: {part} is made by code of the checkpoint's own"):
            use()
    assert not (tmp_path / "ran").exists()


def precomputed(here: Path, /, **where: str) -> Study:
    return load_study(write_study(here, 3, editors={"other": {"kind": "precomputed", **where}}))


def write_edits(folder: Path) -> None:
    for prompt, shade in (("null", 91), ("red patch", 20), ("remove bright", 30)):
        (folder / "edits" / prompt).mkdir(parents=True)
        for i in range(3):
            picture(shade + i).resize((40, 40)).save(folder / "edits" / prompt / f"{i:02d}.png")
    kinds = (("", "add", "null"), ("red patch", "add", "red patch"), ("bright", "remove", "remove bright"))
    rows = [f"{i:02d}.png,{prompt},{way},edits/{sub}/{i:02d}.png" for i in range(3) for prompt, way, sub in kinds]
    (folder / "edits.csv").write_text("image,prompt,direction,file\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("where", [{"folder": "edits"}, {"table": "edits.csv"}])
def test_precomputed_edits_are_found_by_name_and_prompt(tmp_path: Path, where: dict[str, str]) -> None:
    study = precomputed(tmp_path, **where)
    write_edits(tmp_path)
    store, editor = build_store(study), build_editor(study)
    keys = list(sample_images(at_work(study, store=store)).keys)
    asked = [EditRequest(key, concepts) for key in keys
             for concepts in ((), (Concept("red patch"),), (Concept("bright", "remove"),))]  # fmt: skip
    assert ensure_edits(store, editor, asked).made == 9
    files = store.stored_edits(asked, editor.fingerprint)
    shades = [store.pictures.get(files[request]).getpixel((3, 3))[0] for request in asked]
    assert shades == [91, 20, 30, 92, 21, 31, 93, 22, 32]
    with pytest.raises(EditorError, match=r"1 edits were not made .*first add 'a hat' on '00\.png'.*joint_size: 1"):
        ensure_edits(store, editor, [EditRequest(keys[0], (Concept("a hat"),))])
    before = editor.fingerprint
    # Two pictures that change their names change their edits.
    for old, new in (("00", "x"), ("01", "00"), ("x", "01")):
        (tmp_path / "images" / f"{old}.png").rename(tmp_path / "images" / f"{new}.png")
    swapped = build_editor_with_names(study)
    assert swapped.fingerprint != before
    red = [EditRequest(key, (Concept("red patch"),)) for key in keys]
    assert ensure_edits(store, swapped, red).made == 3
    files = store.stored_edits(red, swapped.fingerprint)
    assert [store.pictures.get(files[request]).getpixel((3, 3))[0] for request in red] == [21, 20, 22]
    before = swapped.fingerprint
    picture(5).save(tmp_path / "edits" / "null" / "01.png")
    assert build_editor(study).fingerprint != before


def test_precomputed_edits_without_a_null_edit_compare_with_the_picture(tmp_path: Path) -> None:
    study = precomputed(tmp_path, folder="edits")
    write_edits(tmp_path)
    for file in (tmp_path / "edits" / "null").iterdir():
        file.unlink()
    images = {"00.png": picture(77)}
    (batch,) = build_editor_with_names(study).edit(images, [EditRequest("00.png")])
    assert batch[0][1].getpixel((0, 0)) == (77, 77, 77)


def build_editor_with_names(study: Study) -> Any:
    sample_images(StudyContext(study))
    return build_editor(study)


def test_precomputed_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EditorError, match="there are no edits; put them into one folder for each prompt"):
        build_editor(precomputed(tmp_path, folder="nothing"))
    (tmp_path / "edits.csv").write_text("image,file\n00.png,x.png\n")
    with pytest.raises(EditorError, match="there is no column 'prompt'"):
        build_editor(precomputed(tmp_path, table="edits.csv"))
    (tmp_path / "edits.csv").write_text("image,prompt,direction,file\n00.png,beard,without,x.png\n")
    with pytest.raises(EditorError, match="direction: there is no 'without'; write add or remove"):
        build_editor(precomputed(tmp_path, table="edits.csv"))
    (tmp_path / "edits.csv").write_text("image,prompt,file\n00.png,,x.png\n")
    with pytest.raises(EditorError, match=r"1 of 1 edits have no file, first .*x\.png"):
        build_editor(precomputed(tmp_path, table="edits.csv")).fingerprint
