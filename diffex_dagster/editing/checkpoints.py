"""Finding a diffusion checkpoint and saying, without loading it, exactly which one it is."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from diffex_dagster.errors import EditorError

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_XL_PARTS = ("text_encoder_2", "tokenizer_2")  # Stable Diffusion XL has these as well
_INDEX = "model_index.json"


def _files(parts: tuple[str, ...]) -> list[str]:
    return [f"{part}/{pattern}" for part in parts for pattern in ("*.json", "*.txt", "*.safetensors")]


def locate(checkpoint: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint in Stable Diffusion format.

    Args:
        checkpoint: a folder, or the id of a model on the Hugging Face hub, which is downloaded once.
        revision: of the hub model.

    Raises:
        EditorError: it is not there, or is not complete.
    """
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(checkpoint) or folder.exists():
            raise EditorError(
                f"there is no diffusion checkpoint at {folder.absolute()}: "
                "give the folder of a Stable Diffusion checkpoint or a Hugging Face model id"
            )
        folder = _from_hub(checkpoint, revision)
    parts = _parts(folder)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise EditorError(
            f"the diffusion checkpoint {folder.absolute()} has no {', '.join(missing)}: "
            "give a folder in Stable Diffusion format, as `pipeline.save_pretrained(folder)` writes it"
        )
    for part in parts:
        has_weights = any((folder / part).glob("*.safetensors"))
        if part.startswith(("text_encoder", "unet", "vae")) and not has_weights:
            raise EditorError(
                f"the diffusion checkpoint {folder.absolute()} has no *.safetensors file in {part}: "
                "save it again with safe_serialization=True"
            )
    return folder


def _from_hub(checkpoint: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = [*_files(PARTS + _XL_PARTS), _INDEX]
    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=files, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EditorError(
            f"the diffusion checkpoint {checkpoint!r} is neither a folder ({Path(checkpoint).absolute()}) "
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


def _parts(folder: Path) -> tuple[str, ...]:
    return PARTS + _XL_PARTS if is_xl(folder) else PARTS


def variant(folder: Path) -> str | None:
    """The variant "fp16" where the UNet's weights exist in half precision only, else None (the plain files)."""
    names = [path.name for path in (folder / "unet").glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def content_hash(folder: Path) -> str:
    """SHA-256 over the parts' configuration and weights; an unchanged file is read once a process."""
    digest = hashlib.sha256()
    patterns = _files(_parts(folder))
    if is_xl(folder):
        patterns.append(_INDEX)  # says what an empty prompt is
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            state = path.stat()
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name} {_file_hash(path.resolve(), state.st_size, state.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=512)
def _file_hash(path: Path, size: int, modified: int) -> str:
    # The hub's cache names a weight file by its SHA-256, so that gigabytes need not be read to know it.
    if path.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", path.name):
        return path.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
