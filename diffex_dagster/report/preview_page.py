"""The preview of an editor as one page: what it does to a few images, and what the judge says of each edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffex_dagster.report.html import render
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.results import Picture


@dataclass(frozen=True)
class Shown:
    """One edit as the preview shows it.

    Attributes:
        picture: the edit.
        strength: how far it changed its null edit where it changed it most, 0 to 1 (`effects.edit_metrics`).
        ssim: structural similarity of edit and null edit, 1 for equal pictures.
        gain: how much more it shows its attribute than the null edit does, in the judge's evidence; None unjudged.
        shows: whether that is more than chance and the picture changed; by the change alone where nobody judges.
            One that shows the attribute already gains nothing.
        other: the previewed feature of another group that it shows most of, at least a quarter of that one's own gain.
    """

    picture: Picture
    strength: float
    ssim: float
    gain: float | None
    shows: bool
    other: str | None


@dataclass(frozen=True)
class Row:
    """One feature, or one setting of a grid: its edits, in the order of the images.

    Attributes:
        options: what a feature is edited with, in words; empty where every feature has the editor's own options.
    """

    name: str
    prompt: str
    edits: tuple[Shown, ...]
    options: str = ""


@dataclass(frozen=True)
class Preview:
    """What the editor does to a few images.

    Attributes:
        study, editor: their names.
        options: the editor's own options that a person may choose, name -> value; empty for other kinds, and where
            no edit was made with them.
        images: names of the images.
        originals, nulls: the prepared pictures and their null edits, one for each image.
        rows: one for each feature.
        grid: rows of one feature under other options; empty unless asked for.
        judged: whether somebody judged the edits; else `note` says why not.
        made, reused: how many edits were made now, and how many were there.
        source_prompts: in what words pictures are described, as a sentence; empty where they are not.
        uncalibrated: of which features a run would first find the options, in sentences; empty where of none.
    """

    study: str
    editor: str
    options: Mapping[str, object]
    images: tuple[str, ...]
    originals: tuple[Picture, ...]
    nulls: tuple[Picture, ...]
    rows: tuple[Row, ...]
    grid: tuple[Row, ...]
    judged: bool
    note: str
    made: int
    reused: int
    source_prompts: str = ""
    uncalibrated: str = ""


def render_preview(found: Preview, budget: int = BUDGET) -> str:
    """One self-contained page without a script; it loads nothing from anywhere."""

    def numbered(book: Book) -> dict[str, list[list[int]]]:
        def rows(some: tuple[Row, ...]) -> list[list[int]]:
            return [[book.add(each.picture) for each in row.edits] for row in some]

        firsts = [[book.add(picture) for picture in some] for some in (found.originals, found.nulls)]
        return {"firsts": firsts, "rows": rows(found.rows), "grid": rows(found.grid)}

    book, numbers = fitted(numbered, budget)
    return render("preview.html.j2", book, [], script=None, p=found, numbers=numbers)
