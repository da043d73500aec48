"""The report of one classifier version as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffex_dagster.report.axis import Axis, axis_over
from diffex_dagster.report.completeness import for_template
from diffex_dagster.report.examples import Failures, entry, sections, typical
from diffex_dagster.report.gallery import gallery
from diffex_dagster.report.heatmap import overlay
from diffex_dagster.report.html import as_data, render
from diffex_dagster.report.matrix import matrix
from diffex_dagster.report.pictures import BUDGET, Book, fitted
from diffex_dagster.report.verdict import one_a_group, verdict
from diffex_dagster.report.wording import digits_for, mixed_in_words, titled, unjudged
from diffex_dagster.results import (
    Attribution,
    Example,
    Group,
    JointCombination,
    RankedFeature,
    Report,
)

HIGHLIGHTS = 3  # features shown large beside the verdict
FEW_CLASSES = 6  # more are folded


@dataclass(frozen=True)
class Row:
    """One feature on the page."""

    number: int  # its anchor and its place in the data block
    feature: RankedFeature
    typical: dict[str, Any] | None  # the example that stands for it
    has_pictures: bool


@dataclass(frozen=True)
class Branch:
    """One level-1 group of the hierarchy, with the rows under it."""

    name: str
    group: Group | None  # None: ranked features name a group that the corpus does not list
    rows: tuple[Row, ...]


_Written = Callable[[Example], dict[str, Any]]
"""An example for the script."""


@dataclass(frozen=True)
class _Pictures:
    rows: tuple[Row, ...]
    highlights: list[Row]
    attributions: list[dict[str, Any]]
    joint: int | None  # place of the joint combination in the data block
    completeness: dict[str, Any] | None  # what is explained, and the images that are explained least
    data: list[dict[str, Any]]
    shown: int  # examples on the page
    total: int  # examples there are


def render_report(explanation: Report, budget: int = BUDGET) -> str:
    """One self-contained page: no network, every picture embedded once, under 5 MB.

    Pictures that do not fit are made smaller, then features show fewer of their images (the page says so).
    """
    digits = digits_for(feature.effect for feature in explanation.features)
    failures = Failures()
    every = gallery(explanation, digits, budget)
    budget -= every.size if every else 0
    book, pictures = fitted(lambda book: _pictures(explanation, book, digits, failures), budget)
    rows = pictures.rows
    features = explanation.features
    together = explanation.joint.features if explanation.joint else ()
    joint_rows = [row for row in rows if row.feature.feature in together]
    return render(
        "report.html.j2",
        book,
        pictures.data,
        script="page.js gallery.js" if every else "page.js",
        gallery=every,
        gallery_data=as_data(every.data) if every else "",
        e=explanation,
        verdict=verdict(explanation),
        completeness=pictures.completeness,
        unjudged=unjudged(explanation.caveats),
        rows=rows,
        highlights=pictures.highlights,
        branches=_branches(explanation.groups, rows),
        joint_number=pictures.joint,
        attributions=pictures.attributions,
        matrix=matrix(features, explanation.side_effects),
        by_feature={row.feature.feature: row for row in rows},
        subgroups={
            f.feature: of for f in features if (of := [x for x in explanation.subgroups if x.feature == f.feature])
        },
        told_apart={
            f.feature: mixed_in_words([x for x in explanation.subgroups if x.feature == f.feature], digits)
            for f in features
        },
        pair_digits=digits_for(x.effect for x in explanation.interactions),
        axis=_axis(features, explanation.noise_floor),
        joint_rows=joint_rows,
        joint_axis=_axis([row.feature for row in joint_rows], 0.0, explanation.joint),
        digits=digits,
        control_digits=max(digits, digits_for(x for c in explanation.controls for x in (c.against_null, c.effect))),
        shown=pictures.shown,
        total=pictures.total,
        decisions=_tally(feature.decision for feature in features),
        group_names=sorted({feature.group for feature in features}, key=str.lower),
        has_success=any(feature.edit_success is not None for feature in features),
        has_presence=any(feature.prevalence is not None for feature in features),
        has_ssim=any(feature.ssim is not None for feature in features),
        has_lpips=any(feature.lpips is not None for feature in features),
        has_mask=any(feature.inside_mask is not None for feature in features),
        few=FEW_CLASSES,
        flips_count=len(explanation.labels) > 1 or explanation.turn is not None,
    )


def _axis(features: Sequence[RankedFeature], noise: float, joint: JointCombination | None = None) -> Axis:
    shown: list[RankedFeature | JointCombination] = [*features, *([joint] if joint else [])]
    return axis_over([*(x for f in shown for x in (f.ci_low, f.ci_high, f.effect)), noise, -noise])


def _pictures(explanation: Report, book: Book, digits: int, failures: Failures) -> _Pictures:
    def written(example: Example) -> dict[str, Any]:
        return entry(example, book, digits, failures, explanation.turn)

    rows, data, shown, total = [], [], 0, 0
    for number, feature in enumerate(explanation.features):
        examples = explanation.examples.get(feature.feature, ())
        strips = sections(examples, feature.effect, book.fit.examples, failures)
        block, kept = _block(titled(feature, None), examples, strips, book.fit.examples, written)
        example = typical(examples, feature.magnitude if feature.decision == "mixed" else feature.effect, failures)
        data.append(block)
        shown, total = shown + kept, total + len(examples)
        rows.append(Row(number, feature, written(example) if example else None, bool(examples)))
    joint = None
    if explanation.joint and explanation.joint.examples:
        joint = len(data)
        name = " + ".join(explanation.joint.names)
        ordered = sorted(explanation.joint.examples, key=lambda example: -example.effect)
        strips = sections(ordered, explanation.joint.effect, book.fit.examples, failures)
        block, kept = _block(name, ordered, strips, book.fit.examples, written)
        data.append(block)
        shown, total = shown + kept, total + len(ordered)
    highlights = _highlights(explanation, rows, failures, written)
    seen, least = _attributions(explanation.attributions, book), for_template(explanation, book)
    return _Pictures(tuple(rows), highlights, seen, joint, least, data, shown, total)


def _attributions(found: Sequence[Attribution], book: Book) -> list[dict[str, Any]]:
    """Grad-CAM for the template: the numbers, and four pictures under one scale of colours."""
    shown = []
    for each in found:
        if (x := each.example) is not None:
            highest = float(max(x.null_map.max(), x.edit_map.max()))
            pairs = [(x.null, x.null_map), (x.edit, x.edit_map)]
            pictures = [p for picture, heat in pairs for p in (picture, overlay(picture, heat, highest))]
            shown.append({"found": each, "pictures": [book.add(picture) for picture in pictures]})
    return shown


def _highlights(explanation: Report, rows: Sequence[Row], failures: Failures, written: _Written) -> list[Row]:
    """The rows to show large, each with a typical image of its own."""
    by_feature = {row.feature.feature: row for row in rows}
    shown: list[Row] = []
    used: list[str] = []
    for feature in one_a_group(explanation.features):
        examples = explanation.examples.get(feature.feature, ())
        mean = feature.magnitude if feature.decision == "mixed" else feature.effect
        example = typical(examples, mean, failures, but=used)
        if example and len(shown) < HIGHLIGHTS:
            used.append(example.image)
            shown.append(replace(by_feature[feature.feature], typical=written(example)))
    return shown


def _block(
    name: str,
    examples: Sequence[Example],
    strips: Sequence[tuple[str, Sequence[int]]],
    most: int | None,
    written: _Written,
) -> tuple[dict[str, Any], int]:
    """A feature's examples for the script, and how many of them the page holds: those of `strips` if above `most`."""
    chosen: Sequence[int] = range(len(examples))
    if most is not None and len(examples) > most:
        chosen = sorted({i for _, indices in strips for i in indices})
    place = {index: position for position, index in enumerate(chosen)}
    block = {
        "name": name,
        "items": [written(examples[i]) for i in chosen],
        "parts": [[title, [place[i] for i in indices]] for title, indices in strips],
        "total": len(examples),
    }
    return block, len(chosen)


def _branches(groups: Sequence[Group], rows: Sequence[Row]) -> list[Branch]:
    """The corpus's groups in the order of their strongest feature, kept ones first; unlisted groups at the end."""
    under: dict[str, list[Row]] = {}
    for row in rows:
        under.setdefault(row.feature.group, []).append(row)
    listed = [Branch(group.name, group, tuple(under.pop(group.name, ()))) for group in groups]
    listed += [Branch(name, None, tuple(found)) for name, found in under.items()]
    return sorted(
        listed,
        key=lambda b: (
            b.group is not None and not b.group.kept,
            -max([b.group.magnitude or 0.0 if b.group else 0.0, *(row.feature.magnitude for row in b.rows)]),
        ),
    )


def _tally(values: Any) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts.items())
