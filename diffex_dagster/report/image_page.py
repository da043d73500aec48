"""One picture as one page: what each feature does to it, what flips it, and what is noise."""

from __future__ import annotations

import base64
import html
import io
import math

from PIL import Image

from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.errors import StoreError
from diffex_dagster.report.axis import axis_over
from diffex_dagster.report.html import render
from diffex_dagster.report.image_model import FlipSet, ImageFeature, ImageFinding
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.wording import (
    REDRAWS,
    UNSAID,
    capitalised,
    count,
    curly,
    digits_for,
    glyph,
    listing,
    number,
    plain,
    signed,
    titled,
)
from diffex_dagster.results import Picture, opened

SETS = 4  # sets that flip shown with their pictures
FIRST = 12  # features of the page that are not folded away
SHOWN = 8  # features, as text or in a notebook


def sentences(f: ImageFinding) -> list[str]:
    """What the page says first: what the picture is taken for, what flips it, what moves it."""
    digits = _digits(f)
    taken = f"taken for {f.decision}, with " if f.decision.startswith("“") else ""
    found = [f"This picture is {taken}a {curly(f.target)} of {number(f.score_null, digits)}." if taken else
             f"This picture has {_article(f.target)} {curly(f.target)} of {number(f.score_null, digits)}"
             f"{f', {f.decision}' if f.decision else ''}."]  # fmt: skip
    found.append(flip_in_words(f))
    claimed = [x for x in f.features if x.verdict in CLAIMS]
    tested = [x for x in f.features if x.verdict not in UNSAID]
    if claimed:
        first = claimed[0]
        found.append(
            f"{count(len(claimed), 'feature')} of {len(tested)} that could be tried "
            f"{'moves' if len(claimed) == 1 else 'move'} it beyond the noise of its own edits, “{titled(first)}” most "
            f"({signed(first.effect, digits)})."
        )
    elif tested:
        found.append(f"None of {count(len(tested), 'feature')} that could be tried moves it beyond the noise.")
    return found


def flip_in_words(f: ImageFinding) -> str:
    """The smallest set of edits that flips the decision, as a sentence; or that nothing does."""
    if not f.flips:
        return f.no_flip
    best, others, digits = f.flips[0], len(f.flips) - 1, _digits(f)
    named = listing([f"“{name}”" for name in best.names])
    change = f"{number(best.score_before, digits)} → {number(best.score_after, digits)}"
    if len(best.features) == 1:
        more = f"; so it does with {count(others, 'other feature')}" if others else ""
        return f"{capitalised(best.decision)} with {named} alone ({change}){more}."
    also = f"; {count(others, 'other set')} of {len(best.features)} does so too" if others == 1 else (
        f"; {others} other sets of {len(best.features)} do so too" if others else "")  # fmt: skip
    return (
        f"No single feature of this corpus flips it. {capitalised(best.decision)} with {named} together "
        f"({change}){also}.{_weakly_held(f)}"
    )


def held_in_words(f: ImageFinding) -> str:
    """What sets of several features were held against, and what that says; "" of single ones, and without controls."""
    if not f.flips or len(f.flips[0].features) == 1 or not f.flips[0].controls:
        return ""
    size, held = len(f.flips[0].features), f.flips[0]
    if held.controls < 2:
        rule = "One control edit says nothing of noise, so that each set was only seen to flip the picture."
    elif held.words == 1:
        rule = "Each lies further out than they do, which is weak evidence: a set redraws more than a single edit."
    elif held.controls < f.least_controls:
        rule = (
            f"Each lies further out than all of them: by chance that happens in one of {held.controls + 1} cases where "
            "a set changes the picture no more than they do."
        )
    else:
        rule = (
            f"A set that changes the picture no more than they do passes with a chance of {100 * f.level:g}% at most."
        )
    words = "a single control prompt" if held.words == 1 else f"{size} control prompts together"
    return (
        f"These sets are held against {count(held.controls, 'edit')} towards {words}. {rule} This is about one set, "
        f"and {count(f.sets, 'set')} were tried. That a set flips this picture was seen; that its attributes do is not "
        "certain, for words that mean something may redraw more than control prompts do."
    )


def _weakly_held(f: ImageFinding) -> str:
    """That a set of several features was held against less than a claim needs, as a further sentence."""
    held, size = f.flips[0], len(f.flips[0].features)
    if not held.controls:
        return ""
    if held.words == 1:
        return f" No edits of {size} control prompts together are there: it was held against single ones only."
    if held.controls < f.least_controls:
        against = f"{count(held.controls, 'set')} of {size} control prompts"
        return f" It was held against {against}, and {f.least_controls} are needed to claim anything."
    return ""


