"""How much the features explain, in sentences: what a report's head says, in HTML and Markdown alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffex_dagster.report.pictures import Book
from diffex_dagster.report.wording import count, digits_for, listing, measured, number, plain, share
from diffex_dagster.results import Completeness, Report, Unexplained

NOT_MEANT = (
    "It is no share of the causes that were found. It speaks of these images as they are: what none of them shows, or "
    "all of them, has no part in it, however much the classifier leans on it; and effects that differ from image to "
    "image, or that only act together, are lost on it."
)
SHOWN = 6  # images that are explained least
FAR = 0.2  # a difference of two scores that is worth a sentence


@dataclass(frozen=True)
class Line:
    """One image that is badly explained, for a table."""

    picture: int | None  # its number in the book
    file: str
    score: str
    predicted: str
    shows: str


def completeness_sentences(explanation: Report) -> list[str]:
    """What is explained, how sure that is, and what stands beside it; nothing of a report from before it."""
    found = explanation.completeness
    if found is None:
        return []
    if found.score is None:
        return [f"How much of what {plain(explanation.classifier)} says is explained is not known: {plain(found.why)}."]
    of = f"how the {measured(explanation)} varies over the {count(found.images, 'image')}"
    said = [
        f"What the images show, with what the edits did, explains {share(found.score)} of {of} (95% interval "
        f"{share(found.low)} to {share(found.high)}), each predicted from the others."
    ]
    return said + [each for each in (_fitted(found), _ceiling(found)) if each]


def _fitted(found: Completeness) -> str:
    """Where outputs go along with what images show more than, or less than, the edits account for."""
    if found.fitted is None or found.score is None:
        return ""
    beside = f"A regression on what the images show, which knows nothing of edits, explains {share(found.fitted)}"
    if found.fitted - found.score > FAR:
        return f"{beside}: outputs go along with features that, by the edits, do not cause them."
    return f"{beside}."


def _ceiling(found: Completeness) -> str:
    if found.ceiling is None or found.score is None:
        return ""
    beside = f"One on an embedding of the images ({plain(found.ceiling_by, 60)}) explains {share(found.ceiling)}"
    if found.ceiling - found.score > FAR:
        return f"{beside}: the images show more that matters than the corpus names."
    return f"{beside}."


def least_lines(found: Completeness, book: Book | None = None) -> list[Line]:
    """The images that are explained least, one line each.

    Args:
        book: takes their pictures.
    """
    some = found.least_explained[:SHOWN]
    digits = digits_for(x for each in some for x in (each.score, each.predicted))

    def line(each: Unexplained) -> Line:
        picture = book.add(each.picture) if book and each.picture is not None else None
        return Line(picture, plain(each.file or each.image, 60), number(each.score, digits),
                    number(each.predicted, digits), in_words(each))  # fmt: skip

    return [line(each) for each in some]


def in_words(each: Unexplained, most: int = 6) -> str:
    """What an image shows, by the judge."""
    names = [plain(name, 40) for name in each.shows]
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return listing([*names[:most], *more]) if names else "none of the features"


def for_template(explanation: Report, book: Book) -> dict[str, Any] | None:
    """What the page shows of it; None for a report from before it."""
    found = explanation.completeness
    if found is None:
        return None
    return {
        "sentences": completeness_sentences(explanation),
        "known": found.score is not None,
        "not_meant": NOT_MEANT,
        "least": least_lines(found, book),
    }
