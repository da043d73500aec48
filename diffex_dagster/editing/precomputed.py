"""Edits that another tool made: pictures in a folder or a table, looked up instead of made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image
from pydantic import Field, model_validator

from diffex_dagster.editing.parts import EditorPart, Where
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import EditorError, in_words
from diffex_dagster.images.files import why_no_sample
from diffex_dagster.images.tables import read_rows
from diffex_dagster.utils.hashing import digest, file_fingerprint
from diffex_dagster.utils.paths import listed

Key = tuple[str, frozenset[Concept]]  # name of the sample image, what was done to it
_BATCH = 64


class PrecomputedEditorPart(EditorPart):
    """Edits that another tool made, in a table (`edits_in_rows`) or a folder (`edits_in_folder`)."""

    makes_edits: ClassVar[bool] = False

    kind: Literal["precomputed"] = "precomputed"
    table: Path | None = Field(None, description="CSV, TSV, JSON lines or Parquet: image, prompt, direction, file")
    folder: Path | None = Field(None, description="<folder>/<prompt>/<image name>, and <folder>/null/<image name>")

    @model_validator(mode="after")
    def _one_of(self) -> PrecomputedEditorPart:
        if (self.table is None) == (self.folder is None):
            raise ValueError("name either 'table' or 'folder', where the edits are")
        return self

    def build(self, where: Where) -> PrecomputedEditor:
        """A `PrecomputedEditor`; the table or the folder is read at once.

        Raises:
            StudyError: the table cannot be read.
            EditorError: it, or the folder, does not say what was edited.
        """
        if self.table is not None:
            source = where.path(self.table)
            edits = edits_in_rows(read_rows(source, f"{where.field}.table"), source)
        else:
            assert self.folder is not None
            source = where.path(self.folder)
            edits = edits_in_folder(source)
        return PrecomputedEditor(source, edits, where.names, where.picture)

    def method(self) -> str:
        """Where the edits were read from."""
        return (
            f"Another tool made the edits, which were read from {self.table or self.folder}: every sample image edited "
            "towards one attribute, and the null edit, the picture as that tool gives it back when it changes nothing."
        )


class PrecomputedEditor:
    """Looks edits up by the sample image's name and what was done to it.

    A sample image without a null edit of its own is its own null edit: then the effect also holds whatever the other
    tool did to every picture, and the report's noise floor does not know of it.

    Args:
        source: what messages name: the table or folder.
        edits: (image name, concepts) -> file of the edited picture.
        names: called when an edit or the fingerprint is asked for: image key -> name, of the study's sample images.
        read: from a file to a picture of the editor's size.
    """

    def __init__(
        self,
        source: Path,
        edits: Mapping[Key, Path],
        names: Callable[[], Mapping[str, str]],
        read: Callable[[Path], Image.Image],
    ) -> None:
        self.source, self.edits, self._names, self.read = source, edits, names, read

    @property
    def fingerprint(self) -> str:
        """Hash of every file and what it shows, and of which sample images go by these names.

        A picture that was renamed has the edits of its new name, or none: what was kept for it is not its own any more.

        Raises:
            EditorError: a file is missing.
        """
        edited = {name for name, _ in self.edits}
        samples = sorted([name, image] for image, name in self._names().items() if name in edited)
        return digest("precomputed", self._contents, *([samples] if samples else []))

    @cached_property
    def _contents(self) -> list[list[object]]:
        missing = [file for file in self.edits.values() if not file.is_file()]
        if missing:
            raise EditorError(
                f"{self.source}: {len(missing)} of {len(self.edits)} edits have no file, first {missing[0]}; make them "
                "or remove their rows"
            )
        return sorted([name, sorted((c.prompt, c.direction) for c in concepts), file_fingerprint(file)]
                      for (name, concepts), file in self.edits.items())  # fmt: skip

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Read the edits (see `Editor.edit`).

        Raises:
            EditorError: some of them were not made; says which, before any is read.
        """
        names = self._names()
        wanted = [
            (request, (names.get(request.image, request.image), frozenset(request.concepts))) for request in requests
        ]
        absent = [key for _, key in wanted if key not in self.edits and key[1]]
        if absent:
            name, concepts = absent[0]
            what = " and ".join(f"{c.direction} {c.prompt!r}" for c in sorted(concepts))
            raise EditorError(
                f"{self.source}: {len(absent)} edits were not made by the other tool, first {what} on {name!r}; make "
                "them, take the features out of the corpus, or set search.joint_size: 1 (no edits of several features) "
                "and name the control prompts that it made in effects.control_prompts (three by default; [] for none)"
            )
        for start in range(0, len(wanted), _BATCH):
            yield [(request, self._read(images, request, key)) for request, key in wanted[start : start + _BATCH]]

    def missing(self, names: Iterable[str], combinations: Iterable[frozenset[Concept]]) -> list[Key]:
        """The edits of these images towards these concepts that were not made."""
        return [key for key in itertools.product(names, combinations) if key not in self.edits]

    def _read(self, images: Mapping[str, Image.Image], request: EditRequest, key: Key) -> Image.Image:
        if key not in self.edits:  # no null edit: the picture itself
            return images[request.image].convert("RGB")
        try:
            return self.read(self.edits[key])
        except MemoryError:
            raise
        except Exception as error:  # a decoder's, of any kind
            raise EditorError(
                f"{self.edits[key]}: the edit cannot be read ({in_words(error, 120)}); make it again"
            ) from error


