"""The ranking and the comparison as rows, terminal tables and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect, opposite
from diffex_dagster.report.model import ComparedFeature, Comparison, Explanation, RankedFeature
from diffex_dagster.report.wording import (
    MINUS,
    digits_for,
    flips,
    glyph,
    number,
    plain,
    share,
    signed,
    titled,
    turned,
)
from diffex_dagster.utils.secrets import redact

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"raises": "red", "lowers": "blue", "mixed": "magenta", "more reliant": "red", "less reliant": "green",
           "direction changed": "magenta"}  # fmt: skip


FIELDS = (
    "rank", "feature", "name", "group", "level", "direction", "prompt", "effect", "ci_low", "ci_high", "flip_rate",
    "images", "decision", "magnitude", "sign_agreement", "p_value", "edit_strength", "edit_success",
    "ssim", "lpips", "inside_mask", "mask_area", "becomes", "leaves", "among", "prevalence", "prevalence_low",
    "prevalence_high", "effect_all", "other_way", "other_way_success", "other_way_images", "cace", "cace_low",
    "cace_high",
)  # fmt: skip
PER_IMAGE = (
    "feature", "name", "image", "file", "score_original", "score_null", "score_placebo", "score_edit", "effect",
    "flipped", "becomes", "leaves", "succeeded", "counted",
)  # fmt: skip
"""The columns of a report's table of images: one row a feature and image."""
PICTURES = "null edit, edit"  # heading of the pictures in a Markdown table
TURNS = f"flips: images that become the explained class (+), and that stop being it ({MINUS})"
COLUMNS = (*FIELDS, "confounded_with", "leak", "direct", "direct_low", "direct_high")
"""The columns of the effects, where they are a table; the last four belong to `confounded_with`."""


def rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """One plain dictionary for each feature, in rank order: what `diffex show --format json` prints.

    An interval that has no end (one image moved) is None there, as JSON has no infinity. `confounded_with` is None or a
    dictionary of its own.
    """
    return [
        {field: finite(getattr(f, field)) for field in FIELDS}
        | {"confounded_with": f.confounded_with and finite(vars(f.confounded_with))}
        for f in features
    ]


def flat_rows(features: Sequence[RankedFeature]) -> list[dict[str, Any]]:
    """As `rows`, but with `COLUMNS`: `confounded_with` is the id of the other feature, its numbers stand beside it."""
    flat = []
    for row in rows(features):
        other = row.pop("confounded_with") or {}
        numbers = {column: other.get(column) for column in ("leak", "direct", "direct_low", "direct_high")}
        flat.append({**row, "confounded_with": other.get("feature"), **numbers})
    return flat


PAIRS = (
    "one", "other", "name_one", "name_other", "effect", "ci_low", "ci_high", "alone", "together", "images", "decision",
    "p_value", "success", "placebo", "curve", "beyond", "beyond_low", "beyond_high", "of_the_curve", "reason",
)  # fmt: skip
"""The columns of the interactions, where they are a table; one row a pair of features."""


SUBGROUPS = ("feature", "column", "value", "effect", "ci_low", "ci_high", "images", "decision", "p_value")
"""The columns of the table of subgroups: one row a feature and subgroup of its images."""


