"""Content keys: the same inputs give the same key, whatever run or study they come from."""

from __future__ import annotations

import hashlib
import json

from PIL import Image

from diffex_dagster.editing.protocol import Concept, EditRequest


def digest(*parts: object) -> str:
    """A 32-digit hexadecimal SHA-256 of JSON-serialisable parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def image_key(picture: Image.Image) -> str:
    """Hash of a picture's size and RGB pixels, whatever file format it came from."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()[:32]


def concept_parts(concept: Concept) -> list[str]:
    """What of a concept is in keys and rows: prompt and direction, and the setting where it has one of its own."""
    return [concept.prompt, concept.direction, *([concept.setting] if concept.setting else [])]


def edit_key(request: EditRequest, editor: str) -> str:
    """Key of an edit: the image, what is done to it (in any order), by which editor, under which seed."""
    concepts = sorted(concept_parts(concept) for concept in request.concepts)
    return digest("edit", request.image, concepts, editor, request.seed)
