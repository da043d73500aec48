"""How a diffusion model is loaded: single files, LoRA, and the options that make it fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.loading import LoadingOptions, attention_processor, require
from diffex_dagster.editing.models import load_components
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import EditorError
from diffex_dagster.stages.setup import build_editor
from diffex_dagster.study import load_study
from tests.support.checkpoints import build_checkpoint
from tests.support.single_file import write_single_file
from tests.support.toys import write_study

Images = dict[str, Image.Image]
REQUESTS = [
    EditRequest("one"),
    EditRequest("one", (Concept("beard"),)),
    EditRequest("two", (Concept("hat", "remove"),)),
]


@pytest.fixture(scope="module")
def configured(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint's configuration without its weights."""
    folder = tmp_path_factory.mktemp("configuration")
    for file in checkpoint.rglob("*"):
        if file.suffix in (".json", ".txt"):
            (folder / file.relative_to(checkpoint)).parent.mkdir(exist_ok=True)
            shutil.copy(file, folder / file.relative_to(checkpoint))
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
             "scheduler": ["diffusers", "DDPMScheduler"], "safety_checker": [None, None],
             "feature_extractor": [None, None]}  # fmt: skip
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.37.0", **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def single(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_single_file(checkpoint, tmp_path_factory.mktemp("single") / "model.safetensors")


def lora(folder: Path, checkpoint: Path, name: str = "lora.safetensors", part: str = "unet") -> Path:
    """A LoRA of rank 2 on one projection of the UNet, or of the text encoder, with the names that diffusers writes."""
    (weights,) = (checkpoint / part).glob("*.safetensors")
    wanted = "attn2.to_v.weight" if part == "unet" else "self_attn.v_proj.weight"
    torch.manual_seed(1)
    tensors = {}
    for key, tensor in load_file(weights).items():
        if key.endswith(wanted):
            out, into = tensor.shape
            stem = f"{part}.{key.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(2, into)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(out, 2)
    assert tensors
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name)
    return folder / name


def editor(checkpoint: Path, **options: Any) -> LeditsEditor:
    return LeditsEditor(
        LeditsOptions(checkpoint=str(checkpoint), steps=4, device="cpu", dtype="float32", scale=6.0, **options)
    )


def edited(made: LeditsEditor, images: Images) -> np.ndarray:
    done = {request: picture for batch in made.edit(images, REQUESTS) for request, picture in batch}
    return np.stack([np.asarray(done[request], dtype=int) for request in REQUESTS])


# Single files


def test_a_single_file_is_the_same_checkpoint(checkpoint: Path, single: Path, configured: Path) -> None:
    folder = load_components(checkpoints.locate(str(checkpoint)), torch.float32)
    file = load_components(checkpoints.locate(str(single), config=str(configured)), torch.float32)
    for ours, theirs in zip(folder.models, file.models, strict=True):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
    assert file.schedule["beta_start"] == folder.schedule["beta_start"]
    assert file.tokenizers[0]("beard").input_ids == folder.tokenizers[0]("beard").input_ids


def test_a_study_names_a_single_file_and_edits_the_same(
    checkpoint: Path, single: Path, configured: Path, images: Images, tmp_path: Path
) -> None:
    shutil.copy(single, tmp_path / "model.safetensors")
    shutil.copytree(configured, tmp_path / "configuration")
    part = {"kind": "ledits", "checkpoint": "model.safetensors", "config": "configuration", "steps": 4, "scale": 6.0,
            "device": "cpu", "dtype": "float32"}  # fmt: skip
    made = build_editor(load_study(write_study(tmp_path, 1, editors={"sd": part})))
    assert np.abs(edited(made, images) - edited(editor(checkpoint), images)).max() <= 1
    before = made.fingerprint
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.diffusion_model.out.2.bias"] += 1
    save_file(weights, tmp_path / "model.safetensors")
    assert build_editor(load_study(tmp_path)).fingerprint != before


def test_the_architecture_is_inferred_where_no_config_is_named(
    single: Path, configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EditorError, match=r"configuration of model\.safetensors, 'stable-diffusion-v1-5/stable-diff"):
        checkpoints.locate(str(single))
    model = tmp_path / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    shutil.copytree(configured, model / "snapshots" / ("0" * 40))
    found = checkpoints.locate(str(single))
    assert found.file == single and found.folder.name == "0" * 40
    named = checkpoints.locate(str(single), config=str(configured))
    assert checkpoints.content_hash(found) == checkpoints.content_hash(named)