def render_image(f: ImageFinding, report: str = "", budget: int = BUDGET) -> str:
    """One self-contained page without a script; it loads nothing from anywhere.

    Args:
        report: address of the classifier's report, relative to the page; "" for none.
    """
    moving = [x for x in f.features if x.verdict in (*CLAIMS, "inconclusive", "too small to matter")]
    shown, more = moving[:FIRST], moving[FIRST:]
    rest = [x for x in f.features if x not in moving]

    def numbered(book: Book) -> dict[str, list[int]]:
        def of(pictures: list[Picture]) -> list[int]:
            return [book.add(picture) for picture in pictures]

        return {
            "first": of([f.original, f.null]),
            "flips": of([x.edit for x in f.flips[:SETS]]),
            "unseen": of([x.edit for x in f.unseen]),
            "shown": of([x.edit for x in shown]),
            "more": of([x.edit for x in more]),
            "rest": of([x.edit for x in rest]),
        }

    book, numbers = fitted(numbered, budget)
    d = [value for _, value in f.controls]
    mean = sum(d) / len(d) if d else 0.0
    noise = max((abs(value - mean) for value in d), default=0.0)
    values = [v for x in f.features for v in (x.effect, x.low, x.high, x.study_effect, x.study_low, x.study_high)]
    return render(
        "image.html.j2", book, [], script=None, f=f, numbers=numbers, sentences=sentences(f),
        shown=shown, more=more, rest=rest,
        axis=axis_over([v for v in values if v is not None and math.isfinite(v)]), noise=noise, digits=_digits(f),
        sets=f.flips[:SETS], held=held_in_words(f), report=report, many=len(f.features), has_study=f.study_images > 0,
        verdicts=list(dict.fromkeys(x.verdict for x in (*moving, *rest))), seeds=f.seeds,
    )  # fmt: skip


def in_lines(f: ImageFinding, shown: int = SHOWN) -> str:
    """What was found of one picture, in ten lines or so."""
    digits = _digits(f)
    lines = [f"{plain(f.file, 60)}, {plain(f.classifier)}: {curly(f.target)} {number(f.score_null, digits)}"
             f"{f', {f.decision}' if f.decision else ''}", flip_in_words(f)]  # fmt: skip
    lines += [f"look at this first: {plain(warning, 200)}" for warning in f.warnings]
    width = max((len(titled(x, 40)) for x in f.features[:shown]), default=0)
    for x in f.features[:shown]:
        over = "" if x.study_effect is None else f"  (over the study {_over_the_study(x, digits)})"
        lines.append(f"{x.rank:>3}  {titled(x, 40):<{width}}  {_effect(x, digits)}  {x.verdict}{_mark(x)}{over}")
    if len(f.features) > shown:
        lines.append(f"     and {len(f.features) - shown} more: to_frame(), to_html(file)")
    return "\n".join(lines)


def as_html(f: ImageFinding, shown: int = SHOWN) -> str:
    """The same as an HTML table with pictures, for a notebook."""
    digits = _digits(f)
    first = "".join(f"<p>{html.escape(plain(each))}</p>" for each in (*f.warnings, *sentences(f)))
    best: list[FlipSet] = list(f.flips[:1])
    pictures = [("null edit", f.null), *((" + ".join(x.names), x.edit) for x in best)]
    strip = "".join(f"<td>{inline(p, name)}<br>{html.escape(plain(name, 60))}</td>" for name, p in pictures)
    headings = "".join(f"<th>{each}</th>" for each in ("", "feature", "effect", "verdict", "over the study", "edit"))
    rows = "".join(
        f"<tr><td>{x.rank}</td><td>{html.escape(titled(x, 50))}</td><td>{_effect(x, digits)}</td>"
        f"<td>{glyph(x.verdict)} {html.escape(x.verdict + _mark(x))}</td>"
        f"<td>{html.escape(_over_the_study(x, digits))}</td>"
        f"<td>{inline(x.edit, titled(x, 50))}</td></tr>"
        for x in f.features[:shown]
    )
    return (
        f"<div>{first}<table><tr>{strip}</tr></table><table><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def _mark(x: ImageFeature) -> str:
    return f" ({REDRAWS})" if x.redraws and x.verdict in CLAIMS else ""


def _over_the_study(x: ImageFeature, digits: int) -> str:
    return signed(x.study_effect, digits) + (f", {plain(x.study_mark)}" if x.study_mark else "")


def _effect(x: ImageFeature, digits: int) -> str:
    return f"{signed(x.effect, digits)} [{signed(x.low, digits)}, {signed(x.high, digits)}]"


def _digits(f: ImageFinding) -> int:
    return digits_for(x.effect for x in f.features)


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"


def inline(picture: Picture, alt: str) -> str:
    """A small picture as HTML, for a notebook; "" where its file is gone."""
    try:
        small = opened(picture).convert("RGB")
    except (OSError, StoreError):  # its file is gone
        return ""
    small.thumbnail((64, 64), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(plain(alt, 60))}" src="data:image/png;base64,{data}">'
