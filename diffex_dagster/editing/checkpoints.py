"""Finding a diffusion checkpoint and saying, without loading it, exactly which one it is."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffex_dagster.errors import EditorError
from diffex_dagster.utils.hashing import file_fingerprint
from diffex_dagster.utils.weights import check_file, check_weights

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_XL_PARTS = ("text_encoder_2", "tokenizer_2")  # Stable Diffusion XL has these as well
_INDEX = "model_index.json"


_CONFIGURATION = ("*.json", "*.txt")
_WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a diffusion model is: a folder, or a single file with its weights and a folder with its configuration."""

    folder: Path
    file: Path | None = None

    def __str__(self) -> str:
        return str((self.file or self.folder).absolute())


def _files(components: tuple[str, ...], patterns: tuple[str, ...] = (*_CONFIGURATION, _WEIGHTS)) -> list[str]:
    return [f"{part}/{pattern}" for part in components for pattern in patterns]


def locate(checkpoint: str, revision: str | None = None, config: str | None = None) -> Checkpoint:
    """A checkpoint in Stable Diffusion format, with whole weights.

    Args:
        checkpoint: a folder; a single .safetensors file, as web interfaces for Stable Diffusion use them; or the id of
            a model on the Hugging Face hub, which is downloaded once.
        revision: of the hub model.
        config: for a single file, the folder or hub id of a checkpoint of the same architecture, whose configuration is
            read and whose weights are not; when None, the one that diffusers infers from the file's tensors.

    Raises:
        EditorError: it is not there, or is not complete, or a file of weights is cut off.
    """
    folder = Path(checkpoint).expanduser()
    if folder.suffix in (".safetensors", ".ckpt", ".pt", ".pth", ".bin") and not folder.is_dir():
        return _single_file(folder, config)
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(checkpoint) or folder.exists():
            raise EditorError(
                f"there is no diffusion checkpoint at {folder.absolute()}: "
                "give the folder of a Stable Diffusion checkpoint, a .safetensors file or a Hugging Face model id"
            )
        folder = _from_hub(checkpoint, revision, _files(PARTS + _XL_PARTS))
    _is_stable_diffusion(folder)
    _complete(folder)
    _edits_pictures(folder)
    for part in _components(folder):
        has_weights = any((folder / part).glob(_WEIGHTS))
        if part.startswith(("text_encoder", "unet", "vae")) and not has_weights:
            raise EditorError(
                f"the diffusion checkpoint {folder.absolute()} has no *.safetensors file in {part}: "
                "save it again with safe_serialization=True"
            )
        check_weights(folder / part, EditorError, variant(folder))
    return Checkpoint(folder)


def _is_stable_diffusion(folder: Path) -> None:
    """Raise EditorError for a checkpoint that says of itself that it is no Stable Diffusion with a UNet."""
    name = str(model_index(folder).get("_class_name", ""))
    if name and not re.match(r"(StableDiffusion(?!3|Cascade)|LEditsPPPipeline|LatentConsistencyModel)", name):
        raise EditorError(
            f"{folder.absolute() / _INDEX}: this is a {name}, and LEDITS++ edits with the UNet of Stable Diffusion 1, "
            "2 or XL; give such a checkpoint, or one that follows instructions under kind: instruct"
        )


def _edits_pictures(folder: Path) -> None:
    """Raise EditorError for a UNet that takes more than a picture: of an inpainting, instruction or upscaling model."""
    file = folder / "unet" / "config.json"
    try:
        channels = [json.loads((folder / part / "config.json").read_text("utf-8")) for part in ("unet", "vae")]
        takes, has = channels[0].get("in_channels", 4), channels[1].get("latent_channels", 4)
    except (OSError, ValueError, AttributeError):
        return  # what is wrong with them is said where they are loaded
    if takes != has:
        kinds = {9: "an inpainting model", 8: "an instruction model such as InstructPix2Pix", 7: "an upscaler"}
        raise EditorError(
            f"{file.absolute()}: in_channels is {takes}, and a picture has {has} latent channels: this is "
            f"{kinds.get(takes, 'a model of another kind')}; give a text-to-image checkpoint"
            + (", or use it under kind: instruct" if takes == 8 else "")
        )


def _complete(folder: Path) -> None:
    missing = [part for part in _components(folder) if not (folder / part).is_dir()]
    if missing:
        raise EditorError(
            f"the diffusion checkpoint {folder.absolute()} has no {', '.join(missing)}: "
            "give a folder in Stable Diffusion format, as `pipeline.save_pretrained(folder)` writes it"
        )


def native_side(checkpoint: str) -> int | None:
    """The side of the pictures that a checkpoint was trained on, in pixels: its UNet's latents times its autoencoder's
    factor.

    Args:
        checkpoint: a folder, or a hub id that may have been downloaded before. Nothing is downloaded.

    Returns:
        None where it is not on this machine, or does not say so.
    """
    try:
        unet, vae = (json.loads(_configuration_of(checkpoint, part).read_text("utf-8")) for part in ("unet", "vae"))
        latents, halvings = unet["sample_size"], len(vae["block_out_channels"]) - 1
        return int(latents if isinstance(latents, int) else max(latents)) * 2**halvings
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _configuration_of(checkpoint: str, part: str) -> Path:
    if Path(checkpoint).is_dir() or not _HUB_ID.fullmatch(checkpoint):
        return Path(checkpoint) / part / "config.json"
    from huggingface_hub import try_to_load_from_cache

    return Path(str(try_to_load_from_cache(checkpoint, f"{part}/config.json")))  # "None" is no file


