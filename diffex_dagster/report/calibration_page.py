"""What calibration tried and chose, as one page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffex_dagster.report.html import render
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.results import Picture


@dataclass(frozen=True)
class Tried:
    """One setting, over all prompts that it was tried with.

    Attributes:
        name: in words.
        tries, succeeded: how many edits, and how many of them show their attribute.
        harm: the mean of how much they changed, 0 to 1.
        final: whether every prompt was to be tried with it.
        chosen: how many prompts are edited with it, chosen by the same rule.
        earlier: whether these tries were made and judged by an earlier rule.
    """

    name: str
    tries: int
    succeeded: int
    harm: float
    final: bool
    chosen: int
    earlier: bool = False


@dataclass(frozen=True)
class Shot:
    """One edit that was tried: its picture, setting in words, and what came of it; `chosen` for the setting in use."""

    picture: Picture
    name: str
    succeeded: bool
    harm: float
    chosen: bool


@dataclass(frozen=True)
class Prompt:
    """One prompt: what it is edited with and why, and its tries on one image beside that image's null edit.

    `earlier` says that its options were chosen by an earlier rule.
    """

    prompt: str
    direction: str
    group: str
    setting: str
    success: float | None
    tries: int
    why: str
    null: Picture | None
    shots: tuple[Shot, ...]
    earlier: bool = False


@dataclass(frozen=True)
class CalibrationPage:
    """A study's calibration.

    Attributes:
        study, editor: their names.
        images: how many images it was done on.
        budget, made: edits that the last calibration was allowed, and that it made.
        edits: of the study, apart from joint ones: what a search of one classifier makes at most.
        note: why nothing was tried, where nothing was; else "".
        settings: the most used first.
        prompts: in the order of the corpus.
    """

    study: str
    editor: str
    images: int
    budget: int
    made: int
    edits: int
    note: str
    settings: Sequence[Tried]
    prompts: Sequence[Prompt]

    @property
    def earlier(self) -> bool:
        """Whether any of it is of an earlier rule."""
        return any(each.earlier for each in self.settings) or any(each.earlier for each in self.prompts)


def render_calibration(found: CalibrationPage, budget: int = BUDGET) -> str:
    """One self-contained page without a script; it loads nothing from anywhere."""

    def numbered(book: Book) -> list[list[int]]:
        return [
            [*([] if p.null is None else [book.add(p.null)]), *(book.add(shot.picture) for shot in p.shots)]
            for p in found.prompts
        ]

    book, numbers = fitted(numbered, budget)
    return render("calibration.html.j2", book, [], script=None, c=found, numbers=numbers)