def subgroup_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One plain dictionary with `SUBGROUPS` for each feature and subgroup."""
    return [finite(vars(each)) for each in explanation.subgroups]


def mixed_in_words(found: Sequence[SubgroupEffect], digits: int) -> list[str]:
    """Which images a feature raises and which it lowers, a clause for each column that tells them apart.

    Args:
        found: the subgroups of one feature.
    """

    def listed(rows: Sequence[SubgroupEffect]) -> str:
        return ", ".join(f"{plain(row.value, 40)} ({signed(row.effect, digits)})" for row in rows)

    return [
        f"by {plain(column, 40)}: raises {listed(up)}; lowers {listed(down)}" for column, up, down in opposite(found)
    ]


def interaction_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """One plain dictionary for each pair of features, found ones first."""
    names = {f.feature: f.name for f in explanation.features}
    return [
        finite(
            {**vars(each), "names": [names.get(f, f) for f in (each.one, each.other)],
             "of_the_curve": each.of_the_curve}
        )
        for each in explanation.interactions
    ]  # fmt: skip


def interaction_flat_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """The same with `PAIRS`."""
    rows = interaction_rows(explanation)
    whole = [{**row, "name_one": row["names"][0], "name_other": row["names"][1]} for row in rows]
    return [{column: row[column] for column in PAIRS} for row in whole]


def interaction_in_words(row: Interaction, digits: int) -> str:
    """What a pair was found to do, in a clause: `together +0.41, alone they add up to +0.12`."""
    said = f"together {signed(row.together, digits)}, alone they add up to {signed(row.alone, digits)}"
    if row.found and row.of_the_curve and row.curve is not None:
        said += f"; log-odds that add up would give {signed(row.curve, digits)} of it"
    return said


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null, at any depth. numpy scalars become Python's."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if not isinstance(value, str | bool | int | float | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One plain dictionary for each compared feature; per-version values are keyed by the version's name."""
    names = comparison.classifiers
    return [
        {
            "feature": f.feature,
            "name": f.name,
            "group": f.group,
            "level": f.level,
            "direction": f.direction,
            "prompt": f.prompt,
            "effects": dict(zip(names, f.effects, strict=True)),
            "ranks": dict(zip(names, f.ranks, strict=True)),
            "flip_rates": dict(zip(names, f.flip_rates, strict=True)),
            "difference": f.difference,
            "ci_low": f.ci_low,
            "ci_high": f.ci_high,
            "reliance": dict(zip(names, f.reliance, strict=False)),
            "reliance_change": f.reliance_change,
            "reliance_low": f.reliance_low,
            "reliance_high": f.reliance_high,
            "images": f.images,
            "decision": f.decision,
            "p_value": f.p_value,
            "edit_success": f.edit_success,
            "among": f.among,
            "prevalence": f.prevalence,
            "flips_gained": f.flips_gained,
            "flips_lost": f.flips_lost,
            "becomes": dict(zip(names, f.becomes, strict=False)),
            "leaves": dict(zip(names, f.leaves, strict=False)),
        }
        for f in comparison.features
    ]