def test_a_single_file_that_cannot_be_used_is_one_sentence(
    checkpoint: Path, single: Path, configured: Path, tmp_path: Path
) -> None:
    with pytest.raises(EditorError, match=r"nowhere\.safetensors: correct the path"):
        checkpoints.locate(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(EditorError, match=r"model\.ckpt is not a \.safetensors file.* convert it"):
        checkpoints.locate(str(tmp_path / "model.ckpt"))
    adapter = lora(tmp_path, checkpoint)
    with pytest.raises(EditorError, match=r"not a whole Stable Diffusion checkpoint .*a LoRA goes under loras"):
        checkpoints.locate(str(adapter))
    (tmp_path / "broken.safetensors").write_bytes(b"1234")
    with pytest.raises(EditorError, match=r"broken\.safetensors: the file of weights is damaged or cut off"):
        checkpoints.locate(str(tmp_path / "broken.safetensors"))
    with pytest.raises(EditorError, match=r"there is no folder .*nowhere with the configuration of model"):
        checkpoints.locate(str(single), config=str(tmp_path / "nowhere"))
    with pytest.raises(EditorError, match=r"has no model_index\.json: set the editor's config"):
        checkpoints.locate(str(single), config=str(tmp_path))
    other = shutil.copytree(configured, tmp_path / "other")
    settings = json.loads((other / "unet" / "config.json").read_text())
    (other / "unet" / "config.json").write_text(json.dumps({**settings, "cross_attention_dim": 24}))
    for config in (other, checkpoint):  # the index of the last names no parts
        with pytest.raises(
            EditorError, match=rf"cannot be loaded with the configuration in .*{config.name} .*same arch"
        ):
            load_components(checkpoints.locate(str(single), config=str(config)), torch.float32)


# LoRA


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("xl"), size="tiny-xl")


@pytest.mark.parametrize(("size", "part"), [("tiny", "unet"), ("tiny", "text_encoder"), ("xl", "unet"),
                                            ("xl", "text_encoder_2")])  # fmt: skip
def test_a_lora_is_added_to_the_weights(checkpoint: Path, xl: Path, tmp_path: Path, size: str, part: str) -> None:
    checkpoint = xl if size == "xl" else checkpoint
    file = lora(tmp_path, checkpoint, part=part)
    plain = load_components(checkpoints.locate(str(checkpoint)), torch.float32)
    merged = load_components(checkpoints.locate(str(checkpoint)), torch.float32, [(file, 0.5)])
    before, after = ((p.unet if part == "unet" else p.encoders[-1]).state_dict() for p in (plain, merged))
    assert before.keys() == after.keys()
    low_rank, changed = load_file(file), 0
    for name, tensor in before.items():
        stem = f"{part}.{name.removesuffix('.weight')}"
        expected = tensor
        if f"{stem}.lora_A.weight" in low_rank:
            expected = tensor + 0.5 * low_rank[f"{stem}.lora_B.weight"] @ low_rank[f"{stem}.lora_A.weight"]
            changed += 1
        assert torch.allclose(after[name], expected, atol=1e-5), name
    assert changed == len(low_rank) // 2


def test_loras_of_a_study_change_edits_and_fingerprint(checkpoint: Path, images: Images, tmp_path: Path) -> None:
    lora(tmp_path / "style", checkpoint)
    part = {"kind": "ledits", "checkpoint": str(checkpoint), "steps": 4, "device": "cpu", "dtype": "float32"}

    def made(**more: Any) -> LeditsEditor:
        study = load_study(write_study(tmp_path, 1, editors={"sd": {**part, **more}}))
        return build_editor(study)  # type: ignore[return-value]

    plain, weak = made(), made(loras=[{"checkpoint": "style", "scale": 0.3}])
    strong = made(loras=[{"checkpoint": "style/lora.safetensors", "scale": 1.0}])
    assert len({each.fingerprint for each in (plain, weak, strong)}) == 3
    assert made(loras=[{"checkpoint": "./style/lora.safetensors"}]).fingerprint == strong.fingerprint
    pictures = [edited(each, images) for each in (plain, weak, strong)]
    assert all(np.abs(a - b).max() > 1 for a, b in ((pictures[0], pictures[1]), (pictures[1], pictures[2])))
    lora(tmp_path / "style", checkpoint, "second.safetensors")
    with pytest.raises(
        EditorError, match=r"style has lora\.safetensors, second\.safetensors: name one .* as its `file`"
    ):
        made(loras=[{"checkpoint": "style"}]).fingerprint
    assert made(loras=[{"checkpoint": "style", "file": "lora.safetensors"}]).fingerprint == strong.fingerprint


