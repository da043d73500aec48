"""Content keys: the same inputs give the same key, whatever run or study they come from."""

from __future__ import annotations

import functools
import hashlib

from PIL import Image

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.utils.hashing import digest


def image_key(picture: Image.Image) -> str:
    """Hash of a picture's size and RGB pixels, whatever file format it came from."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()[:32]


def concept_fields(concept: Concept) -> list[str]:
    """What of a concept is in keys and rows: prompt and direction, and the setting where it has one of its own."""
    return [concept.prompt, concept.direction, *([concept.setting] if concept.setting else [])]


@functools.lru_cache(2**16)  # a run asks for each of its keys a hundred times
def edit_key(request: EditRequest, editor: str) -> str:
    """Key of an edit: the image, what is done to it (in any order), by which editor, under which seed."""
    concepts = sorted(concept_fields(concept) for concept in request.concepts)
    return digest("edit", request.image, concepts, editor, request.seed)
