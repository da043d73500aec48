"""A checkpoint of another kind, or one whose numbers overflow, is one sentence and makes no edit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.engine import load_components
from diffex_dagster.errors import EditorError
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.study import load_study
from tests.support.checkpoints import build_checkpoint
from tests.support.project import Run
from tests.support.single_file import write_single_file
from tests.support.toys import write_study


@pytest.mark.parametrize(
    ("channels", "kind"), [(9, "an inpainting model"), (8, "an instruction model"), (5, "another kind")]
)
def test_a_unet_that_takes_more_than_a_picture_is_refused_before_it_is_loaded(
    tmp_path: Path, channels: int, kind: str
) -> None:
    folder = build_checkpoint(tmp_path / "checkpoint")
    assert checkpoints.locate(str(folder)).folder == folder
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "in_channels": channels}))
    with pytest.raises(EditorError, match=f"in_channels is {channels}.*{kind}.*give a text-to-image checkpoint"):
        checkpoints.locate(str(folder))


def test_numbers_that_are_not_finite_are_no_pictures(tmp_path: Path) -> None:
    from diffex_dagster.editing.engine import Engine

    parts = load_components(checkpoints.locate(str(build_checkpoint(tmp_path / "checkpoint"))), torch.float32)
    latents = torch.zeros(1, 4, 8, 8)
    decode = Engine.decode
    holder = type("Holder", (), {"vae": parts.vae, "unet": parts.unet})()
    assert torch.isfinite(decode(holder, latents)).all()
    latents[0, 0, 0, 0] = float("nan")
    with pytest.raises(EditorError, match=r"UNet .* not finite \(in float32\), .*pictures: get the checkpoint again"):
        decode(holder, latents)
    parts.unet.half()
    with pytest.raises(EditorError, match=r"UNet .* not finite \(in float16\), .*: set dtype: float32"):
        decode(holder, latents)


@pytest.mark.parametrize("kind", ["StableDiffusion3Pipeline", "FluxPipeline", "PixArtAlphaPipeline", "ZImagePipeline"])
def test_a_checkpoint_of_another_architecture_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    folder = build_checkpoint(tmp_path / "checkpoint")
    index = folder / "model_index.json"
    for known in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "LEditsPPPipelineStableDiffusion"):
        index.write_text(json.dumps({"_class_name": known}))
        assert checkpoints.locate(str(folder)).folder == folder
    index.write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(EditorError, match=rf"model_index\.json: this is a {kind}, .*Stable Diffusion 1, 2 or XL"):
        checkpoints.locate(str(folder))


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("whole"))


def cut(file: Path) -> None:
    """As a download leaves it that was broken off."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def sharded(part: Path) -> Path:
    """Weights in two files of which the second is missing; the list that names them."""
    (part / WEIGHTS).rename(part / "diffusion_pytorch_model-00001-of-00002.safetensors")
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = part / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": names[0], "b": names[1]}}))
    return index


def pickled(part: Path) -> None:
    (part / WEIGHTS).unlink()
    (part / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04half a pickle")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda c: cut(c / "unet" / WEIGHTS), rf"unet.{WEIGHTS}: the file of weights is damaged or cut off .*get it"),
        (lambda c: cut(c / "vae" / WEIGHTS), rf"vae.{WEIGHTS}: the file of weights is damaged or cut off"),
        (lambda c: cut(c / "text_encoder" / "model.safetensors"), r"text_encoder.model.safetensors: .*cut off"),
        (lambda c: (c / "unet" / WEIGHTS).write_bytes(b""), rf"unet.{WEIGHTS}: .*cut off"),
        (lambda c: sharded(c / "unet"), r"index.json: 1 of the 2 files .* not there, first diffusion.*00002-of-00002"),
        (lambda c: cut(sharded(c / "vae")), r"vae.*index.json: the list of weights cannot be read .*get it again"),
        (lambda c: pickled(c / "unet"), r"has no \*.safetensors file in unet: save it again with safe_serialization"),
        (lambda c: shutil.rmtree(c / "vae"), "has no vae: give a folder in Stable Diffusion format"),
    ],
)  # fmt: skip
def test_weights_that_are_cut_off_or_missing_are_one_sentence_before_anything_is_loaded(
    whole: Path, tmp_path: Path, harm: Callable[[Path], object], told: str
) -> None:
    broken = Path(shutil.copytree(whole, tmp_path / "checkpoint"))
    harm(broken)
    with pytest.raises(EditorError, match=told) as caught:
        checkpoints.locate(str(broken))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_read_may_be_anything(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "checkpoint"))
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"half a pickle")
    assert checkpoints.locate(str(folder)).folder == folder


def test_a_configuration_that_is_cut_off_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    for name in ("unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"):
        broken = Path(shutil.copytree(whole, tmp_path / name))
        cut(broken / name)
        with pytest.raises(EditorError, match="the diffusion checkpoint .* cannot be loaded .*give a Stable") as caught:
            load_components(checkpoints.locate(str(broken)), torch.float32)
        assert "\n" not in str(caught.value)


def test_a_single_file_and_a_lora_that_are_cut_off_are_one_sentence(whole: Path, tmp_path: Path) -> None:
    file = write_single_file(whole, tmp_path / "model.safetensors")
    cut(file)
    for find in (lambda: checkpoints.locate(str(file), config=str(whole)), lambda: checkpoints.locate_lora(str(file))):
        with pytest.raises(EditorError, match=r"model\.safetensors: the file of weights is damaged or cut off"):
            find()


def test_doctor_and_run_say_it_and_leave_what_is_there_as_it_is(whole: Path, tmp_path: Path, diffex: Run) -> None:
    shutil.copytree(whole, tmp_path / "checkpoint")
    file = write_study(tmp_path / "toy", 2)
    study = load_study(file)
    earlier = study.results_folder / "pictures" / "an_edit.png"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"of another editor")
    write_study(tmp_path / "toy", 2, editors={"sd": {"kind": "ledits", "checkpoint": "../checkpoint"}})
    assert build_editor(load_study(file)).fingerprint
    cut(tmp_path / "checkpoint" / "unet" / WEIGHTS)
    for command in ("doctor", "run"):
        status, out, err = diffex(command, file)
        said = " ".join((out + err).split())
        assert status == 1 and "cut off" in said and "get it again" in said and "Traceback" not in said
    assert [each for each in study.results_folder.rglob("*") if each.is_file()] == [earlier]