def test_a_lora_that_cannot_be_used_is_one_sentence(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.locate(str(checkpoint))
    with pytest.raises(EditorError, match=r"there is no LoRA .*nowhere\.safetensors: correct the path"):
        editor(checkpoint, loras=[{"checkpoint": str(tmp_path / "nowhere.safetensors")}]).fingerprint
    with pytest.raises(EditorError, match=r"there is no LoRA at .*nowhere: give a \.safetensors file"):
        editor(checkpoint, loras=[{"checkpoint": str(tmp_path / "nowhere")}]).fingerprint
    file = lora(tmp_path, checkpoint)
    tensors = load_file(file)
    save_file({name: torch.ones(3, 3) for name in tensors}, tmp_path / "wrong.safetensors")
    with pytest.raises(EditorError, match=r"the LoRA .*wrong\.safetensors cannot be merged .*this checkpoint's arch"):
        load_components(folder, torch.float32, [(tmp_path / "wrong.safetensors", 1.0)])
    save_file({f"elsewhere.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "other.safetensors")
    with pytest.raises(EditorError, match=r"the LoRA .*other\.safetensors cannot be merged"):
        load_components(folder, torch.float32, [(tmp_path / "other.safetensors", 1.0)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EditorError, match=r"loras needs peft, .*pip install 'diffex-dagster\[lora\]'"):
        editor(checkpoint, loras=[{"checkpoint": str(file)}]).fingerprint


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (lambda key: key, "unet.down_blocks.7"),
        (lambda key: "lora_unet_" + key.removeprefix("unet.").replace(".", "_").replace("_lora_A_", ".lora_down.")
            .replace("_lora_B_", ".lora_up."), "lora_unet_down_blocks_7"),
    ],
)  # fmt: skip
def test_a_lora_of_which_only_a_part_fits_is_refused(
    checkpoint: Path, tmp_path: Path, written: Callable[[str], str], named: str
) -> None:
    """The file of a larger model fits in the blocks that both have, and is another change there than it was."""
    folder, whole = checkpoints.locate(str(checkpoint)), load_file(lora(tmp_path, checkpoint))
    further = {key.replace("down_blocks.0", "down_blocks.7"): each.clone() for key, each in whole.items()}
    assert len(further.keys() - whole.keys()) == 2
    for name, tensors in (("whole", whole), ("larger", {**whole, **further})):
        save_file({written(key): each for key, each in tensors.items()}, tmp_path / f"{name}.safetensors")
    load_components(folder, torch.float32, [(tmp_path / "whole.safetensors", 1.0)])
    count = len(whole) // 2
    with pytest.raises(
        EditorError, match=rf"larger.*\(1 of its {count + 1} layers have no place in this model: {named}"
    ):
        load_components(folder, torch.float32, [(tmp_path / "larger.safetensors", 1.0)])


def test_a_lora_whose_text_encoder_is_named_in_another_way_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Its half for the UNet alone would be another change than the one it was trained to be."""
    unet, text = (load_file(lora(tmp_path, checkpoint, part=part)) for part in ("unet", "text_encoder"))
    renamed = {key.replace(".layers.", ".layer."): each for key, each in text.items()}
    save_file({**unet, **text}, tmp_path / "whole.safetensors")
    save_file({**unet, **renamed}, tmp_path / "other.safetensors")
    folder = checkpoints.locate(str(checkpoint))
    load_components(folder, torch.float32, [(tmp_path / "whole.safetensors", 1.0)])
    with pytest.raises(EditorError, match=r"other\.safetensors cannot be merged \(.*layers that this model does not h"):
        load_components(folder, torch.float32, [(tmp_path / "other.safetensors", 1.0)])


def test_a_lora_that_fails_while_it_is_added_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(lora(tmp_path, checkpoint))
    first = next(key for key in tensors if key.endswith("lora_B.weight"))
    tensors[first.replace("lora_B.weight", "lora_magnitude_vector")] = torch.ones(len(tensors[first]))
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(EditorError, match=r"the LoRA .*part\.safetensors cannot be merged .*this checkpoint's arch"):
        load_components(checkpoints.locate(str(checkpoint)), torch.float32, [(tmp_path / "part.safetensors", 1.0)])


# Memory


def test_offload_slicing_and_tiling_edit_the_same(checkpoint: Path, images: Images) -> None:
    plain = editor(checkpoint)
    expected = edited(plain, images)
    frugal = editor(checkpoint, offload=True, vae_slicing=True)
    assert np.abs(edited(frugal, images) - expected).max() <= 1
    engine = frugal.engine()
    assert engine.vae.use_slicing and not engine.vae.use_tiling
    for model in engine.components.models:  # each waits in memory, and comes to the device when it is called
        assert type(model._hf_hook).__name__ == "OneAtATime"
    assert frugal.fingerprint == plain.fingerprint  # both change speed only
    tiled = editor(checkpoint, vae_tiling=True)
    assert tiled.fingerprint != plain.fingerprint  # tiles have seams
    assert tiled.engine().vae.use_tiling


def test_attention_is_torchs_own_unless_xformers_is_asked_for(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {type(each).__name__ for each in editor(checkpoint).engine().unet.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0", "ReadableCrossAttention"}
    fast = LoadingOptions(attention="xformers")
    with pytest.raises(EditorError, match="attention: xformers needs a CUDA device and the editor runs on cpu"):
        attention_processor(fast, torch.device("cpu"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EditorError, match="attention: xformers needs xformers, which is not installed: pip install"):
        LeditsEditor(LeditsOptions(checkpoint=str(checkpoint), attention="xformers")).fingerprint


def test_what_a_package_is_needed_for_is_said() -> None:
    with pytest.raises(EditorError, match=r"offload needs no_such_package, .*pip install 'diffex-dagster\[offload\]'"):
        require("no_such_package", "offload", "offload")