def _single_file(file: Path, config: str | None) -> Checkpoint:
    if file.suffix != ".safetensors":
        raise EditorError(
            f"the diffusion checkpoint {file.absolute()} is not a .safetensors file, and reading other formats can run "
            "code that is in them: convert it to safetensors"
        )
    if not file.is_file():
        raise EditorError(f"there is no diffusion checkpoint {file.absolute()}: correct the path")
    check_file(file, EditorError)
    asked = config or _inferred_config(file)
    folder = Path(asked).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(asked) or folder.exists():
            raise EditorError(
                f"there is no folder {folder.absolute()} with the configuration of {file.name}: set the editor's "
                "config to the folder or hub id of a checkpoint of the same architecture"
            )
        configuration = _files(PARTS + _XL_PARTS, _CONFIGURATION)
        folder = _from_hub(asked, None, configuration, f"the configuration of {file.name},")
    if not (folder / _INDEX).is_file():
        raise EditorError(
            f"{folder.absolute()} has no {_INDEX}: set the editor's config to a folder that "
            "`pipeline.save_pretrained(folder)` wrote; its weights may be left out"
        )
    _is_stable_diffusion(folder)
    _complete(folder)
    _edits_pictures(folder)
    return Checkpoint(folder, file)


def _inferred_config(file: Path) -> str:
    """The hub id of the checkpoint that has a file's architecture, from the names and shapes of its tensors."""
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 (no dict)
    if not any(name.startswith("model.diffusion_model.") for name in shapes):
        raise EditorError(
            f"{file.absolute()} is not a whole Stable Diffusion checkpoint (it has no model.diffusion_model.*): give "
            "one with UNet, autoencoder and text encoder; a LoRA goes under loras"
        )
    empty = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return str(fetch_diffusers_config(empty)["pretrained_model_name_or_path"])


def locate_lora(checkpoint: str, file: str | None = None, revision: str | None = None) -> Path:
    """The file of a LoRA.

    Args:
        checkpoint: a .safetensors file, a folder with one, or a hub id.
        file: which one, where a folder or a hub model has several.
        revision: of the hub model.

    Raises:
        EditorError: it is not there, or it is not said which one.
    """
    place = Path(checkpoint).expanduser()
    if place.suffix == ".safetensors":
        if not place.is_file():
            raise EditorError(f"there is no LoRA {place.absolute()}: correct the path")
        check_file(place, EditorError)
        return place
    if not place.is_dir():
        if not _HUB_ID.fullmatch(checkpoint) or place.exists():
            raise EditorError(
                f"there is no LoRA at {place.absolute()}: give a .safetensors file, a folder with one, or a hub id"
            )
        place = _from_hub(checkpoint, revision, [file or _WEIGHTS], "the LoRA")
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob(file or _WEIGHTS))
    if len(found) != 1:
        there = f"has {', '.join(found)}" if found else f"has no {file or _WEIGHTS}"
        raise EditorError(f"the LoRA {checkpoint} {there}: name one of its .safetensors files as its `file`")
    check_file(place / found[0], EditorError)
    return place / found[0]


def _from_hub(checkpoint: str, revision: str | None, files: list[str], what: str = "the diffusion checkpoint") -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = [*files, _INDEX]
    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=files, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EditorError(
            f"{what} {checkpoint!r} is neither a folder ({Path(checkpoint).absolute()}) "
            f"nor a model that could be downloaded from the Hugging Face hub ({type(error).__name__}): "
            "correct the name, or download the model and give its folder"
        ) from error


def model_index(folder: Path) -> dict[str, Any]:
    """What model_index.json says; nothing where there is none.

    Raises:
        EditorError: it is not JSON.
    """
    try:
        found: dict[str, Any] = json.loads((folder / _INDEX).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EditorError(
            f"{folder.absolute() / _INDEX} is not JSON ({error}): save the checkpoint again, or correct the file"
        ) from error
    return found


def is_xl(folder: Path) -> bool:
    """Whether a folder holds Stable Diffusion XL: by its model_index.json, or by its second text encoder."""
    name = str(model_index(folder).get("_class_name", ""))
    return "StableDiffusionXL" in name or (folder / "text_encoder_2").is_dir()


def _components(folder: Path) -> tuple[str, ...]:
    return PARTS + _XL_PARTS if is_xl(folder) else PARTS


def variant(folder: Path) -> str | None:
    """The variant "fp16" where the UNet's weights exist in half precision only, else None (the plain files)."""
    names = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def content_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over the parts' configuration and weights; an unchanged file is read once a process."""
    digest, folder = hashlib.sha256(), checkpoint.folder
    patterns = _files(_components(folder), _CONFIGURATION if checkpoint.file else (*_CONFIGURATION, _WEIGHTS))
    if is_xl(folder):
        patterns.append(_INDEX)  # says what an empty prompt is
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if checkpoint.file and path.name.endswith(".index.json"):
                continue  # lists the weights that the folder may have, and that are not read
            digest.update(f"{path.relative_to(folder).as_posix()} {file_fingerprint(path)}\n".encode())
    if checkpoint.file:
        digest.update(f"{file_fingerprint(checkpoint.file)}\n".encode())
    return digest.hexdigest()
