"""Which pictures somebody asks about: the study's own by name or key, or files, prepared as the study's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.images.files import read_picture, why_unreadable
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store import image_key


def find_asked(work: StudyContext, asked: Sequence[str]) -> dict[str, tuple[str, Image.Image]]:
    """Read the pictures that were asked for, prepared as the study's images are.

    Args:
        asked: of each the name or the key (or its first eight letters or more) of one of the study's images, or a file,
            relative to the working folder or to the study's images.

    Returns:
        Key -> (name, prepared picture), in the order asked for; a picture that is asked for twice once.

    Raises:
        DiffExError: there is no such picture, it cannot be read, or a name is that of one of the study's images and of
            another picture in the working folder.
    """
    store, study = work.store, work.study
    samples = store.samples(study.kept_as) if store.exists() and store.sample_count(study.kept_as) else {}
    found: dict[str, tuple[str, Image.Image]] = {}
    for each in asked:
        key = _sample(samples, each)
        if key is not None:
            if each == samples[key]:
                _refuse_another(work, each, key)
            try:
                found.setdefault(key, (samples[key], store.images([key])[key]))
                continue
            except StoreError:  # lost or altered: read it again, where the file is still there
                pass
        name, picture = _file(work, each, bool(samples))
        found.setdefault(image_key(picture), (name, picture))
    return found


def named_apart(found: Mapping[str, tuple[str, Image.Image]]) -> dict[str, Image.Image]:
    """The pictures under the names that the store keeps them with: their files', not the paths that somebody typed."""
    kept: dict[str, Image.Image] = {}
    for asked, picture in found.values():
        file = Path(asked)
        name, turn = file.name, 1
        while name in kept:  # another folder's file of that name
            turn += 1
            name = f"{file.stem} ({turn}){file.suffix}"
        kept[name] = picture
    return kept


def _sample(samples: Mapping[str, str], asked: str) -> str | None:
    named = [key for key, name in samples.items() if name == asked]
    if not named and len(asked) >= 8:
        named = [key for key in samples if key.startswith(asked)]
    return named[0] if len(named) == 1 else None


def _refuse_another(work: StudyContext, name: str, key: str) -> None:
    """Raise where a file here has the name of one of the study's images (by key) and shows something else."""
    file, images = Path(name).expanduser(), work.study.images
    if not file.is_file():
        return
    try:
        same = image_key(read_picture(file, images.size, images.fit, images.background)) == key
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:  # no picture: the study's image is meant
        return
    if not same:
        raise DiffExError(
            f"{name}: one of the study's images is called so, and so is another picture here ({file.resolve()}); write "
            f"{key[:12]} for the study's image, or {file.resolve()} for the file"
        )


def _file(work: StudyContext, asked: str, read: bool) -> tuple[str, Image.Image]:
    study, images = work.study, work.study.images
    places = [Path(asked).expanduser()]
    if images.folder is not None:
        places.append(study.path(images.folder) / asked)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        which = "no image of the study and no file is called so" if read else "there is no such file"
        raise DiffExError(f"{asked}: {which}; name a file, or one of the study's images as its report does")
    try:
        return asked, read_picture(file, images.size, images.fit, images.background)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise DiffExError(f"{file}: it cannot be read as a picture ({why_unreadable(error)})") from error
