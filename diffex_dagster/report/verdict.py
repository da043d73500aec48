"""The verdict: three plain sentences that a manager can read, and that name the features.

Sentence one is the strongest reliance, two is what else matters, three is what could not be shown and why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from diffex_dagster.report import wording
from diffex_dagster.report.wording import (
    AGREED,
    amount,
    count,
    edited_thing,
    interval,
    listing,
    margin_in_words,
    measured,
    number,
    plain,
    share,
    signed_amount,
    titled,
)  # fmt: skip
from diffex_dagster.results import ComparedFeature, Comparison, EditorComparison, RankedFeature, Report

_SO_ALREADY = "could not be tried, since most images are so already"


def shown(feature: RankedFeature) -> bool:
    """Whether the report claims an effect of this feature."""
    return feature.decision in wording.SHOWN


def strongest(features: Sequence[RankedFeature], limit: int | None = None) -> list[RankedFeature]:
    """Features with a claimed effect, by descending |effect|: the order of the table."""
    claimed = sorted((feature for feature in features if shown(feature)), key=lambda f: -abs(f.effect))
    return claimed[:limit]


def one_a_group(features: Sequence[RankedFeature]) -> list[RankedFeature]:
    """The strongest feature of each group, then the others: five variants of one thing are one thing to look at."""
    ordered = strongest(features)
    first: dict[str, RankedFeature] = {}
    for feature in ordered:
        first.setdefault(feature.group, feature)
    return [*first.values(), *(feature for feature in ordered if feature is not first[feature.group])]


def verdict(explanation: Report) -> list[str]:
    """Three sentences: what the classifier relies on most, what else it reacts to, what was not shown."""
    if not explanation.features:
        return [
            f"No feature has been scored for {plain(explanation.classifier)} yet.",
            "Nothing can be said about what it relies on.",
            "Materialize the stages of the study to fill this report.",
        ]
    found = strongest(explanation.features)
    if not found:
        return [*_nothing_found(explanation), _not_shown(explanation.features, explanation)]
    return [
        _lead(found[0], explanation),
        _also(found[0], found[1:], explanation),
        _not_shown(explanation.features, explanation),
    ]


def _quoted(name: str) -> str:
    # The page emphasises what stands between these quotes, so a name must not bring its own.
    return "“" + plain(name, 100).replace("“", "'").replace("”", "'") + "”"


def _low(name: str) -> str:
    """A name inside a sentence: "Round glasses" → "round glasses", but "CCTV mark" stays."""
    return name if len(name) > 1 and name[1].isupper() else name[:1].lower() + name[1:]


def _title(feature: RankedFeature | ComparedFeature) -> str:
    return titled(feature)


def _first_four(features: Sequence[RankedFeature | ComparedFeature]) -> list[str]:
    more = [f"{len(features) - 4} more"] if len(features) > 4 else []
    return [_quoted(_low(_title(f))) for f in features[:4]] + more


def _thing(feature: RankedFeature) -> str:
    return edited_thing(feature.name, feature.prompt, feature.direction)


def _lead(lead: RankedFeature, explanation: Report) -> str:
    where = "" if lead.level == 1 or lead.group == lead.name else f" (in the group {_quoted(lead.group)})"
    verb = "removing" if lead.direction == "remove" else "adding"
    head = f"{plain(explanation.classifier)} relies most on {_quoted(_low(_thing(lead)))}{where}: "
    if lead.decision == "mixed":
        effect = (
            f"{verb} it moves the {measured(explanation)} by {amount(lead.magnitude, explanation)} on average, "
            f"up on some images and down on others,"
        )
    else:
        effect = (
            f"{verb} it {lead.decision} the {measured(explanation)} by {amount(lead.effect, explanation)} on average"
            f"{_among(lead)} ({interval(lead.ci_low, lead.ci_high, explanation)})"
        )
    flips = _flips(lead, explanation)
    if not flips:
        effect = effect.rstrip(",")
    caution = ""
    if lead.magnitude <= explanation.noise_floor:
        caution = ", though this is no larger than the noise of the edits themselves"
    elif lead.confounded_with:
        other = lead.confounded_with
        name = _quoted(_low(other.name))
        caution = (
            f"; but it is confounded with {name}, which its edits also change"
            if other.told_apart
            else f"; but it cannot be told from {name}: the edits towards either change both"
        )
    ending = f"and {flips}" if flips else f"over {count(lead.images, 'image')}"
    return f"{head}{effect} {ending}{caution}."


def _among(lead: RankedFeature) -> str:
    """Which images the effect is over, where it is not over all."""
    return "" if lead.among == "all" else f" of the {count(lead.images, 'image')} {lead.among}"


def _flips(lead: RankedFeature, explanation: Report) -> str:
    """`the prediction becomes “zebra” on 4 of 24 images (it changes on 16)`; nothing where there is no class."""
    turn, changed = explanation.turn, round(lead.flip_rate * lead.images)
    if turn is None or lead.becomes is None or lead.leaves is None:
        if len(explanation.labels) < 2:  # one output has no classes to flip between
            return ""
        few = "none" if lead.flip_rate == 0 else changed
        return f"the predicted class changes on {few} of {count(lead.images, 'image')}"
    ways = [
        f"{how} on {n or 'none'}"
        for how, n, likely in (
            (turn.becomes, lead.becomes, lead.effect > 0),
            (turn.leaves, lead.leaves, lead.effect < 0),
        )
        if (n if lead.decision == "mixed" else likely)
    ] or [f"{turn.becomes} on none"]
    beside = f" (it changes on {changed})" if turn.among > 2 and changed != lead.becomes + lead.leaves else ""
    return f"{turn.subject} {' and '.join(ways)} of {count(lead.images, 'image')}{beside}"


def _also(lead: RankedFeature, others: Sequence[RankedFeature], explanation: Report) -> str:
    if not others:
        return "No other feature was shown to move it."
    opening = "It also reacts to "
    group, of_group = Counter(feature.group for feature in [lead, *others][:5]).most_common(1)[0]
    if of_group >= 2 and group == lead.group:
        # Naming a shortcut's five variants says one thing five times: count them, then name what else there is.
        strongest_few = min(5, len(others) + 1)
        several = f"all {strongest_few}" if of_group == strongest_few else f"{of_group} of the {strongest_few}"
        opening = f"{_quoted(group)} is behind {several} strongest features; it also reacts to "
        others = [f for f in others if f.group != group] or others
    named = [
        f"{_quoted(_low(_thing(f)))} ({'both ways' if f.decision == 'mixed' else signed_amount(f.effect, explanation)}"
        f"{' when removed' if f.direction == 'remove' else ''}"
        f"{f', {f.confounded_with.relation} {_quoted(_low(f.confounded_with.name))}' if f.confounded_with else ''})"
        for f in others[:4]
    ]
    rest = len(others) - 4
    if rest > 0:
        named.append(f"{rest} weaker one{'s' if rest > 1 else ''}")
    return opening + listing(named) + "."


def _nothing_found(explanation: Report) -> list[str]:
    judged = [f for f in explanation.features if f.decision not in wording.UNSAID]
    first = f"No feature was shown to move {plain(explanation.classifier)}'s {measured(explanation)}."
    if not judged:
        return [first, f"The classifier has not been tested: {_untested(explanation.features)}."]
    top = max(judged, key=lambda f: abs(f.effect))
    inside = (
        "within the noise of the edits themselves"
        if abs(top.effect) <= explanation.noise_floor
        else f"{plain(top.decision)}: {wording.MEANINGS.get(top.decision, 'these images cannot tell')}"
    )
    second = (
        f"The largest average movement was {signed_amount(top.effect, explanation)} for "
        f"{_quoted(_low(_title(top)))} ({interval(top.ci_low, top.ci_high, explanation)}), {inside}."
    )
    return [first, second]


def _untested(features: Sequence[RankedFeature | ComparedFeature]) -> str:
    """Why nothing is said of features of which nothing can be said, by the counts of their decisions."""
    there, failed = (sum(f.decision == decision for f in features) for decision in wording.UNSAID)
    said = [f"{count(there, 'feature')} {_SO_ALREADY}"] if there else []
    said += [f"the edits of {count(failed, 'feature')} failed"] if failed else []
    return "; ".join(said)


def _not_shown(features: Sequence[RankedFeature], explanation: Report) -> str:
    total = len(features)
    by: dict[str, list[RankedFeature]] = {}
    for feature in features:
        by.setdefault(feature.decision, []).append(feature)
    quiet, unsure = (by.get(key, []) for key in ("no effect shown", "inconclusive"))
    parts = []
    if quiet:
        parts.append(
            f"{len(quiet)} {'shows' if len(quiet) == 1 else 'show'} no effect larger than "
            f"{margin_in_words(explanation.margin, explanation)}"
        )
    if unsure:
        parts.append(f"{len(unsure)} {'is' if len(unsure) == 1 else 'are'} inconclusive")
    parts += _unsaid(by)
    if not parts:
        against = "the null edits and the control prompts" if explanation.controls else "the null edits"
        every = f"Each of the {total} features" if total > 1 else "The one feature"
        return f"{every} tested was shown to have an effect, held against {against}."
    which = "tested" if quiet or unsure or any(by.get(decision) for decision in wording.SHOWN) else "edited"
    of = f"{total} features" if total > 1 else "one feature"
    return f"Of the {of} {which}, {listing(parts)}."


def _unsaid(by: Mapping[str, Sequence[RankedFeature | ComparedFeature]]) -> list[str]:
    """Those of which nothing is said, with the reason, by decision."""
    there, failed = (by.get(decision, ()) for decision in wording.UNSAID)
    said = []
    if there:
        said.append(f"{len(there)} {_SO_ALREADY} ({listing(_first_four(there))})")
    if failed:
        said.append(f"{len(failed)} could not be judged because the edit did not take ({listing(_first_four(failed))})")
    return said


def comparison_verdict(comparison: Comparison) -> list[str]:
    """Three sentences: the biggest change, what the last version reacts to now, and what did not change."""
    first, last = plain(comparison.classifiers[0]), plain(comparison.classifiers[-1])
    if not comparison.features:
        return [
            f"No feature has been scored under both {first} and {last}.",
            "Nothing can be said about what changed.",
            "Materialize the reports of both versions to fill this page.",
        ]
    changed = [f for f in comparison.features if f.decision in wording.CHANGED]
    changed.sort(key=lambda f: -abs(f.difference))
    return [
        _biggest_change(changed, comparison, first, last),
        _now(changed, comparison, first, last),
        _unchanged(comparison, len(changed)),
    ]


def _biggest_change(changed: Sequence[ComparedFeature], comparison: Comparison, first: str, last: str) -> str:
    if not changed:
        return f"No feature was shown to matter more or less to {last} than to {first}."
    top = changed[0]
    before, after = top.effects[0], top.effects[-1]
    kept = "is more reliant on it than" if top.decision == "more reliant" else "still leans on it, but less than"
    if top.decision == "less reliant" and _gone(top, comparison.noise_floor):
        exceptions = any(abs(last.effect) > _little(top, comparison.noise_floor) for _, last in top.examples)
        kept = "reacts to it on few images only, unlike" if exceptions else "hardly reacts to it any more, unlike"
    elif top.decision == "more reliant" and _gone(top, comparison.noise_floor, end=0):
        kept = "has come to rely on it, unlike"
    elif top.decision == "direction changed":
        kept = "reacts to it in another direction than"
    where = "" if top.level == 1 or top.group == top.name else f" (in the group {_quoted(top.group)})"
    head = f"The biggest change is {_quoted(_low(_title(top)))}{where}: "
    if top.reliance and abs(abs(after) - abs(before)) < 0.5 * abs(top.reliance_change):
        # Images that move up and images that move down: the mean effect hides what the decision speaks of.
        return (
            f"{head}up or down, it moved the {measured(comparison)} of an image by "
            f"{amount(top.reliance[0], comparison)} on average "
            f"in {first} and by {amount(top.reliance[-1], comparison)} in {last} "
            f"(difference {signed_amount(top.reliance_change, comparison)}, "
            f"{interval(top.reliance_low, top.reliance_high, comparison)}), so {last} {kept} {first}."
        )
    return (
        f"{head}its effect on the {measured(comparison)} went from "
        f"{signed_amount(before, comparison)} in {first} to {signed_amount(after, comparison)} in {last} "
        f"(difference {signed_amount(top.difference, comparison)}, "
        f"{interval(top.ci_low, top.ci_high, comparison)}), so {last} {kept} {first}."
    )


def _gone(feature: ComparedFeature, noise_floor: float | None, end: int = -1) -> bool:
    """Whether the reliance at one end is little, next to that at the other."""
    return _reliance(feature)[end] <= _little(feature, noise_floor, end)


def _little(feature: ComparedFeature, noise_floor: float | None, end: int = -1) -> float:
    """Within the noise, or under a fifth of the reliance at the other end."""
    return max(noise_floor or 0.0, 0.2 * _reliance(feature)[-1 - end])


def _reliance(feature: ComparedFeature) -> Sequence[float]:
    """Mean |d| of each version; |mean d| where a comparison of earlier days has no other."""
    return feature.reliance or tuple(abs(effect) for effect in feature.effects)


def _now(changed: Sequence[ComparedFeature], comparison: Comparison, first: str, last: str) -> str:
    lead = changed[0].group if changed else ""
    parts = []
    for decision, words in (
        ("less reliant", "less reliant on"),
        ("more reliant", "more reliant on"),
        ("direction changed", "moved in another direction by"),
    ):
        names = _by_group([f for f in changed[1:] if f.decision == decision], lead)
        if names:
            named = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
            parts.append(f"{words} {listing(named)}")
    also = f"{last} is also {listing(parts)}; " if parts else ""
    judged = [f for f in comparison.features if f.decision not in wording.UNSAID]
    if not judged:
        said = _untested(comparison.features)
        return f"Nothing can be said about what either version relies on: {said}."
    top = sorted(judged, key=lambda f: -abs(f.effects[-1]))[:3]
    moving = [f for f in top if float(amount(f.effects[-1], comparison, unit=False))]
    top = moving or top[:1]  # nothing is no strong effect
    named = [f"{_quoted(_low(_title(f)))} ({signed_amount(f.effects[-1], comparison)})" for f in top]
    return f"{also}{'its' if also else last + chr(39) + 's'} strongest effects are now {listing(named)}."


def _by_group(features: Sequence[ComparedFeature], named: str) -> list[str]:
    """Names in order, several of one group said as the group; `named` is the group of the feature named before."""
    in_group = Counter(feature.group for feature in features)
    return list(
        dict.fromkeys(
            f"{_quoted(_low(f.group))} ({in_group[f.group]}{' more' if f.group == named else ''} features)"
            if in_group[f.group] > 1
            else _quoted(_low(_title(f)))
            for f in features
        )
    )


def _unchanged(comparison: Comparison, changed: int) -> str:
    total = len(comparison.features)
    broken = [plain(rule.text) for rule in comparison.rules if not rule.holds]
    same = sum(f.decision == "no change shown" for f in comparison.features)
    by = {decision: [f for f in comparison.features if f.decision == decision] for decision in wording.UNSAID}
    unsure = total - changed - same - sum(map(len, by.values()))
    said = [f"{changed} changed", f"{same} {'shows' if same == 1 else 'show'} no change"]
    if unsure:
        said.append(f"{unsure} {'is' if unsure == 1 else 'are'} inconclusive")
    said += _unsaid(by)
    text = f"Of {total} features, {listing(said)}" if total > 1 else f"Of one feature, {listing(said)}"
    if broken:
        verb = "is" if len(broken) == 1 else "are"
        return f"{text}; {wording.count(len(broken), 'rule')} of the study {verb} broken: {listing(broken)}."
    return text + ("; every rule of the study holds." if comparison.rules else ".")


def agreement_sentences(found: EditorComparison) -> list[str]:
    """What the comparison says, in sentences: what holds, what does not, and how well the effects agree."""
    of = {verdict: [row for row in found.features if row.verdict == verdict] for verdict in AGREED}

    def names(verdict: str) -> str:
        some = [f"“{titled(row)}”" for row in of[verdict][:4]]
        more = len(of[verdict]) - len(some)
        return ", ".join(some) + (f" and {more} more" if more else "")

    both = f"{found.editors[0]} and {found.editors[1]}"
    holding = len(of["holds under both"])
    said = [f"No effect on the {found.target} is claimed under both {both}."]
    if holding:
        verb = "holds" if holding == 1 else "hold"
        said = [
            f"{count(holding, 'effect')} on the {found.target} {verb} under both {both}: {names('holds under both')}."
        ]
    if holding and found.error_rate != "fwer":
        said.append(
            f"Each report holds the share of false ones among its own claims ({found.error_rate}); among those that "
            "both make it may be higher (with error_rate: fwer it is bounded there too)."
        )
    if of["contradicted"]:
        said.append(f"The editors contradict each other about {names('contradicted')}: believe neither.")
    if of["under one alone"]:
        said.append(f"An effect under one editor that the other shows not to be there: {names('under one alone')}.")
    if of["not confirmed"]:
        said.append(f"Claimed under one editor, where the other's images cannot tell: {names('not confirmed')}.")
    if of["not judged by both"]:
        said.append(f"{count(len(of['not judged by both']), 'feature')} could not be judged under both editors.")
    if not math.isnan(found.spearman):
        signs = "" if math.isnan(found.same_sign) else f"; {share(found.same_sign)} of what either claims has one sign"
        said.append(
            f"Over the {found.judged} features that both judge, the effects have a rank correlation of "
            f"{number(found.spearman, 2)}{signs}."
        )
    return said
