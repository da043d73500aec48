"""How often do judges of edits err? On drawings, of which it is known what they show.

A judge decides two things in a study: which pictures show an attribute already (`stages.judging.shown_before`), and
which edits show theirs (`edits_that_show`). Both are asked here as a study asks them, of every judge that the study
names, calibrated on its control prompts:

- *presence*: random drawings, each attribute of the world in each of them, there or not;
- *edits*: some of these drawn again with one attribute changed. The judge is asked for what was put there, and for
  another attribute, which is in neither drawing.

Every drawing goes through the editor's null edit first, so that a judge sees what it sees in a study. What the editor
draws badly is not part of this: the drawings are exact.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAMLError

from diffex_dagster.bench.exam import exact_editors_on
from diffex_dagster.bench.truth import Scope, attributes, world_of
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.presence import clustered_interval
from diffex_dagster.errors import DiffExError
from diffex_dagster.judging.kinds import AnyJudgePart
from diffex_dagster.judging.none import NoJudgePart
from diffex_dagster.judging.parts import JudgePart
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import control_edits, edit_requests, make_edits
from diffex_dagster.stages.judging import Sight, ensure_evidence, evidence_before, judge_name, sight_of
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import Images, Study
from diffex_dagster.utils.mistakes import first_fault
from diffex_dagster.utils.text import load_yaml
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.redrawing import sample_states

SEED = 701  # of the drawings; nothing else draws from it
DRAWINGS, CHANGES = 48, 4


@dataclass(frozen=True)
class Rate:
    """A share of questions, with an interval over pictures; NaN where there was nothing to ask.

    Attributes:
        yes_of, asked_of: how many questions were asked of each picture, and how many of them were answered with yes.
            A picture and what it was changed into are one.
    """

    yes_of: tuple[int, ...]
    asked_of: tuple[int, ...]

    @property
    def yes(self) -> int:
        """Questions answered with yes."""
        return sum(self.yes_of)

    @property
    def asked(self) -> int:
        """Questions asked."""
        return sum(self.asked_of)

    @property
    def share(self) -> float:
        """Of what was asked."""
        return self.yes / self.asked if self.asked else math.nan

    def interval(self) -> tuple[float, float]:
        """95% interval of the share; answers about one picture are not independent (`clustered_interval`)."""
        return clustered_interval(self.yes_of, self.asked_of) if self.asked else (math.nan, math.nan)

    def as_json(self) -> dict[str, Any]:
        """With its interval, and the pictures that it is of; null where there was nothing to ask."""
        if not self.asked:
            return {"share": None, "low": None, "high": None, "asked": 0, "pictures": 0}
        low, high = self.interval()
        pictures = sum(asked > 0 for asked in self.asked_of)
        return {"share": self.share, "low": low, "high": high, "asked": self.asked, "pictures": pictures}


@dataclass(frozen=True)
class JudgeErrors:
    """What one judge says of drawings of which the truth is known.

    Attributes:
        judge: its name.
        seen, imagined: of the attributes that null edits show, and of those that they do not: the share that it sees.
        shown, mistaken: of the attributes that were put into a drawing, and of others that were not: the share that it
            takes for an edit that shows it.
        auc: factor of the world -> how well its evidence tells pictures with an attribute of it from those without
            (mean over the attributes; 0.5 is chance); without factors that every picture or none shows.
        control_words: share of null edits in which it sees a control prompt; None where it has no level of its own.
    """

    judge: str
    seen: Rate
    imagined: Rate
    shown: Rate
    mistaken: Rate
    auc: Mapping[str, float]
    control_words: float | None

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        rates = {name: getattr(self, name).as_json() for name in ("seen", "imagined", "shown", "mistaken")}
        return {"judge": self.judge, **rates, "auc": dict(self.auc), "control_words": self.control_words}


@dataclass(frozen=True)
class Drawn:
    """The drawings: key -> what each shows; and pairs (before, after, attribute put there, attribute in neither)."""

    states: Mapping[str, State]
    base: tuple[str, ...]
    pairs: tuple[tuple[str, str, str, str], ...]


def judged_by(study: Study, judges: Sequence[str]) -> Study:
    """The study with other judges than its own.

    Args:
        judges: the judge, and the second judge if there are two, each as a study file writes it:
            `{kind: clip, checkpoint: ...}`, `{kind: vlm, model: ..., base_url: ...}`.

    Raises:
        DiffExError: one is no judge, or there are more than two.
    """
    if len(judges) > 2:
        raise DiffExError(f"--judge: {len(judges)} were given; two at a time can be asked")
    parts = [_judge(text) for text in judges]
    return study.changed(judge=parts[0], second_judge=parts[1] if len(parts) == 2 else NoJudgePart())


def _judge(text: str) -> JudgePart:
    forms = "write it as in a study file: {kind: clip, checkpoint: ...} or {kind: vlm, model: ..., base_url: ...}"
    try:
        part: JudgePart = TypeAdapter(AnyJudgePart).validate_python(load_yaml(text))
    except YAMLError as error:
        raise DiffExError(f"--judge {text}: it is no YAML; {forms}") from error
    except ValidationError as error:
        raise DiffExError(f"--judge {text}: {first_fault(error)}; {forms}") from error
    return part


def judge_errors(
    study: Study, drawings: int = DRAWINGS, changes: int = CHANGES, scope: Scope | None = None
) -> list[JudgeErrors]:
    """The errors of the study's judge and of its second judge, where there are any, in this order.

    Args:
        study: a study of a world's drawings; its editor in use makes the null edits and those of the control prompts.
        drawings, changes: how many, and how many attributes are put into each.

    Raises:
        DiffExError: the study is of no world, or a judge cannot be asked.
    """
    scope, world = scope or Scope(), world_of(study)
    folder, states, pairs = _draw(study, world, drawings, changes)
    asked = study.changed(
        name=f"{study.name}_judges",
        images=Images(folder=folder, size=study.images.size),
        editors=exact_editors_on(study, folder / "attributes.json"),
        effects=study.effects.model_copy(update={"confirmation": 0.0}),
    )
    work = StudyContext(asked, report=scope.report)
    keys = {name: key for key, name in sample_images(work).keys.items()}
    named = Drawn(
        {keys[name]: state for name, state in states.items()},
        tuple(dict.fromkeys(keys[name] for name in states if name.startswith("base"))),
        tuple((keys[before], keys[after], put, other) for before, after, put, other in pairs),
    )
    scope.say("null edits and control prompts")
    make_edits(work, edit_requests(list(named.states), [()], work.seeds), "null edits")
    make_edits(work, edit_requests(named.base, control_edits(work.study), work.seeds), "control prompts")
    found = []
    for judge in (work.judge, work.second_judge):
        if judge is not None:
            scope.say(judge_name(judge))
            found.append(_errors(work.changed(judge=judge), world, named))
    return found


def _draw(
    study: Study, world: World, drawings: int, changes: int
) -> tuple[Path, dict[str, State], list[tuple[str, str, str, str]]]:
    """Write the drawings below the study's results; file name -> state, and pairs as in `Drawn`, by file name."""
    rng, phrases = random.Random(SEED), attributes(world)
    states: dict[str, State] = {}
    pairs = []
    for i, state in enumerate(sample_states(drawings, SEED, world)):
        states[f"base_{i:03d}.png"] = state
        shown = {phrase for phrase in phrases if world.has_feature(state, phrase)}
        absent = sorted(set(phrases) - shown)
        for j, put in enumerate(rng.sample(absent, len(absent))):
            after = world.set_feature(state, put)
            factor = world.phrases[put][0]
            others = [p for p in absent if world.phrases[p][0] != factor and not world.has_feature(after, p)]
            if not world.has_feature(after, put) or not others:
                continue  # a hat hides the hair
            states[f"changed_{i:03d}_{j:02d}.png"] = after
            pairs.append((f"base_{i:03d}.png", f"changed_{i:03d}_{j:02d}.png", put, rng.choice(others)))
            if sum(before == f"base_{i:03d}.png" for before, *_ in pairs) == changes:
                break
    folder = study.results_folder / "bench" / f"judges-{SEED}-{drawings}-{changes}"
    attributes_file = folder / "attributes.json"
    if not attributes_file.exists() or json.loads(attributes_file.read_text("utf-8")) != states:
        folder.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            world.draw(state, study.images.size).save(folder / name)
        attributes_file.write_text(json.dumps(states, indent=1) + "\n", "utf-8")
    return folder, states, pairs


