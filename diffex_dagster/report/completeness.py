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
FAR = 0.2  # a difference of two scores that is worth a sentence, where their intervals do not meet
DRAWS_LESS, OVERLAPS = 1.5, 0.67  # scales beyond which there is something to say


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
    recall = [said for said in [_recall(found)] if said]
    if found.varies is False:
        return [f"There is nothing to explain of {plain(explanation.classifier)}: {plain(found.why)}.", *recall]
    if found.score is None:
        unknown = f"How much of what {plain(explanation.classifier)} says is explained is not known"
        return [f"{unknown}: {plain(found.why)}.", *recall]
    of = f"how the {measured(explanation)} varies over the {count(found.images, 'image')}{_by(found)}"
    said = [
        f"What the images show, with what the edits did, explains {share(found.score)} of {of}, each predicted from "
        f"the others (95% interval {share(found.low)} to {share(found.high)})."
    ]
    beside = (_part(found, len(explanation.features)), _scale(found), _fitted(found), _ceiling(found), _judge(found))
    return said + [each for each in beside if each] + recall


def _by(found: Completeness) -> str:
    """How much that is, and by how much the prediction misses: a share of little is little."""
    if found.missed is None:
        return ""
    misses = f"the prediction misses by {found.missed:.2g}, root mean square"
    return f" by {found.spread:.2g} (standard deviation; {misses})"


def _part(found: Completeness, scored: int) -> str:
    """How many of the scored features the score is of."""
    if found.features >= scored:
        return f"{_all(found.features)} a part in it."
    return (
        f"{found.features} of the {count(scored, 'scored feature')} {'has' if found.features == 1 else 'have'} a part "
        "in it: of the others, edits failed, or nobody knows which images show them."
    )


def _all(features: int) -> str:
    return "The one scored feature has" if features == 1 else f"All {features} scored features have"


def _scale(found: Completeness) -> str:
    """How far the outputs move for what the effects add up to, and what that may come of."""
    if found.scale is None:
        return ""
    if found.scale == 0:
        return "The effects of the edits add up to the same for all images."
    said = f"The outputs differ {number(found.scale, 2)} times as much as the effects of the edits add up to"
    if found.scale > DRAWS_LESS:
        return f"{said}: the edits may draw less than the attribute, or something else goes along with it."
    if found.scale < OVERLAPS:
        return f"{said}: effects may overlap, or something that goes along with the features works against them."
    return f"{said}."


def _fitted(found: Completeness) -> str:
    """Where outputs go along with what images show more than the edits account for, and what that can mean."""
    if found.fitted is None or found.score is None:
        return ""
    beside = f"A regression on what the images show, which knows nothing of edits, explains {share(found.fitted)}"
    beside += _interval(found.fitted_low, found.fitted_high)
    if not _clearly_above(found.fitted, found.fitted_low, found.score, found.high):
        return f"{beside}."
    if found.scale is not None and found.scale > DRAWS_LESS:
        return (
            f"{beside}: outputs go along with features by more than their edits do, because edits draw too little of "
            "them or because the features do not cause it."
        )
    return f"{beside}: outputs go along with features that, by the edits, do not cause them."


def _ceiling(found: Completeness) -> str:
    """Where an embedding of the images tells more of the outputs than all that the corpus names."""
    if found.ceiling is None or found.score is None:
        return f"The ceiling was not measured: {plain(found.ceiling_why)}." if found.ceiling_why else ""
    beside = f"One on an embedding of the images ({plain(found.ceiling_by, 60)}) explains {share(found.ceiling)}"
    beside += _interval(found.ceiling_low, found.ceiling_high)
    named = [(found.score, found.high), (found.fitted or 0.0, found.fitted_high)]
    if all(_clearly_above(found.ceiling, found.ceiling_low, score, high) for score, high in named):
        return f"{beside}: the images show more that matters than the corpus names."
    return f"{beside}."


def _judge(found: Completeness) -> str:
    """Whether the judge was taken at its word."""
    if found.corrected is not False:
        return ""
    return "Which images show what is the judge’s word as it is: how often it errs is not known."


def _recall(found: Completeness) -> str:
    """How much of what matters the corpus names, where the images' world knows; a count of all, so of no interval."""
    if found.recall is None:
        return f"Corpus recall is not known: {plain(found.recall_why)}." if found.recall_why else ""
    strongest = "attribute" if found.recall_of == 1 else f"{found.recall_of} attributes"
    has = found.recall_of - len(found.missing)
    said = f"Of the {strongest} with the largest true effects on these images, the corpus names {has or 'none'}"
    lacks = listing([f"“{plain(name, 40)}”" for name in found.missing])
    return f"{said} (corpus recall {share(found.recall)})" + (f"; it lacks {lacks}." if lacks else ".")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({share(low)} to {share(high)})"


def _clearly_above(score: float, low: float | None, other: float, high: float | None) -> bool:
    """Whether a score is far above another one and their intervals do not meet; not where an interval is unknown."""
    return low is not None and high is not None and score - other > FAR and low > high


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
