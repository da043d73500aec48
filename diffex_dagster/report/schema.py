"""`report.json` and `comparison.json`: the report without its pictures, for other programs.

The shapes are documented by the JSON Schemas in `report/schemas/`. A field may be added under the same version; a field
that changes its meaning or goes away raises it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from importlib.resources import files
from typing import Any

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.effects.subgroups import SubgroupEffect
from diffex_dagster.report.rows import comparison_rows, finite, interaction_rows, rows
from diffex_dagster.report.verdict import agreement_sentences, comparison_verdict, verdict
from diffex_dagster.results import (
    Attribution,
    Comparison,
    Confounder,
    Control,
    EditorComparison,
    Example,
    Group,
    JointCombination,
    JudgeCheck,
    RankedFeature,
    Report,
    Turn,
)

REPORT_SCHEMA = "diffex.report/1"
COMPARISON_SCHEMA = "diffex.comparison/1"
EDITORS_SCHEMA = "diffex.editors/1"
_AGREED = ("feature", "name", "prompt", "direction", "group", "level", "verdict")
_UNDER = ("effect", "ci_low", "ci_high", "decision", "edit_success", "confounded_with")
EFFECT_NUMBERS = ("leak", "direct", "direct_low", "direct_high")
PAIR_NUMBERS = ("effect", "ci_low", "ci_high", "alone", "together")
CONTROL_NUMBERS = ("effect", "ci_low", "ci_high", "against_null", "null_low", "null_high", "flip_rate")
ATTRIBUTION_FIELDS = ("feature", "name", "changed", "before", "after", "images")


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of `report-1` or `comparison-1`."""
    text = (files("diffex_dagster.report") / "schemas" / f"{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def report_as_json(explanation: Report) -> dict[str, Any]:
    """An explanation as plain JSON data (schema `report-1`): everything but the pictures. No number is NaN."""
    e = explanation
    data = {
        "schema": REPORT_SCHEMA,
        "study": e.study,
        "title": e.title,
        "domain": e.domain,
        "classifier": {"name": e.classifier, "fingerprint": e.classifier_fingerprint, "labels": list(e.labels)},
        "target": e.target,
        "turn": e.turn and vars(e.turn),
        "baseline": e.baseline,
        "editor": {"name": e.editor, "fingerprint": e.editor_fingerprint},
        "corpus_version": e.corpus_version,
        "created": e.created.isoformat(),
        "command": e.command,
        "images": e.images,
        "noise_floor": e.noise_floor,
        "gate": e.gate,
        "settings": [list(pair) for pair in e.settings],
        "verdict": verdict(e),
        "features": rows(e.features),
        "groups": [
            {"feature": g.feature, "name": g.name, "kept": g.kept, "reason": g.reason, "magnitude": g.magnitude}
            for g in e.groups
        ],
        "controls": [vars(control) for control in e.controls],
        "judge": e.judge and vars(e.judge),
        "joint": e.joint and {
            "features": list(e.joint.features),
            "names": list(e.joint.names),
            "effect": e.joint.effect,
            "ci_low": e.joint.ci_low,
            "ci_high": e.joint.ci_high,
            "flip_rate": e.joint.flip_rate,
            "becomes": e.joint.becomes,
            "leaves": e.joint.leaves,
            "images": e.joint.images,
            "examples": [_example(x) for x in e.joint.examples],
        },
        "side_effects": [vars(each) for each in e.side_effects],
        "subgroups": [vars(each) for each in e.subgroups],
        "interactions": interaction_rows(e),
        "attributions": [{field: getattr(each, field) for field in ATTRIBUTION_FIELDS} for each in e.attributions],
        "drops": [{"name": name, "reason": reason} for name, reason in e.drops],
        "examples": {feature: [_example(x) for x in examples] for feature, examples in e.examples.items()},
        "caveats": list(e.caveats),
        "warnings": list(e.warnings),
        "hints": list(e.hints),
    }  # fmt: skip
    return finite(data)


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The explanation in a `report.json`, without its examples (their pictures are not in it).

    Raises:
        ValueError: the data is not of this schema version.
    """
    if data.get("schema") != REPORT_SCHEMA:
        raise ValueError(f"expected schema {REPORT_SCHEMA!r}, found {data.get('schema')!r}")
    joint = data["joint"]
    known = {field.name for field in fields(RankedFeature)}
    return Report(
        study=data["study"],
        title=data["title"],
        domain=data["domain"],
        classifier=data["classifier"]["name"],
        classifier_fingerprint=data["classifier"]["fingerprint"],
        labels=tuple(data["classifier"]["labels"]),
        target=data["target"],
        baseline=_number(data["baseline"]),
        editor=data["editor"]["name"],
        editor_fingerprint=data["editor"]["fingerprint"],
        corpus_version=data["corpus_version"],
        created=datetime.fromisoformat(data["created"]),
        command=data["command"],
        images=data["images"],
        noise_floor=_number(data["noise_floor"]),
        gate=data["gate"],
        features=tuple(_feature({k: v for k, v in row.items() if k in known}) for row in data["features"]),
        groups=tuple(Group(**group) for group in data["groups"]),
        joint=joint
        and JointCombination(
            tuple(joint["features"]),
            tuple(joint["names"]),
            effect=_number(joint["effect"]),
            ci_low=_number(joint["ci_low"]),
            ci_high=_number(joint["ci_high"]),
            flip_rate=_number(joint["flip_rate"]),
            images=joint["images"],
            becomes=joint.get("becomes"),
            leaves=joint.get("leaves"),
        ),
        drops=tuple((drop["name"], drop["reason"]) for drop in data["drops"]),
        examples={},
        caveats=tuple(data["caveats"]),
        settings=tuple((what, value) for what, value in data["settings"]),
        side_effects=tuple(SideEffect(**_numbers(row, EFFECT_NUMBERS)) for row in data.get("side_effects", ())),
        subgroups=tuple(
            SubgroupEffect(**_numbers(row, ("effect", "ci_low", "ci_high"))) for row in data.get("subgroups", ())
        ),
        interactions=tuple(_interaction(row) for row in data.get("interactions", ())),
        attributions=tuple(_attribution(row) for row in data.get("attributions", data.get("looks", ()))),
        warnings=tuple(data.get("warnings", ())),
        hints=tuple(data.get("hints", ())),
        controls=tuple(Control(**_numbers(row, CONTROL_NUMBERS)) for row in data.get("controls", ())),
        judge=JudgeCheck(**data["judge"]) if data.get("judge") else None,
        turn=Turn(**data["turn"]) if data.get("turn") else None,
    )


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON data (schema `comparison-1`). No number is NaN."""
    c = comparison
    return finite(
        {
            "schema": COMPARISON_SCHEMA,
            "study": c.study,
            "title": c.title,
            "classifiers": list(c.classifiers),
            "target": c.target,
            "turn": c.turn and vars(c.turn),
            "created": c.created.isoformat(),
            "command": c.command,
            "editor": c.editor,
            "corpus_version": c.corpus_version,
            "images": c.images,
            "noise_floor": c.noise_floor,
            "verdict": comparison_verdict(c),
            "features": comparison_rows(c),
            "examples": {f.feature: [_pair(pair, c.classifiers) for pair in f.examples] for f in c.features},
            "rules": [
                {"rule": r.text, "holds": r.holds, "classifier": r.classifier, "severity": r.severity} for r in c.rules
            ],
            "caveats": list(c.caveats),
        }
    )


def editors_as_json(found: EditorComparison) -> dict[str, Any]:
    """Two editors' reports as plain JSON data (schema `editors-1`). No number is NaN."""
    return finite(
        {
            "schema": EDITORS_SCHEMA,
            "study": found.study,
            "title": found.title,
            "classifier": found.classifier,
            "target": found.target,
            "editors": list(found.editors),
            "created": found.created.isoformat(),
            "command": found.command,
            "images": found.images,
            "verdict": agreement_sentences(found),
            "judged_by_both": found.judged,
            "spearman": found.spearman,
            "same_sign": found.same_sign,
            "features": [
                {name: getattr(row, name) for name in _AGREED}
                | {
                    "editors": {
                        editor: None if under is None else {name: getattr(under, name) for name in _UNDER}
                        for editor, under in zip(found.editors, row.editors, strict=True)
                    }
                }
                for row in found.features
            ],
        }
    )


def _example(x: Example) -> dict[str, Any]:
    return {
        "image": x.image,
        "file": x.file,
        "score_original": x.score_original,
        "score_null": x.score_null,
        "score_edit": x.score_edit,
        "score_placebo": x.score_placebo,
        "effect": x.effect,
        "flipped": bool(x.flipped),
        "becomes": x.becomes,
        "leaves": x.leaves,
        "succeeded": x.succeeded,
        "counted": x.counted,
    }


def _pair(pair: tuple[Example, Example], names: Sequence[str]) -> dict[str, Any]:
    """One image under the first and the last version."""
    both = dict(zip((names[0], names[-1]), pair, strict=True))
    return {
        "image": pair[0].image,
        "file": pair[0].file,
        "effects": {name: x.effect for name, x in both.items()},
        "scores_null": {name: x.score_null for name, x in both.items()},
        "scores_edit": {name: x.score_edit for name, x in both.items()},
    }


def _feature(row: Mapping[str, Any]) -> RankedFeature:
    measured = ("effect", "ci_low", "ci_high", "magnitude", "sign_agreement", "flip_rate")
    other = row.get("confounded_with")
    companion = other and Confounder(**_numbers(other, EFFECT_NUMBERS))
    return RankedFeature(**{**_numbers(row, measured), "confounded_with": companion})


def _interaction(row: Mapping[str, Any]) -> Interaction:
    known = {field.name for field in fields(Interaction)}
    numbers = _numbers(row, PAIR_NUMBERS)
    ends = {"beyond_low": -math.inf, "beyond_high": math.inf} if row["beyond"] is not None else {}
    numbers |= {end: infinite for end, infinite in ends.items() if row[end] is None}
    return Interaction(**{name: value for name, value in numbers.items() if name in known})


def _attribution(row: Mapping[str, Any]) -> Attribution:
    changed, before, after = (_number(row[name]) for name in ("changed", "before", "after"))
    return Attribution(row["feature"], row["name"], changed, before, after, row["images"])


def _numbers(row: Mapping[str, Any], which: Sequence[str]) -> dict[str, Any]:
    """A row whose null numbers are NaN again."""
    return {**row, **{key: _number(row[key]) for key in which}}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
