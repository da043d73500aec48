"""What the decisions of a study are made with: its margin, how far its measure can be moved, its control prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.editing.calibration import in_words
from diffex_dagster.effects.deciding import decide_controls
from diffex_dagster.effects.deciding_one import CLAIMS, Decision
from diffex_dagster.effects.options import ClaimOptions, DecisionOptions
from diffex_dagster.effects.paired import Reach, interval
from diffex_dagster.results import Control
from diffex_dagster.search.levels import GateOutcome
from diffex_dagster.stages.edits import Concepts, control_edits, controls_like
from diffex_dagster.stages.scores import Paired
from diffex_dagster.study import Study

MARGIN = 0.02  # of a probability; of a measure without limits, times the range of what was scored


def measure_reach(study: Study, paired: Mapping[Concepts, Paired]) -> Reach:
    """How far the study's measure can be moved, with the study's margin as `still`.

    A probability can be moved by 1, on average by no more than its mean before the edit leaves. A measure without
    limits has moved no further than from the least to the most of all pictures that were scored; nothing says that it
    could not be moved further.
    """
    if study.target.bounded:
        base = float(next(iter(paired.values())).null.mean())
        reach = Reach(1.0, -base, 1.0 - base)
    else:
        values = np.concatenate([values for of in paired.values() for values in (of.null, of.edit)])
        reach = Reach(float(np.ptp(values)))
    return replace(reach, still=_margin(study, reach.furthest))


def reach_of(study: Study, spread: float) -> Reach:
    """The reach of a measure without limits whose values range over `spread`, with the study's margin as `still`."""
    return Reach(spread, still=_margin(study, spread))


def _margin(study: Study, furthest: float) -> float:
    return MARGIN * furthest if study.effects.margin is None else study.effects.margin


def reach_on(study: Study, reach: Reach, base: NDArray[np.float64]) -> Reach:
    """The reach over some of the images: what the mean of a probability can be there.

    Args:
        base: the measure before the edit on these images.
    """
    if not study.target.bounded or not base.size:
        return reach
    return replace(reach, low=-float(base.mean()), high=1.0 - float(base.mean()))


def decision_options(study: Study, reach: Reach | None = None) -> DecisionOptions:
    """The study's settings as the decisions take them.

    Args:
        reach: of the study's measure, for the margin of a measure without limits; a probability's when left out.
    """
    margin = study.effects.margin if study.effects.margin is not None else MARGIN
    return DecisionOptions(
        **{name: getattr(study.effects, name) for name in ClaimOptions.model_fields},
        margin=reach.still if reach else margin,
        seed=study.seed,
    )


def control_differences(study: Study, paired: Mapping[Concepts, Paired], concepts: Concepts) -> NDArray[np.float64]:
    """d of the control edits that a claim is held against (`controls_like`), (images, control prompts)."""
    columns = [paired[control].effect for control in controls_like(study, concepts)]
    return np.stack(columns, axis=1) if columns else np.empty((len(next(iter(paired.values())).null), 0))


def control_rows(study: Study, paired: Mapping[Concepts, Paired], reach: Reach) -> tuple[Control, ...]:
    """What the control prompts did: the placebo that claims are held against, and each against the others."""
    words, options = control_edits(study), decision_options(study, reach)
    decisions: dict[Concepts, Decision] = {}
    for setting in study.control_settings:  # each against those that are edited like it
        alike = [concepts for concepts in words if concepts[0].setting == setting]
        limits = reach_on(study, reach, paired[alike[0]].base) if alike else reach
        found = decide_controls({c[0].prompt: paired[c].effect for c in alike}, options, reach=limits)
        decisions |= {concepts: found[concepts[0].prompt] for concepts in alike}
    rows = []
    for concepts in words:
        of, prompt = paired[concepts], concepts[0].prompt
        if len(study.control_settings) > 1:
            prompt = f"{prompt} ({in_words(concepts[0].setting)})"
        low, high = interval(of.beyond_control, options.confidence, reach_on(study, reach, of.base))
        null_low, null_high = interval(of.effect, options.confidence, reach)
        decision = decisions[concepts]
        rows.append(
            Control(
                prompt=prompt,
                effect=float(of.beyond_control.mean()),
                ci_low=low,
                ci_high=high,
                against_null=float(of.effect.mean()),
                null_low=null_low,
                null_high=null_high,
                flip_rate=float(of.flipped.mean()),
                images=len(of.null),
                decision=decision.decision,
                p_value=decision.p_value,
            )
        )
    return tuple(rows)


def noise_warning(study: Study, gate: Sequence[GateOutcome], margin: float) -> str:
    """Why the search had nothing to go by, where control prompts move the score as far as everything else; else "".

    Every group is held against its own floor: that of the images that it was measured on, which lack it. The floor that
    is said is the lowest of them.
    """
    scored = [(o.magnitude, o.floor) for o in gate if o.magnitude is not None and o.floor is not None]
    noise_floor = min((floor for _, floor in scored), default=0.0)
    if not scored or noise_floor <= margin or any(magnitude > floor for magnitude, floor in scored):
        return ""
    words = ", ".join(f"“{word}”" for word in study.effects.control_prompts)
    return (
        f"The noise floor is above every group: edits towards words that mean nothing ({words}) differ by "
        f"{noise_floor:.3f} from each other, and no group moves the {study.target.describe()} further. Look at their "
        "edits: where one shows something, replace it in effects.control_prompts; where all change the picture, make "
        "the editor gentler (scale, skip); else use more images, which narrow the floor."
    )


def control_warnings(controls: Sequence[Control]) -> tuple[str, ...]:
    """What is wrong with control prompts that are claimed to move the score."""
    return tuple(
        f"The control prompt “{control.prompt}” {control.decision} the score against the others "
        f"({control.effect:+.3f}): it means something to the editor or to the classifier. Every claim is held against "
        "it; replace it in effects.control_prompts."
        for control in controls
        if control.decision in CLAIMS
    )
