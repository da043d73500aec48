"""Which of other pictures carry what a classifier leans on: as a page of contact sheets, and in a few lines."""

from __future__ import annotations

import html
from dataclasses import dataclass

from diffex_dagster.report.applied_model import Applied, AppliedFeature, AppliedRow
from diffex_dagster.report.html import render
from diffex_dagster.report.image_page import inline
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.wording import count, curly, digits_for, number, plain, share, signed, titled

FIRST = 24  # pictures of an attribute that are not folded away
MOST = 96  # on the page; all of them are in the table beside it

RISK = (
    "At risk: the decision about an image that shows the attribute would be another one if the attribute's effect over "
    "the study were taken away from its score. The further beyond the boundary that leads, the higher it stands. The "
    "effect is a mean: on one image the attribute may do more or less, which diffex explain finds out."
)
"""What the list means, for every place that shows it."""


@dataclass(frozen=True)
class Sheet:
    """One attribute with the pictures that show it."""

    number: int
    feature: AppliedFeature
    first: tuple[tuple[AppliedRow, int], ...]  # (row, number of its picture)
    more: tuple[tuple[AppliedRow, int], ...]
    left_out: int


def render_applied(found: Applied, budget: int = BUDGET) -> str:
    """One self-contained page without a script; it loads nothing from anywhere."""

    def sheets(book: Book) -> list[Sheet]:
        made = []
        limit = min(MOST, 4 * (book.fit.examples or MOST))
        for i, feature in enumerate(found.features):
            there = found.at_risk(feature.feature)
            shown = [(row, book.add(found.pictures[row.image])) for row in there[:limit]]
            made.append(Sheet(i, feature, tuple(shown[:FIRST]), tuple(shown[FIRST:]), len(there) - len(shown)))
        return made

    book, made = fitted(sheets, budget)
    return render(
        "applied.html.j2", book, [], script=None, a=found, sheets=made, sentences=sentences(found), risk=RISK,
        digits=_digits(found), error=judge_error(found), images=images_in_words(found), seen_in=seen_in,
        away=taken_away_in_words,
    )  # fmt: skip


def _digits(found: Applied) -> int:
    return digits_for(f.effect for f in found.features)


def sentences(found: Applied) -> list[str]:
    """What was found, in a few sentences: how many pictures carry what, and how many are at risk."""
    said = []
    for feature in found.features:
        if feature.carriers is None:
            continue
        name, of = titled(feature, 50), images_in_words(found)
        if feature.at_risk is None:
            said.append(f"“{name}” is seen in {feature.carriers} of {of}.")
            continue
        risk = "none of them is" if not feature.at_risk else (
            f"{feature.at_risk} of them {'is' if feature.at_risk == 1 else 'are'}")  # fmt: skip
        said.append(f"“{name}” is seen in {feature.carriers} of {of}; {risk} at risk.")
    if found.unread:
        said.append(f"{count(len(found.unread), 'file')} could not be read, and {_is(len(found.unread))} named below.")
    if found.left_out:
        said.append(f"Left out: {', '.join(plain(each, 80) for each in found.left_out)}.")
    return said


def images_in_words(found: Applied) -> str:
    """How many images shares are of: the different ones, where some are copies."""
    if found.different == found.images:
        return count(found.images, "image")
    return count(found.different, "different image")


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def judge_error(found: Applied) -> str:
    """How often the judge is known to be wrong on these pictures, in a sentence."""
    if found.control_words is None:
        return f"Which images show an attribute is said by {found.judge}."
    between = (
        f"{share(found.control_words)} of the questions ({share(found.control_low)} to {share(found.control_high)})"
    )
    if found.level_by == "images":
        return (
            f"Which images show an attribute is said by {found.judge}. It was not asked about the study's images, so "
            f"that its level is set on these, where it sees words that mean nothing in about one in ten: {between}."
        )
    study = found.level_by == "study"
    levels = " Its levels are the study's." if study else ""
    by = ", by the level of attributes of which too few of the study's edits succeeded," if study else ","
    return (
        f"Which images show an attribute is said by {found.judge}.{levels} Asked about words that mean nothing{by} it "
        f"sees them in {between}."
    )


def seen_in(feature: AppliedFeature) -> str:
    """How often the judge sees the attribute where the study's edits put it, in words; "–" where that is not known."""
    if feature.seen_in_edits is None:
        return "–"
    return f"{share(feature.seen_in_edits)} of {feature.edits_judged}"


def taken_away_in_words(feature: AppliedFeature, digits: int) -> str:
    """What taking the attribute away is expected to do, and how that is known."""
    how = "edits that take it away" if feature.removed else "minus the effect of putting it there"
    return f"{signed(feature.shift, digits)}, {how}"


def in_lines(found: Applied, shown: int = 5) -> str:
    """What was found, in ten lines or so."""
    digits = _digits(found)
    lines = [
        f"{plain(found.classifier)}, {curly(found.target)}, on {count(found.images, 'image')} of {plain(found.folder)}"
    ]
    lines += [f"look at this first: {plain(each, 240)}" for each in found.warnings]
    lines += [plain(each) for each in sentences(found)[:shown]]
    if found.features:
        first = found.features[0]
        lines += [
            f"{row.place:>4}  {plain(row.file, 60)}  {row_in_words(row, digits)}"
            for row in found.at_risk(first.feature)[:shown]
        ]
    lines.append("more: to_frame(), to_html(folder)")
    return "\n".join(lines)


def row_in_words(row: AppliedRow, digits: int) -> str:
    """A picture's score, what would be left of it, and what that means."""
    if row.after is None:
        return number(row.score, digits)
    change = "" if row.changes is None else (", decided otherwise" if row.changes else ", decided the same")
    return f"{number(row.score, digits)} → {number(row.after, digits)}{change}"


def as_html(found: Applied, shown: int = 8) -> str:
    """The attributes as an HTML table, each with the pictures most at risk, for a notebook."""
    digits = _digits(found)
    first = "".join(f"<p><b>Look at this first.</b> {_safe(each)}</p>" for each in found.warnings)
    said = "".join(f"<p>{_safe(each)}</p>" for each in sentences(found))
    parts = []
    for feature in found.features:
        there = found.at_risk(feature.feature)[:shown]
        cells = "".join(
            f"<td>{inline(found.pictures[row.image], row.file)}<br>{_safe(plain(row.file.split('/')[-1], 40))}<br>"
            f"{_safe(row_in_words(row, digits))}</td>"
            for row in there
        )
        if there:
            title = f"{_safe(titled(feature, 60))}, without it {_safe(taken_away_in_words(feature, digits))}"
            parts.append(f"<p><b>{title}</b></p><table><tr>{cells}</tr></table>")
    return f"<div>{first}{said}{''.join(parts)}<p>{_safe(RISK)}</p></div>"


def _safe(text: str) -> str:
    return html.escape(plain(text))
