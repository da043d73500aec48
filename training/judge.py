"""Does the editor's own judge say of edits what a probe that was trained on drawings says?

Run `python -m training.judge --world avatars`: pictures of a seed that nothing was trained on are edited as the world's
study does, the judge and the probe (`training.probe`) are asked whether each edit shows its attribute, and the share of
edits on which they agree is printed with its interval. The world's words are edited with the editor's own options; with
`--calibrated`, after `diffex calibrate WORLD`, the prompts of the study's corpus with what was found for each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from diffex_dagster.editing.ledits import LeditsEditor
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.effects.agreement import cohens_kappa
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.stages.calibrated import chosen_settings
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.judging import least_gain
from diffex_dagster.study import load_study
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.rules import worlds
from training import data
from training.evaluate import STUDIES, pairs, probe_file, states
from training.probe import Probe, load


def agreement(says: Sequence[bool], shown: Sequence[bool]) -> dict[str, Any]:
    """How often a judge says of an edit what is true of it.

    Args:
        says: whether the judge says that an edit shows its attribute.
        shown: whether it does.

    Returns:
        Share of edits on which they agree, its 95% interval (Wilson), kappa, and the judge's errors of both kinds.
    """
    ours, true = np.array(says, dtype=bool), np.array(shown, dtype=bool)
    right = int(np.sum(ours == true))
    interval = stats.binomtest(right, len(ours)).proportion_ci(method="wilson")
    return {
        "edits": len(ours),
        "agreement": right / len(ours),
        "interval": [float(interval.low), float(interval.high)],
        "kappa": float(cohens_kappa(ours, true)),
        "edits_that_show": float(true.mean()),
        "said_to_show_and_do_not": int(np.sum(ours & ~true)),
        "show_and_said_not_to": int(np.sum(~ours & true)),
    }


def verdicts(
    editor: LeditsEditor,
    judge: Judge,
    probe: Probe,
    world: World,
    controls: Sequence[str],
    count: int,
    each: int,
    seed: int = data.HELD_OUT_SEED,
    chosen: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """What judge and probe say of edits towards attributes that the pictures lack, and what evidence each gained.

    Args:
        controls: words that mean nothing: an edit shows its attribute, to the judge, when it gains more evidence than
            edits towards these gain of themselves, and than their evidence differs between pictures.
        count: pictures of a seed that nothing was trained on.
        each: edits of each.
        chosen: phrase of the world -> `Concept.setting` of a calibrated study: these are edited, and each is held
            against controls of its own setting.
    """
    chosen = chosen or {}
    pictured = states(world, seed, count)
    images = {str(i): world.draw(state) for i, state in enumerate(pictured)}
    wanted = [(str(i), phrase, chosen.get(phrase, "")) for i, phrase in pairs(world, pictured, each, among=chosen)]
    settings = list(dict.fromkeys(setting for *_, setting in wanted))
    nonsense = [(image, word, setting) for setting in settings for image in images for word in controls]
    requests = {of: EditRequest(of[0], (Concept(of[1], setting=of[2]),)) for of in [*wanted, *nonsense]}
    nulls = {image: EditRequest(image) for image in images}
    made = {r: p for batch in editor.edit(images, [*nulls.values(), *requests.values()]) for r, p in batch}
    pictures = {"/".join(of): made[request] for of, request in requests.items()}
    pictures |= {image: made[request] for image, request in nulls.items()}
    asked = [(key, of[1]) for of in requests for key in (of[0], "/".join(of))]
    evidence: Mapping[tuple[str, str], float] = dict(
        answer for batch in judge.evidence(pictures, list(dict.fromkeys(asked))) for answer in batch
    )

    def gain(of: tuple[str, str, str]) -> float:
        return evidence["/".join(of), of[1]] - evidence[of[0], of[1]]

    nothing = [np.array([evidence[image, word] for image in images]) for word in controls]
    chance = {
        setting: least_gain([np.array([gain(of) for of in nonsense if of[2] == setting])], nothing)
        for setting in settings
    }
    read = probe.read([made[requests[of]] for of in wanted])
    return [
        {
            "image": of[0], "phrase": of[1], "setting": of[2], "gain": gain(of), "chance": chance[of[2]],
            "judge": gain(of) > chance[of[2]],
            "shown": state[world.phrases[of[1]][0]] in world.phrases[of[1]][1],
        }
        for of, state in zip(wanted, read, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write every verdict where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=sorted(worlds()), default="avatars")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--each", type=int, default=12, help="edits of each picture")
    parser.add_argument("--calibrated", action="store_true", help="edit as the calibrated study does")
    parser.add_argument("--draws", type=int, default=2, help="of noise, that each picture is judged at")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    arguments = parser.parse_args()
    world = worlds()[arguments.world]
    study = load_study(STUDIES / world.name)
    work, chosen = StudyContext(study), dict[str, str]()
    if arguments.calibrated:
        settings = chosen_settings(study, work.store) if work.store.exists() else {}
        chosen = {of: setting for (of, way), setting in settings.items() if way == "add" and of in world.phrases}
        if not chosen:
            parser.error(f"nothing is calibrated: run `diffex calibrate {world.name}` first")
    editor = work.editor if chosen else work.bare_editor
    assert isinstance(editor, LeditsEditor)
    found = verdicts(
        editor, editor.judge(arguments.draws), load(probe_file(world), world), world, study.effects.control_prompts,
        arguments.images, arguments.each,
        chosen=chosen,
    )  # fmt: skip
    figures = agreement([each["judge"] for each in found], [each["shown"] for each in found])
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "verdicts": found}, indent=1, default=bool) + "\n", "utf-8")


if __name__ == "__main__":
    main()