def _errors(work: StudyContext, world: World, drawn: Drawn) -> JudgeErrors:
    sight, phrases = sight_of(work, drawn.base), attributes(world)
    before = evidence_before(work, phrases, drawn.base)
    truth = {p: np.array([world.has_feature(drawn.states[key], p) for key in drawn.base], dtype=bool) for p in phrases}
    of_put = _evidence(work, [(first, then, put) for first, then, put, _ in drawn.pairs])
    of_other = _evidence(work, [(first, then, other) for first, then, _, other in drawn.pairs])
    chance = max(sight.chances.values(), default=0.0)
    shown, mistaken = (np.diff(each, axis=1)[:, 0] > chance for each in (of_put, of_other))
    levels = _levels(sight, phrases, [put for _, _, put, _ in drawn.pairs], of_put, shown)
    told = [p for p in phrases if p in levels]
    seen = np.array([before[p] > levels[p] for p in told], dtype=bool).reshape(-1, len(drawn.base))
    there = np.array([truth[p] for p in told], dtype=bool).reshape(seen.shape)
    pairs_of = np.array([[first == key for key in drawn.base] for first, *_ in drawn.pairs], dtype=bool)
    return JudgeErrors(
        judge_name(work.judge),
        _rate(seen, there),
        _rate(seen, ~there),
        _rate(shown[:, None], pairs_of),
        _rate(mistaken[:, None], pairs_of),
        _auc_by_factor(world, before, truth),
        sight.control_words,
    )