def comparison_flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One flat dictionary for each compared feature ("effect persona_v1", ...), for a table with columns."""
    flat = []
    for f in comparison.features:
        row: dict[str, Any] = {"feature": f.feature, "name": f.name, "group": f.group, "level": f.level}
        for name, effect, rank, flip_rate in zip(comparison.classifiers, f.effects, f.ranks, f.flip_rates, strict=True):
            row |= {f"effect {name}": effect, f"rank {name}": rank, f"flip_rate {name}": flip_rate}
        row |= {f"reliance {name}": value for name, value in zip(comparison.classifiers, f.reliance, strict=False)}
        for field in ("becomes", "leaves"):
            row |= {f"{field} {name}": n for name, n in zip(comparison.classifiers, getattr(f, field), strict=False)}
        row |= {"reliance_change": f.reliance_change, "reliance_low": f.reliance_low, "reliance_high": f.reliance_high,
                "difference": f.difference, "ci_low": f.ci_low, "ci_high": f.ci_high, "images": f.images,
                "decision": f.decision, "flips_gained": f.flips_gained, "flips_lost": f.flips_lost,
                "direction": f.direction, "prompt": f.prompt}  # fmt: skip
        flat.append(row)
    return flat


def rich_table(features: Sequence[RankedFeature], limit: int | None = None, title: str | None = None) -> Table:
    """The ranking for a terminal. Names are printed as they are: markup and terminal escapes in them do nothing."""
    from rich.table import Table
    from rich.text import Text

    digits = digits_for(f.effect for f in features)
    table = Table(title=Text(plain(title)) if title else None, header_style="bold", title_justify="left")
    for heading, right in (("#", True), ("feature", False), ("group", False), ("effect", True),
                           ("95% interval", True), ("flips", True), ("images", True), ("decision", False)):  # fmt: skip
        table.add_column(heading, justify="right" if right else "left", no_wrap=right)
    for f in features[:limit]:
        table.add_row(
            str(f.rank),
            Text(_name(f)),
            Text(plain(f.group, 40)),
            signed(f.effect, digits),
            f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
            flips(f),
            str(f.images),
            _decision(f.decision, confounder(f)),
        )
    notes = [TURNS] if any(f.becomes is not None for f in features[:limit]) else []
    if limit is not None and len(features) > limit:
        notes.insert(0, f"{len(features) - limit} more features below these")
    if notes:
        table.caption = Text(". ".join(notes))
    return table


def comparison_rich_table(comparison: Comparison, limit: int | None = None) -> Table:
    """The comparison for a terminal, by descending |difference|."""
    from rich.table import Table
    from rich.text import Text

    digits = digits_for(effect for f in comparison.features for effect in f.effects)
    table = Table(header_style="bold")
    table.add_column("feature")
    table.add_column("group")
    for name in comparison.classifiers:
        table.add_column(Text(plain(name, 30)), justify="right", no_wrap=True)
    for heading in ("difference", "95% interval", "reliance", "rank", "flips"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("decision")
    for f in comparison.features[:limit]:
        table.add_row(
            Text(_name(f)),
            Text(plain(f.group, 40)),
            *(signed(effect, digits) for effect in f.effects),
            signed(f.difference, digits),
            f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
            reliances(f, digits),
            " → ".join(str(rank) for rank in f.ranks),
            compared_flips(f),
            _decision(f.decision),
        )
    return table


def reliances(f: ComparedFeature, digits: int) -> str:
    """Mean |d| under each version, `0.31 → 0.02`; more digits where the change could not be seen otherwise."""
    if len(f.reliance) > 1 and number(f.reliance[0], digits) == number(f.reliance[-1], digits):
        digits += 1
    return " → ".join(number(value, digits) for value in f.reliance) or "–"


def compared_flips(f: ComparedFeature) -> str:
    """What a feature flips under each version: `+9 of 24 → 0 of 24`, or shares where no class is explained."""
    if not f.becomes:
        return " → ".join(share(rate) for rate in f.flip_rates)
    return " → ".join(turned(a, b, f.images) for a, b in zip(f.becomes, f.leaves, strict=True))


def _decision(decision: str, note: str = "") -> Any:
    from rich.text import Text

    shown = Text(f"{glyph(decision)} {plain(decision)}", style=_STYLES.get(decision, "dim"))
    return shown.append(f"\n{note}", style="yellow") if note else shown


def confounder(feature: RankedFeature) -> str:
    """`confounded with Round glasses`, or nothing; not escaped."""
    return f"confounded with {plain(feature.confounded_with.name, 40)}" if feature.confounded_with else ""


def _name(feature: RankedFeature | ComparedFeature) -> str:
    return titled(feature)


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
    table = markdown_rows(
        ("#", "feature", "group", *column, "effect", "95% interval", "flips", "decision"),
        (True, False, False, *(False for _ in column), True, True, True, False),
        (
            (
                str(f.rank),
                markdown_text(_name(f)),
                markdown_text(plain(f.group, 40)),
                *((pictures or {}).get(f.feature, "") for _ in column),
                f"**{signed(f.effect, digits)}**",
                f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
                _rates(flips(f)),
                _markdown_decision(f),
            )
            for f in features[:limit]
        ),
    )
    if any(f.becomes is not None for f in features[:limit]):
        table += f"\n\n{TURNS}."
    more = len(features) - limit
    return table + (f"\n\n{more} more feature{'s' if more > 1 else ''} below these." if more > 0 else "")


def _markdown_decision(f: RankedFeature) -> str:
    companion = f", {markdown_text(confounder(f))}" if f.confounded_with else ""
    return f"{glyph(f.decision)} {markdown_text(f.decision)}{companion}"


def markdown_tree(explanation: Explanation) -> str:
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
        searched = "in the beam" if group.kept else "not searched further"
        lines.append(f"- **{markdown_text(plain(group.name, 40))}**, {searched}: {markdown_text(plain(group.reason))}")
        lines += [
            f"  - {markdown_text(_name(f))} **{signed(f.effect, digits)}** {_markdown_decision(f)}"
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
    table = markdown_rows(
        ("feature", "group", *column, *versions, "difference", "95% interval", "reliance", "rank", "flips", "decision"),
        (False, False, *(False for _ in column), *(True for _ in versions), True, True, True, True, True, False),
        (
            _comparison_cells(f, digits, [(pictures or {}).get(f.feature, "") for _ in column])
            for f in comparison.features[:limit]
        ),
    )
    more = len(comparison.features) - limit
    return table + (f"\n\n{more} more feature{'s' if more > 1 else ''} below these." if more > 0 else "")


def _comparison_cells(f: ComparedFeature, digits: int, pictures: Sequence[str]) -> Sequence[str]:
    return (
        markdown_text(_name(f)),
        markdown_text(plain(f.group, 40)),
        *pictures,
        *(signed(effect, digits) for effect in f.effects),
        f"**{signed(f.difference, digits)}**",
        f"{signed(f.ci_low, digits)} to {signed(f.ci_high, digits)}",
        reliances(f, digits),
        " → ".join(str(rank) for rank in f.ranks),
        _rates(compared_flips(f)),
        f"{glyph(f.decision)} {markdown_text(f.decision)}",
    )
