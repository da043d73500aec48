"""Asking an editor for edits, with one look at what comes back: an editor may be anybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from diffex_dagster.editing.protocol import Editor, EditRequest, FiledPicture
from diffex_dagster.errors import EditorError
from diffex_dagster.utils.imports import at_own_code

_KEPT = "and run again: what it gave back before is kept"
_END = object()


def made_edits(
    editor: Editor,
    images: Mapping[str, Image.Image],
    requests: Sequence[EditRequest],
    size: tuple[int, int] | None = None,
    name: Callable[[str], str] = str,
) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
    """The batches of `editor.edit`, each as the protocol says.

    Args:
        editor: that makes the edits.
        images: image key -> RGB picture.
        requests: what is asked for, each once.
        size: width and height of this editor's earlier edits; those of the first edit when None.
        name: of an image, by its key, for messages; asked for nothing else, since it may have to read a database.

    Raises:
        EditorError: the editor fails, gives back something else than RGB pictures of one size for what was asked, or
            leaves a request out; what it gave back before stands.
    """
    it = f"the editor {editor.__class__.__name__}"
    doing = f"{it} fails while it makes {len(requests)} edit{'' if len(requests) == 1 else 's'}"
    missing = dict.fromkeys(requests)
    with at_own_code(doing, f"mend it {_KEPT}", EditorError):
        batches = iter(editor.edit(images, requests))
    while True:
        with at_own_code(doing, f"mend it {_KEPT}", EditorError):
            given: Any = next(batches, _END)
            batch = [] if given is _END else list(given)
        if given is _END:
            break
        for each in batch:
            request, picture = _pair(it, each)
            if request not in missing:
                why = "twice" if request in requests else "although nobody asked for it"
                raise EditorError(f"{it} gives back {_in_words(request, name)} {why}; yield every request once {_KEPT}")
            if picture.mode != "RGB":
                raise EditorError(
                    f"{it} gives back {_in_words(request, name)} as a picture of mode {picture.mode}; end with "
                    f".convert('RGB') {_KEPT}"
                )
            size = size or picture.size
            if picture.size != size:
                raise EditorError(
                    f"{it} gives back {_in_words(request, name)} at {_pixels(picture.size)}, and other edits at "
                    f"{_pixels(size)}: a classifier compares pictures of one size; resize them {_KEPT}"
                )
            del missing[request]
        yield batch
    if missing:
        raise EditorError(
            f"{it} leaves out {len(missing)} of {len(requests)} edits, first {_in_words(next(iter(missing)), name)}; "
            f"yield every request once {_KEPT}"
        )


def _pair(it: str, each: Any) -> tuple[EditRequest, Image.Image | FiledPicture]:
    fits = isinstance(each, tuple | list) and len(each) == 2
    if not fits or not isinstance(each[0], EditRequest) or not isinstance(each[1], Image.Image | FiledPicture):
        kinds = ", ".join(type(part).__name__ for part in each) if fits else type(each).__name__
        raise EditorError(
            f"{it} gives back ({kinds}) in a batch; yield lists of (EditRequest, PIL picture), the request as it was "
            f"asked {_KEPT}"
        )
    return each[0], each[1]


def _in_words(request: EditRequest, name: Callable[[str], str]) -> str:
    what = " and ".join(f"{c.direction} {c.prompt!r}" for c in request.concepts) or "the null edit"
    return f"{what} on {name(request.image)} (seed {request.seed})"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]} pixels"
