"""Which edits share a batch: what does can change the last bits of a pixel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.errors import EditorError
from diffex_dagster.utils.imports import at_own_code

AT_ONCE = 16  # edits of an editor that does not say which share a batch


def batches_of(editor: Editor, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
    """The requests as they are edited together: as the editor cuts them (`batches`), else few images to a batch.

    What is missing is cut as a whole, before any of it is claimed or handed to workers: which edits share a batch then
    depends on neither. An editor's `batches` cuts what whole batches leave over as before.

    Args:
        editor: that makes the edits.
        requests: each once.

    Raises:
        EditorError: the editor's `batches` fails, leaves a request out, or names one twice.
    """
    own: Any = getattr(editor, "batches", None)
    if not callable(own):
        ordered = sorted(requests, key=lambda each: (each.image, each.seed, each.concepts))
        return [ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE)]
    it, remedy = f"`batches` of the editor {editor.__class__.__name__}", "give back lists of requests, each once"
    with at_own_code(f"{it} fails for {len(requests)} edits", remedy, EditorError):
        batches = [list(batch) for batch in own(requests)]
        same = Counter(request for batch in batches for request in batch) == Counter(requests)
    if not same:
        raise EditorError(f"{it} gives back other requests than it was asked about; {remedy}")
    return [batch for batch in batches if batch]


def cut(
    requests: Sequence[EditRequest], at_once: int, skip: Callable[[EditRequest], float] = lambda _: 0.0
) -> list[list[EditRequest]]:
    """Batches for `LeditsEditor.batches`: as many UNet rows each as `at_once` edits of one concept, or one edit.

    The order is the requests' own, whatever order they came in. Edits of one picture and seed are close together: each
    is inverted once, however small the cache is.

    Args:
        requests: each once.
        at_once: how many edits of one concept a batch holds.
        skip: what an edit leaves out of the noisy end; edits that differ in it share no batch.
    """
    kinds: dict[tuple[int, float], list[EditRequest]] = {}
    for request in sorted(requests, key=lambda each: (each.image, each.seed, each.concepts)):
        kinds.setdefault((len(request.concepts), skip(request)), []).append(request)
    batches = []
    for (concepts, _), some in sorted(kinds.items()):
        size = max(2 * at_once // (1 + concepts), 1)
        batches += [some[start : start + size] for start in range(0, len(some), size)]
    return sorted(batches, key=lambda batch: (batch[0].image, batch[0].seed))


def check_requests(images: Mapping[str, Image.Image], requests: Sequence[EditRequest]) -> None:
    """Look at what is asked for before any work.

    Raises:
        EditorError: a picture is missing, or a prompt is empty.
    """
    for request in requests:
        if request.image not in images:
            raise EditorError(
                f"an edit asks for image {request.image!r}, which was not given: pass its picture in `images`"
            )
        for concept in request.concepts:
            if not concept.prompt.strip():
                raise EditorError("an edit has an empty prompt: name the attribute to edit")
