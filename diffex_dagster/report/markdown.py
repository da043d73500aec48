"""A report as one Markdown document with its pictures in it: what the Dagster UI shows, from wherever it is opened.

The page of a report is a file of the results, which a browser on another machine cannot open. This document has what a
reader needs first (verdict, ranking with pictures, control prompts, groups, method) and goes with the asset's metadata.
Names, prompts and reasons come from a model or a file: all of them are escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from diffex_dagster.report.completeness import NOT_MEANT, SHOWN, completeness_sentences, least_lines
from diffex_dagster.report.examples import Failures
from diffex_dagster.report.markdown_tables import (
    comparison_markdown_table,
    markdown_rows,
    markdown_share,
    markdown_table,
    markdown_text,
    markdown_tree,
)
from diffex_dagster.report.sheets import data_uri, strip
from diffex_dagster.report.verdict import comparison_verdict, verdict
from diffex_dagster.report.wording import (
    CHANGES,
    MEANINGS,
    digits_for,
    glyph,
    interaction_in_words,
    mixed_in_words,
    number,
    plain,
    signed,
    unjudged,
)
from diffex_dagster.results import ComparedFeature, Comparison, Control, Example, Picture, RankedFeature, Report

LIMIT = 150_000  # bytes: it is kept in the event log for every materialization
ROWS = 20  # features in the table

_SAID = 20  # caveats, settings and warnings of each kind
_TREE = 80  # lines of the hierarchy


@dataclass(frozen=True)
class _Fit:
    """How many of the first features have pictures, how many pairs each, and how they are kept."""

    rows: int
    pairs: int
    side: int
    quality: int


_LADDER = (
    _Fit(ROWS, 3, 64, 80),
    _Fit(ROWS, 2, 64, 75),
    _Fit(12, 2, 64, 70),
    _Fit(12, 1, 64, 65),
    _Fit(8, 1, 48, 60),
    _Fit(0, 0, 0, 0),
)
"""From best to smallest."""


def report_markdown(explanation: Report, limit: int = LIMIT) -> str:
    """The report of one classifier version, of at most `limit` bytes: large pictures become smaller, then fewer."""
    e, failures = explanation, Failures()

    def pairs(feature: RankedFeature, count: int) -> list[tuple[Picture, Picture]]:
        mean = feature.magnitude if feature.decision == "mixed" else feature.effect
        return _typical(e.examples.get(feature.feature, ()), mean, failures, count)

    def document(fit: _Fit) -> str:
        pictures = {f.feature: _picture(pairs(f, fit.pairs), fit) for f in e.features[: fit.rows]}
        return _joined(
            f"## {markdown_text(plain(e.title, 200))}",
            f"**{markdown_text(e.classifier)}**: effects on the {markdown_text(e.target)}, over {e.images} images",
            *_to_mend(e.warnings),
            *(f"> **Look at this first.** {markdown_text(plain(hint, 600))}" for hint in e.hints[:_SAID]),
            *map(markdown_text, verdict(e)),
            *_unjudged(e.caveats),
            _completeness(e, fit),
            "### Ranking",
            markdown_table(e.features, ROWS, pictures),
            _legend(MEANINGS, (f.decision for f in e.features)),
            _joint(e, fit, failures),
            _subgroups(e),
            _interactions(e),
            _controls(e),
            "### Groups",
            _cut(markdown_tree(e)),
            "### Method",
            markdown_text(plain(e.method, 600)),
            markdown_text(plain(e.looked_into, 500)),
            _listed(
                f"sample images: {e.images}; noise floor: {number(e.noise_floor, 3)}; gate: {e.gate}",
                f"mean over the null edits: {number(e.baseline, 3)}",
                *(f"{what}: {value}" for what, value in e.settings[:_SAID]),
                f"corpus: {e.corpus_version}; editor: {e.editor}",
                f"made with: {e.command}",
            ),
            _keep_in_mind(e.caveats),
        )

    return _fitted(document, limit)


def comparison_markdown(comparison: Comparison, limit: int = LIMIT) -> str:
    """The comparison of classifier versions, in the same way."""
    c, failures = comparison, Failures()

    def pairs(feature: ComparedFeature, count: int) -> list[tuple[Picture, Picture]]:
        # The pictures are the same under every version: the image stands for the difference.
        by_image = {last.image: last.effect - first.effect for first, last in feature.examples}
        examples = [last for _, last in feature.examples]
        return _typical(examples, feature.difference, failures, count, lambda example: by_image[example.image])

    def document(fit: _Fit) -> str:
        pictures = {f.feature: _picture(pairs(f, fit.pairs), fit) for f in c.features[: fit.rows]}
        rules = [f"{'holds' if rule.holds else 'BROKEN'}: {rule.text}" for rule in c.rules[:_SAID]]
        return _joined(
            f"## {markdown_text(plain(c.title, 200))}",
            f"**{', '.join(map(markdown_text, c.classifiers))}**: effects on the {markdown_text(c.target)}"
            + (f", over {c.images} images" if c.images is not None else ""),
            *_to_mend(c.warnings),
            *map(markdown_text, comparison_verdict(c)),
            *_unjudged(c.caveats),
            "### Rules" if rules else "",
            _listed(*rules),
            "### Features",
            comparison_markdown_table(c, ROWS, pictures),
            _legend(CHANGES, (f.decision for f in c.features)),
            _keep_in_mind(c.caveats),
            _listed(f"made with: {c.command}"),
        )

    return _fitted(document, limit)


def _to_mend(warnings: Sequence[str]) -> list[str]:
    return [f"> **{markdown_text(plain(warning, 600))}**" for warning in warnings[:_SAID]]


def _unjudged(caveats: Sequence[str]) -> list[str]:
    """That nobody judged the edits, below the verdict as on the page."""
    return [f"*{markdown_text(plain(note, 600))}*" for note in unjudged(caveats)]


def _keep_in_mind(caveats: Sequence[str]) -> str:
    return _joined("### What to keep in mind", _listed(*caveats[:_SAID])) if caveats else ""


def _fitted(document: Callable[[_Fit], str], limit: int) -> str:
    for fit in _LADDER:
        text = document(fit)
        if len(text.encode("utf-8")) <= limit:
            break
    return text


def _joined(*blocks: str) -> str:
    return "\n\n".join(block for block in blocks if block)


def _typical(
    examples: Sequence[Example],
    mean: float,
    failures: Failures,
    count: int,
    effect: Callable[[Example], float] = lambda example: example.effect,
) -> list[tuple[Picture, Picture]]:
    """Null edit and edit of the images nearest to the mean whose edit succeeded; only as many as needed are opened."""
    ordered = sorted(examples, key=lambda example: abs(effect(example) - mean))
    taken = list(itertools.islice((each for each in ordered if failures(each) is None), count)) or ordered[:count]
    return [(each.null, each.edit) for each in taken]


def _picture(pairs: Sequence[tuple[Picture, Picture]], fit: _Fit) -> str:
    return f"![null edit and edit]({data_uri(strip(pairs, fit.side, fit.quality))})" if pairs else ""


def _completeness(e: Report, fit: _Fit) -> str:
    """What is explained, what that does not mean, and the images that are explained least."""
    found = e.completeness
    if found is None:
        return ""
    said = [markdown_text(sentence) for sentence in completeness_sentences(e)]
    if found.score is None:
        return _joined(*said)
    pictures = [[each.picture] for each in found.least_explained[:SHOWN] if each.picture is not None]
    seen = data_uri(strip(pictures, fit.side, fit.quality)) if pictures and fit.rows else ""
    shown = (f"{x.file}: {x.score}, predicted {x.predicted}; shows {x.shows}" for x in least_lines(found))
    return _joined(
        *said,
        markdown_text(NOT_MEANT),
        "### Explained least",
        f"![the images that are explained least]({seen})" if seen else "",
        _listed(*shown),
    )


def _joint(e: Report, fit: _Fit, failures: Failures) -> str:
    if e.joint is None:
        return ""
    joint, digits = e.joint, digits_for([e.joint.effect])
    names = " + ".join(markdown_text(plain(name, 60)) for name in joint.names)
    said = f"**{names}**: {signed(joint.effect, digits)} ({signed(joint.ci_low, digits)} to "
    said += f"{signed(joint.ci_high, digits)}), flips {markdown_share(joint.flip_rate)} of {joint.images} images"
    shown = _picture(_typical(joint.examples, joint.effect, failures, fit.pairs), fit) if fit.rows else ""
    return _joined("### The strongest combination", said, shown)


def _subgroups(e: Report) -> str:
    """The features that raise some subgroups of the images and lower others."""
    digits, lines = digits_for(f.effect for f in e.features), []
    for f in e.features:
        told = mixed_in_words([x for x in e.subgroups if x.feature == f.feature], digits)
        lines += [f"{plain(f.name, 60)}: {'; '.join(told)}"] if told else []
    return _joined("### Not the same for all images", _listed(*lines[:ROWS])) if lines else ""


def _interactions(e: Report) -> str:
    """The pairs that were found to do more or less than they add up to; how many were looked at."""
    if not e.interactions:
        return ""
    digits, names = digits_for(x.effect for x in e.interactions), {f.feature: f.name for f in e.features}
    found = [x for x in e.interactions if x.found]
    table = markdown_rows(
        ("pair", "beyond adding up", "95% interval", "decision", "what"),
        (False, True, True, False, False),
        (
            (
                " + ".join(markdown_text(plain(names.get(f, f), 40)) for f in (x.one, x.other)),
                f"**{signed(x.effect, digits)}**",
                f"{signed(x.ci_low, digits)} to {signed(x.ci_high, digits)}",
                markdown_text(x.decision),
                markdown_text(interaction_in_words(x, digits)),
            )
            for x in found[:ROWS]
        ),
    )
    of = f"{len(found)} of {len(e.interactions)} pairs of strong features"
    said = f"{of} do more together, or less, than they add up to."
    return _joined("### Together", said, table if found else "")


def _controls(e: Report) -> str:
    if not e.controls:
        return ""
    digits = digits_for(x for control in e.controls for x in (control.against_null, control.effect))
    several = len(e.controls) > 1  # each is decided against the others
    others, decided = (("against the others", "95% interval"), ("decision",)) if several else ((), ())
    headings = ("words", "against the null edit", "95% interval", *others, "flips", *decided)

    def cells(control: Control) -> list[str]:
        found = [
            markdown_text(plain(control.prompt, 40)),
            signed(control.against_null, digits),
            f"{signed(control.null_low, digits)} to {signed(control.null_high, digits)}",
        ]
        if several:
            between = f"{signed(control.ci_low, digits)} to {signed(control.ci_high, digits)}"
            found += [f"**{signed(control.effect, digits)}**", between]
        found.append(markdown_share(control.flip_rate))
        return [*found, f"{glyph(control.decision)} {markdown_text(plain(control.decision))}"] if several else found

    right = [heading not in ("words", "decision") for heading in headings]
    return _joined("### Control prompts", markdown_rows(headings, right, map(cells, e.controls[:ROWS])))


def _legend(meanings: Mapping[str, str], decisions: Iterable[str]) -> str:
    found = dict.fromkeys(decisions)
    return "; ".join(f"{glyph(d)} *{d}*: {meaning}" for d, meaning in meanings.items() if d in found)


def _listed(*lines: str) -> str:
    return "\n".join(f"- {markdown_text(plain(line, 600))}" for line in lines if line)


def _cut(tree: str) -> str:
    lines = tree.splitlines()
    return "\n".join(lines[:_TREE] + ([f"- {len(lines) - _TREE} more"] if len(lines) > _TREE else []))
