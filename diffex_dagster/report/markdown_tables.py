"""The ranking and the comparison as Markdown, for Dagster metadata and summaries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from diffex_dagster.report.wording import (
    HAD_IT,
    TURNS,
    compared_flips,
    confounder,
    digits_for,
    flips,
    glyph,
    plain,
    reliances,
    share,
    signed,
    titled,
)
from diffex_dagster.results import ComparedFeature, Comparison, RankedFeature, Report
from diffex_dagster.utils.secrets import redact

PICTURES = "null edit, edit"  # heading of the pictures in a Markdown table
_HAD = f"{HAD_IT}: images that show the attribute before any edit, by the judge."


def markdown_text(text: str) -> str:
    """Untrusted text as inert Markdown: no table cell, code, HTML, image or link can come out of it.

    A secret of this process is blotted out first: nothing finds it once it is written in entities. Entities cannot open
    or close anything. Links are also found by looking for addresses in the finished text (GitHub's
    autolinks), so a word joiner goes into what looks like one.
    """
    text = re.sub(r"(?i)(https?|ftp|mailto|xmpp)(?=:)|(www)(?=\.)", lambda m: m.group() + "\u2060", redact(plain(text)))
    text = text.replace("@", "\u2060@")
    return re.sub(r"[&<>|`*_~\[\](){}!#\\$^=+.:\"-]", lambda m: f"&#{ord(m.group())};", text)


def _rates(text: str) -> str:
    """Rates, where `<1%` opens no tag."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def markdown_share(value: float | None) -> str:
    """A share as whole percent, in Markdown."""
    return _rates(share(value))


def markdown_rows(headings: Sequence[str], right: Sequence[bool], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are put in as they are."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join("---:" if r else ":---" for r in right) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines)


def markdown_table(
    features: Sequence[RankedFeature], limit: int = 20, pictures: Mapping[str, str] | None = None
) -> str:
    """The ranking as a Markdown table, for Dagster metadata. Untrusted text in it is inert.

    Args:
        pictures: Markdown images by feature id, in a column of their own; without any there is no such column.
    """
    digits, column = digits_for(f.effect for f in features), [PICTURES] if pictures else []
    had = [HAD_IT] if any(f.prevalence is not None for f in features[:limit]) else []
    table = markdown_rows(
        ("#", "feature", "group", *column, "effect", "95% interval", "flips", *had, "decision"),
        (True, False, False, *(False for _ in column), True, True, True, *(True for _ in had), False),
        (
            (
                str(f.rank),
                markdown_text(titled(f)),
                markdown_text(plain(f.group, 40)),
                *((pictures or {}).get(f.feature, "") for _ in column),
                f"**{signed(f.effect, digits)}**",
                f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
                _rates(flips(f)),
                *(markdown_share(f.prevalence) for _ in had),
                _markdown_decision(f),
            )
            for f in features[:limit]
        ),
    )
    if any(f.becomes is not None for f in features[:limit]):
        table += f"\n\n{TURNS}."
    if had:
        table += f"\n\n{_HAD}"
    more = len(features) - limit
    return table + (f"\n\n{more} more feature{'s' if more > 1 else ''} below these." if more > 0 else "")


def _markdown_decision(f: RankedFeature) -> str:
    companion = f", {markdown_text(confounder(f))}" if f.confounded_with else ""
    return f"{glyph(f.decision)} {markdown_text(f.decision)}{companion}"


def markdown_tree(explanation: Report) -> str:
    """The groups with their scored features, as a nested Markdown list for Dagster metadata. Untrusted text is inert.

    Groups come by their strongest feature, kept ones first; below each its features by |effect|.
    """
    digits = digits_for(f.effect for f in explanation.features)
    under = {group.name: [f for f in explanation.features if f.group == group.name] for group in explanation.groups}
    order = sorted(
        explanation.groups, key=lambda g: (not g.kept, -max((abs(f.effect) for f in under[g.name]), default=0.0))
    )
    lines = []
    for group in order:
        searched = "searched" if group.kept else "not searched further"
        lines.append(f"- **{markdown_text(plain(group.name, 40))}**, {searched}: {markdown_text(plain(group.reason))}")
        lines += [
            f"  - {markdown_text(titled(f))} **{signed(f.effect, digits)}** {_markdown_decision(f)}"
            for f in under[group.name]
        ]
    return "\n".join(lines)


def comparison_markdown_table(
    comparison: Comparison, limit: int = 20, pictures: Mapping[str, str] | None = None
) -> str:
    """The comparison as a Markdown table, for Dagster metadata. Untrusted text in it is inert.

    Args:
        pictures: as of `markdown_table`.
    """
    digits = digits_for(effect for f in comparison.features for effect in f.effects)
    versions, column = [markdown_text(plain(n, 30)) for n in comparison.classifiers], [PICTURES] if pictures else []
    shown = comparison.features[:limit]
    had = [HAD_IT] if any(f.prevalence is not None for f in shown) else []
    headings = (
        "feature", "group", *column, *versions, "difference", "95% interval", "reliance", "rank", "flips", *had,
        "decision",
    )  # fmt: skip
    table = markdown_rows(
        headings,
        (False, False, *(False for _ in column), *(True for _ in versions), *[True] * 5, *(True for _ in had), False),
        (_comparison_cells(f, digits, [(pictures or {}).get(f.feature, "") for _ in column], bool(had)) for f in shown),
    )
    if had:
        table += f"\n\n{_HAD}"
    more = len(comparison.features) - limit
    return table + (f"\n\n{more} more feature{'s' if more > 1 else ''} below these." if more > 0 else "")


def _comparison_cells(f: ComparedFeature, digits: int, pictures: Sequence[str], had: bool) -> Sequence[str]:
    return (
        markdown_text(titled(f)),
        markdown_text(plain(f.group, 40)),
        *pictures,
        *(signed(effect, digits) for effect in f.effects),
        f"**{signed(f.difference, digits)}**",
        f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
        reliances(f, digits),
        " → ".join(str(rank) for rank in f.ranks),
        _rates(compared_flips(f)),
        *([markdown_share(f.prevalence)] if had else []),
        f"{glyph(f.decision)} {markdown_text(f.decision)}",
    )