def _evidence(work: StudyContext, asked: Sequence[tuple[str, str, str]]) -> NDArray[np.float64]:
    """Evidence for a prompt in the null edits of two drawings, (asked, 2); mean over seeds."""
    of = [[(EditRequest(key, (), seed), prompt) for seed in work.seeds] for *keys, prompt in asked for key in keys]
    found = ensure_evidence(work, [each for some in of for each in some])
    return np.array([np.mean([found[each] for each in some]) for some in of]).reshape(-1, 2)


def _levels(
    sight: Sight, phrases: Sequence[str], put: Sequence[str], evidence: NDArray[np.float64], shown: NDArray[np.bool_]
) -> dict[str, float]:
    """Attribute -> evidence from which a picture shows it; without those of which that is not known.

    Args:
        put: attribute of each pair, whose evidence before and after is `evidence`, (pairs, 2), and which of them the
            judge takes for an edit that shows it.
    """
    found = {}
    for prompt in phrases:
        of = np.array([each == prompt for each in put], dtype=bool)
        level = sight.level_for(evidence[of, 0], evidence[of, 1], shown[of])
        if level is not None:
            found[prompt] = level
    return found


def _rate(yes: NDArray[np.bool_], asked: NDArray[np.bool_]) -> Rate:
    """Of the questions that were asked of each picture, (questions, pictures)."""
    return Rate(tuple((yes & asked).sum(axis=0).tolist()), tuple(asked.sum(axis=0).tolist()))


def auc(there: NDArray[np.float64], absent: NDArray[np.float64]) -> float:
    """P(evidence where it is > evidence where it is not), ties by half (Mann and Whitney 1947); NaN without either."""
    if not there.size or not absent.size:
        return math.nan
    above = np.sign(there[:, None] - absent[None, :])
    return float((above.mean() + 1.0) / 2.0)


def _auc_by_factor(
    world: World, evidence: Mapping[str, NDArray[np.float64]], truth: Mapping[str, NDArray[np.bool_]]
) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for phrase, shown in truth.items():
        value = auc(evidence[phrase][shown], evidence[phrase][~shown])
        if not math.isnan(value):
            found.setdefault(world.phrases[phrase][0], []).append(value)
    return {factor: float(np.mean(values)) for factor, values in found.items()}


def as_markdown(found: Sequence[JudgeErrors]) -> str:
    """One row a judge: shares in percent, with their intervals; "–" where there was nothing to ask."""
    lines = [
        "| judge | there, seen | not there, seen | put there, shown | not put there, shown | AUC by factor |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for each in found:
        rates = (each.seen, each.imagined, each.shown, each.mistaken)
        low_to_high = sorted(each.auc.items(), key=lambda item: item[1])
        said = ", ".join(f"{factor.replace('_', ' ')} {value:.2f}" for factor, value in low_to_high)
        lines.append(f"| {each.judge} | {' | '.join(map(_percent, rates))} | {said or '–'} |")
    return "\n".join(lines)


def _percent(rate: Rate) -> str:
    if not rate.asked:
        return "–"
    low, high = rate.interval()
    return f"{rate.share:.0%} [{low:.0%}, {high:.0%}] of {rate.asked}"
