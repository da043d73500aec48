"""Stage: read the sample images and prepare them for the editor."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from diffex_dagster.errors import StudyError
from diffex_dagster.store import Store
from diffex_dagster.study import Study

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def prepare(picture: Image.Image, size: int) -> Image.Image:
    """Turn by the EXIF flag, put transparency on white, crop the centre square and scale it to `size` pixels."""
    upright = ImageOps.exif_transpose(picture)
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


def read_images(folder: Path, size: int, limit: int | None = None) -> dict[str, Image.Image]:
    """Every picture of a folder by file name, prepared; pictures with equal content once.

    Raises:
        StudyError: the folder is missing or has no picture, or a file cannot be read (all such files are named).
    """
    if not folder.is_dir():
        raise StudyError(
            f"{folder}: images.folder: there is no such folder; put the sample images there or name another"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise StudyError(
            f"{folder}: images.folder: there is no picture in it; put files ending in "
            f"{', '.join(sorted(SUFFIXES))} there"
        )
    pictures: dict[str, Image.Image] = {}
    unreadable: list[str] = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                pictures[path.name] = prepare(picture, size)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
            unreadable.append(path.name)
    if unreadable:
        raise StudyError(
            f"{folder}: images.folder: {len(unreadable)} of {len(paths)} files cannot be read as pictures "
            f"({', '.join(unreadable[:5])}{', ...' if len(unreadable) > 5 else ''}); replace or remove them"
        )
    return pictures


def sample_images(study: Study, store: Store) -> dict[str, str]:
    """Keep the study's sample images; returns image key -> file name, in order, equal pictures once."""
    pictures = read_images(study.path(study.images.folder), study.images.size, study.images.limit)
    keys: dict[str, str] = {}
    for name, key in store.put_images(pictures).items():
        keys.setdefault(key, name)
    store.put_samples(study.name, keys)
    return keys
