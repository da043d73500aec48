"""An explanation in a few lines of text, and as a table with pictures for a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from diffex_dagster.errors import StoreError
from diffex_dagster.report.gallery import ALREADY, FAILED, FLIP, gallery
from diffex_dagster.report.wording import confounder, count, digits_for, flips, glyph, plain, signed, titled
from diffex_dagster.results import Example, RankedFeature, Report, opened

SHOWN = 8  # features; with the heading and what is left out, ten lines
WIDE, LONG = 8, 24  # features and images of the heat map
_SIDE = 64  # pixels of a picture in a table


def in_lines(explanation: Report, shown: int = SHOWN) -> str:
    """What was explained, and the strongest features: ten lines at most."""
    features, first = explanation.features, [*explanation.warnings, *explanation.hints]
    shown -= bool(first)
    digits = digits_for(f.effect for f in features[:shown])
    lines = [
        f"{plain(explanation.classifier)}, {plain(explanation.target)} on {count(explanation.images, 'image')}: "
        f"{len(features)} feature{'' if len(features) == 1 else 's'}"
    ]
    lines += [f"look at this first: {plain(first[0], 160)}"] if first else []
    width = max((len(_named(f)) for f in features[:shown]), default=0)
    lines += [
        f"{f.rank:>3}  {_named(f):<{width}}  {signed(f.effect, digits)} [{signed(f.ci_low, digits)}, "
        f"{signed(f.ci_high, digits)}]  {_decided(f)}"
        for f in features[:shown]
    ]
    if len(features) > shown:
        lines.append(f"     and {len(features) - shown} more: to_frame(), plot(), to_html(folder)")
    return "\n".join(lines)


def as_html(explanation: Report, shown: int = SHOWN) -> str:
    """The strongest features as an HTML table, each with the image that it moved most: before and after the edit."""
    features = explanation.features[:shown]
    digits = digits_for(f.effect for f in features)
    rows = "".join(_row(f, explanation.examples.get(f.feature, ()), digits) for f in features)
    note = _not_shown(len(explanation.features) - len(features), "feature")
    headings = "".join(
        f"<th>{each}</th>" for each in ("", "feature", "effect", "interval", "flips", "decision", "before", "after")
    )
    first = "".join(
        f"<p><b>Look at this first.</b> {_safe(each)}</p>" for each in (*explanation.warnings, *explanation.hints)
    )
    title = f"<b>{_safe(explanation.classifier)}</b>: {_safe(explanation.target)}, {count(explanation.images, 'image')}"
    return (
        f"<div>{first}<p>{title}</p><table><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>{note}"
        f"{_every_image(explanation, digits)}</div>"
    )


def _every_image(explanation: Report, digits: int) -> str:
    """The heat map of the report's gallery as a table, folded: a row an image, those that are alike together.

    Of many images those are shown that move furthest under the features that are shown, not one end of an order in
    which likes stand together: that would be images of one kind.
    """
    shots = explanation.gallery
    if shots is None or not explanation.per_image:
        return ""
    found = gallery(explanation, digits, pictures=False, top=WIDE, most=LONG)
    if found is None:
        return ""
    data, columns = found.data, range(found.features)
    heads = "".join(f"<th>{_safe(data['features'][j]['n'])}</th>" for j in columns)
    lines = []
    for i in data["alike"][0]:
        cells = "".join(_cell(data["effects"][i][j], data["flags"][i][j], found.peak, digits) for j in columns)
        lines.append(f"<tr><th>{_safe(data['images'][i]['n'])}</th>{cells}</tr>")
    left = found.of - found.images
    note = f"<p>The {count(found.images, 'image')} that move furthest.</p>{_not_shown(left, 'image')}" if left else ""
    return (
        f"<details><summary>Every image</summary><table><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{note}</details>"
    )


def _not_shown(left: int, noun: str) -> str:
    if not left:
        return ""
    verb, them = ("is", "it") if left == 1 else ("are", "them")
    return f"<p>{count(left, f'more {noun}')} {verb} not shown: <code>to_html(folder)</code> has {them}.</p>"


def _cell(effect: float, flags: int, peak: float, digits: int) -> str:
    """An effect on one image: orange raises, blue lowers; none where the image was so already, which no mean counts."""
    if flags & ALREADY:
        return "<td>was so already</td>"
    strength = min(1.0, abs(effect) / peak) if peak else 0.0
    colour = "184,71,11" if effect > 0 else "28,99,153"
    also = (" ●" if flags & FLIP else "") + (" edit failed" if flags & FAILED else "")
    return f'<td style="background:rgba({colour},{0.6 * strength:.2f})">{signed(effect, digits)}{also}</td>'


def _row(feature: RankedFeature, examples: Sequence[Example], digits: int) -> str:
    example = max(examples, key=lambda each: abs(each.effect), default=None)
    cells = (
        str(feature.rank),
        _safe(_named(feature)),
        signed(feature.effect, digits),
        f"{signed(feature.ci_low, digits)} to {signed(feature.ci_high, digits)}",
        _safe(flips(feature)),
        f"{glyph(feature.decision)} {_safe(_decided(feature))}",
        _picture(example, "before"),
        _picture(example, "after"),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _picture(example: Example | None, which: str) -> str:
    if example is None:
        return ""
    try:
        picture = opened(example.null if which == "before" else example.edit).convert("RGB")
    except (OSError, StoreError):  # they were kept only while the function ran
        return ""
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    score = example.score_null if which == "before" else example.score_edit
    return f'<img alt="{which} the edit" src="data:image/png;base64,{data}"><br>{score:.2f}'


def _named(feature: RankedFeature) -> str:
    return titled(feature, 50)


def _decided(feature: RankedFeature) -> str:
    mark = confounder(feature)
    return plain(feature.decision) + (f", {mark}" if mark else "")


def _safe(text: str) -> str:
    return html.escape(plain(text))