def edits_in_rows(rows: Sequence[Mapping[str, object]], table: Path) -> dict[Key, Path]:
    """Rows with `image`, `file`, `prompt` (several joined by ";", empty for the null edit) and perhaps `direction`.

    Raises:
        EditorError: a column is missing, or two rows name different files for one edit.
    """
    columns = list(rows[0]) if rows else []
    for column in ("image", "file", "prompt"):
        if column not in columns:
            raise EditorError(
                f"{table}: there is no column {column!r}; write image (name of the sample image), prompt (empty for "
                f"the null edit), direction (add or remove) and file; the columns are {', '.join(columns) or 'none'}"
            )
    edits: dict[Key, Path] = {}
    for row in rows:
        direction = str(row.get("direction") or "add").strip().lower()
        if direction not in ("add", "remove"):
            raise EditorError(f"{table}: direction: there is no {row['direction']!r}; write add or remove")
        prompts = [prompt.strip() for prompt in str(row["prompt"] or "").split(";") if prompt.strip()]
        concepts = frozenset(Concept(prompt, direction) for prompt in prompts)  # type: ignore[arg-type]
        key, file = (str(row["image"]), concepts), listed(str(row["file"]), table.parent, "file")
        if edits.setdefault(key, file) != file:
            raise EditorError(
                f"{table}: two rows are the same edit of {row['image']!r} ({direction} {row['prompt']!r}) with "
                f"different files ({edits[key].name} and {file.name}); keep one of them"
            )
    return edits


def edits_in_folder(folder: Path) -> dict[Key, Path]:
    """`<folder>/<prompt>/<image name>`, `<folder>/remove <prompt>/...`, and `<folder>/null/...` for null edits.

    Raises:
        EditorError: the folder is missing or holds no such subfolders.
    """
    edits = {}
    for sub in sorted(each for each in folder.glob("*") if each.is_dir()):
        direction, prompt = ("remove", sub.name[7:]) if sub.name.startswith("remove ") else ("add", sub.name)
        concepts = frozenset() if sub.name == "null" else frozenset([Concept(prompt, direction)])  # type: ignore[arg-type]
        edits.update({(file.name, concepts): file for file in sorted(sub.iterdir()) if not why_no_sample(file)})
    if not edits:
        raise EditorError(
            f"{folder}: there are no edits; put them into one folder for each prompt, under the sample images' names"
        )
    return edits
