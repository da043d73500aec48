"""How the report says numbers and names: one minus sign, one number of digits, no control characters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from diffex_dagster.corpus.wording import same_key
from diffex_dagster.effects.deciding_one import SHOWN as SHOWN  # what pages show as found
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect, opposite
from diffex_dagster.results import ComparedFeature, Control, RankedFeature
from diffex_dagster.utils.lines import decimals, one_line

MINUS = "−"  # U+2212, as wide as the plus sign in tabular figures
UNSAID = ("already there", "edit failed")
"""The decisions that say nothing of the classifier, in the order of the table."""
CHANGED = ("more reliant", "less reliant", "direction changed")
"""The decisions that claim a change between versions."""

_GLYPHS = {"raises": "▲", "lowers": "▼", "mixed": "◆", "no effect shown": "○", "inconclusive": "◌",
           "already there": "◍", "edit failed": "✕", "within the noise": "◌", "too small to matter": "○",
           "more reliant": "▲", "less reliant": "▼", "direction changed": "◆", "no change shown": "○"}  # fmt: skip


MEANINGS = {
    "raises": "the mean effect is above zero, and above that of the control prompts",
    "lowers": "the mean effect is below zero, and below that of the control prompts",
    "mixed": "some images go up and some go down",
    "no effect shown": "the mean is too small to matter, also with images that nobody has looked at",
    "inconclusive": "these images cannot tell it from none, or from what control prompts do",
    "already there": "so many images show it already that too few are left to try it on",
    "edit failed": "too few edits show it, so nothing is said about it",
}
"""What each decision about one classifier says, for a legend."""
OF_ONE = {
    "raises": "up; of this edit and the control edits, at most the study’s level (5% by default) lie as far out",
    "lowers": "down; of this edit and the control edits, at most the study’s level (5% by default) lie as far out",
    "too small to matter": "more than these, and still inside the study's margin",
    "within the noise": "edits towards words that mean nothing move this picture as far",
    "inconclusive": "further than the control prompts, which are too few to say so",
    "already there": "the picture is so already",
    "edit failed": "the edit does not show it, so nothing is said about it",
}
"""What each verdict about a feature on one picture says."""
SHOWS = (
    "the picture changed, and the judge sees more of the attribute in it than in the null edit. That gain is larger "
    "than the gains of three in four edits towards words that mean nothing, under the same options, and than the "
    "evidence for such words differs between null edits (not of a judge that only says yes or no)."
)
"""When an edit is said to show its attribute, where somebody judges it (`stages.judging.least_gain`)."""
REDRAWS = "the edit changes more of the picture than every control edit"
"""Said beside a claim about one picture that its control edits do not bear out alone."""
CHANGES = {
    "more reliant": "images move further than under the first version",
    "less reliant": "images move less far",
    "direction changed": "as far, but another way",
    "no change shown": "both changes are too small to matter, also with images that nobody has looked at",
    "inconclusive": "these images cannot tell",
    "already there": "so many images show it already that too few are left to try it on",
    "edit failed": "too few edits show it, so nothing is said about it",
}
"""What each decision about two versions says."""


AGREED = {
    "holds under both": "both editors' reports claim the same: raises, lowers, or mixed",
    "contradicted": "one raises and the other lowers",
    "under one alone": "one claims an effect, and the other shows that there is none, or one of another kind",
    "not confirmed": "one claims an effect, and the other's images cannot tell",
    "not judged by both": "the other's search did not reach it, its edits failed, or its images show it already",
    "claimed by neither": "both judged it, and neither claims an effect",
}
"""What each verdict about two editors says."""


HAD_IT = "had it"
"""Heading of the share of images that show an attribute before any edit."""
NOT_JUDGED = "Nobody judged whether these edits show what they were asked for"
"""How the caveat begins that stands at the top of a report."""


def unjudged(caveats: Iterable[str]) -> list[str]:
    """The caveats that stand at the top: that nobody judged the edits."""
    return [caveat for caveat in caveats if caveat.startswith(NOT_JUDGED)]


def plain(text: str, limit: int | None = None) -> str:
    """Text from a VLM or a person, made safe to print on one line.

    See `one_line`. Longer than `limit` is cut with an ellipsis.
    """
    kept = one_line(str(text))
    return kept if limit is None or len(kept) <= limit else kept[: limit - 1].rstrip() + "…"


def feature_title(name: str, prompt: str, direction: str, limit: int | None = 60) -> str:
    """A feature by what its edit does, the same wherever it is shown.

    What is added goes by its name. What is removed is "without Beard", and where the name says something else than the
    edit takes away, both: "Clean shaven (removes facial hair)".
    """
    if direction != "remove":
        return plain(name, limit)
    if not prompt or same_key(name) == same_key(prompt):
        return f"without {plain(name, limit)}"
    return f"{plain(name, limit)} (removes {plain(prompt, limit)})"


def titled(feature: Any, limit: int | None = 60) -> str:
    """The title of anything with a name, a prompt and a direction."""
    return feature_title(feature.name, feature.prompt, feature.direction, limit)


def edited_thing(name: str, prompt: str, direction: str) -> str:
    """What "it" is in "removing it raises ...": of a feature that is removed, what the edit takes away."""
    return prompt if direction == "remove" and prompt else name


def curly(text: str) -> str:
    """Straight double quotes in pairs become typographic ones."""
    return re.sub(r'"([^"]*)"', "“\\1”", plain(text))


def capitalised(text: str) -> str:
    """With a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def digits_for(values: Iterable[float | None]) -> int:
    """Decimals that the given effects deserve: more where all of them are small."""
    return decimals(values, 2)


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.31`, `−0.07`, `0.00` (a zero has no sign), `–` where there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def number(value: float | None, digits: int = 2) -> str:
    """`0.31` or `−0.07`, `–` where there is no number."""
    return signed(value, digits).removeprefix("+")


def share(value: float | None) -> str:
    """A share in [0, 1] as whole percent, `–` where there is none. Never rounds something to 0% or 100%."""
    if value is None or not math.isfinite(value):
        return "–"
    percent = value * 100
    if 0 < percent < 0.5:
        return "<1%"
    if 99.5 <= percent < 100:
        return ">99%"
    return f"{percent:.0f}%"


def turned(becomes: int | None, leaves: int | None, images: int) -> str:
    """`+4 −1 of 24`: on so many images the prediction becomes the explained class, on so many it stops being it."""
    if becomes is None or leaves is None:
        return "–"
    counts = [f"+{becomes}" if becomes else "", f"{MINUS}{leaves}" if leaves else ""]
    return f"{' '.join(filter(None, counts)) or '0'} of {images}"


def flips(feature: Any) -> str:
    """What a feature flips, for a column: `+4 −1 of 24`, or the share whose class changes where none is explained."""
    return (
        share(feature.flip_rate) if feature.becomes is None else turned(feature.becomes, feature.leaves, feature.images)
    )


def percent(value: float | None) -> str:
    """A share in [0, 1] as percent with one decimal, `–` where there is none: for columns of small numbers."""
    return "–" if value is None or not math.isfinite(value) else f"{value * 100:.1f}%"


def glyph(decision: str) -> str:
    """A mark that tells decisions apart without colour."""
    return _GLYPHS.get(decision, "•")


def kind(decision: str) -> str:
    """A decision as a CSS class; unknown decisions look quiet."""
    return decision.replace(" ", "-") if decision in _GLYPHS else "other"


class Measured(Protocol):
    """What says which measure its effects are of: an explanation, or a comparison."""

    @property
    def target(self) -> str:
        """The measure in words with its unit: `probability of "senior"`, `age (years)`."""

    @property
    def unit(self) -> str:
        """Its unit; "" where it has none."""

    @property
    def bounded(self) -> bool:
        """Whether it is a probability, so that effects read as percentage points."""


def measured(of: Measured) -> str:
    """A target measure inside a sentence whose numbers have its unit: `age` of "age (years)"."""
    return curly(plain(of.target).removesuffix(f" ({plain(of.unit)})"))


def amount(value: float, of: Measured, unit: bool = True) -> str:
    """The size of an effect in words: `31 percentage points` of a probability, `1.20 years` of age, `1.20` of else."""
    if not of.bounded:
        return f"{abs(value):.2f} {plain(of.unit) if unit else ''}".rstrip()
    points = abs(value) * 100
    text = f"{points:.0f}" if points >= 0.95 or points < 0.05 else f"{points:.1f}"
    return text if not unit else f"{text} percentage point{'' if text == '1' else 's'}"


def signed_amount(value: float, of: Measured) -> str:
    """`+31 points` of a probability, `+1.20 years` of age, `+1.20` of anything else."""
    text = amount(value, of, unit=False)
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    if of.bounded:
        return f"{sign}{text} point{'' if text == '1' else 's'}"
    return f"{sign}{text} {plain(of.unit)}".rstrip()


def margin_in_words(margin: float | None, of: Measured) -> str:
    """`±2 percentage points` of a probability, `±0.4 years`; "the study's margin" where it is not known.

    Args:
        margin: effects inside ± this do not matter to the study, in the unit of the measure.
    """
    if margin is None:
        return "the study's margin"
    if not of.bounded:
        return f"±{margin:.3g} {plain(of.unit)}".rstrip()
    points = f"{margin * 100:.3g}"
    return f"±{points} percentage point{'' if points == '1' else 's'}"


def interval(low: float, high: float, of: Measured) -> str:
    """`95% interval 22 to 40` in the unit of `amount`, or that there is none (one image has no spread)."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "too few images for an interval"
    scale, digits = (100.0, 0) if of.bounded else (1.0, 2)
    if scale == 100 and max(abs(low), abs(high)) < 0.095:
        digits = 1
    return f"95% interval {number(low * scale, digits)} to {number(high * scale, digits)}"


def controls_in_words(controls: Sequence[Control], digits: int) -> str:
    """What was decided of the control prompts, on one line; "" without any. It is not escaped."""
    if not controls:
        return ""
    if len(controls) == 1:
        (only,) = controls
        return f"control prompt against the null edit: “{plain(only.prompt, 40)}” {signed(only.against_null, digits)}"
    each = (f"“{plain(c.prompt, 40)}” {signed(c.effect, digits)} ({plain(c.decision)})" for c in controls)
    return f"control prompts, each against the others: {', '.join(each)}"


def listing(items: Sequence[str], word: str = "and") -> str:
    """`a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `32 images`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


TURNS = f"flips: images that become the explained class (+), and that stop being it ({MINUS})"


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


def interaction_in_words(row: Interaction, digits: int) -> str:
    """What a pair was found to do, in a clause: `together +0.41, alone they add up to +0.12`."""
    said = f"together {signed(row.together, digits)}, alone they add up to {signed(row.alone, digits)}"
    if row.found and row.of_the_curve and row.curve is not None:
        said += f"; log-odds that add up would give {signed(row.curve, digits)} of it"
    return said


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


def marked(relation: str | None, name: str | None) -> str:
    """The mark beside a decision: `confounded with Round glasses`, `cannot be told from Round glasses`, or nothing.

    It is not escaped.

    Args:
        relation: what the feature is to the other one (`results.Confounder.relation`).
        name: of the other one; None where there is none.
    """
    return f"{relation} {plain(name, 40)}" if relation and name else ""


def confounder(feature: RankedFeature) -> str:
    """The mark beside the decision about a feature; see `marked`."""
    other = feature.confounded_with
    return marked(other.relation, other.name) if other else ""
