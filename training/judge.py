"""Does the editor's own judge say of edits what a probe that was trained on drawings says?

Run `python -m training.judge --world avatars`: pictures of a seed that nothing was trained on are edited as the world's
study does, the judge and the probe (`training.probe`) are asked whether each edit shows its attribute, and the share of
edits on which they agree is printed with its interval.
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
from diffex_dagster.stages.judging import least_gain
from diffex_dagster.stages.setup import build_editor
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
) -> list[dict[str, Any]]:
    """What judge and probe say of edits towards attributes that the pictures lack, and what evidence each gained.

    Args:
        controls: words that mean nothing: an edit shows its attribute, to the judge, when it gains more evidence than
            edits towards these gain of themselves, and than their evidence differs between pictures.
        count: pictures of a seed that nothing was trained on.
        each: edits of each.
    """
    pictured = states(world, seed, count)
    images = {str(i): world.draw(state) for i, state in enumerate(pictured)}
    wanted = [(str(i), phrase) for i, phrase in pairs(world, pictured, each)]
    nonsense = [(image, word) for image in images for word in controls]
    requests = {(image, phrase): EditRequest(image, (Concept(phrase),)) for image, phrase in [*wanted, *nonsense]}
    nulls = {image: EditRequest(image) for image in images}
    made = {r: p for batch in editor.edit(images, [*nulls.values(), *requests.values()]) for r, p in batch}
    pictures = {f"{image}/{phrase}": made[request] for (image, phrase), request in requests.items()}
    pictures |= {image: made[request] for image, request in nulls.items()}
    asked = [(key, phrase) for image, phrase in requests for key in (image, f"{image}/{phrase}")]
    evidence: Mapping[tuple[str, str], float] = dict(
        answer for batch in judge.evidence(pictures, asked) for answer in batch
    )

    def gain(image: str, phrase: str) -> float:
        return evidence[f"{image}/{phrase}", phrase] - evidence[image, phrase]

    nothing = [np.array([evidence[image, word] for image in images]) for word in controls]
    chance = least_gain([np.array([gain(image, word) for image, word in nonsense])], nothing)
    read = probe.read([made[requests[pair]] for pair in wanted])
    return [
        {
            "image": image, "phrase": phrase, "gain": gain(image, phrase), "chance": chance,
            "judge": gain(image, phrase) > chance,
            "shown": state[world.phrases[phrase][0]] in world.phrases[phrase][1],
        }
        for (image, phrase), state in zip(wanted, read, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write every verdict where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=sorted(worlds()), default="avatars")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--each", type=int, default=12, help="edits of each picture")
    parser.add_argument("--draws", type=int, default=2, help="of noise, that each picture is judged at")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    arguments = parser.parse_args()
    world = worlds()[arguments.world]
    study = load_study(STUDIES / world.name)
    editor = build_editor(study)
    assert isinstance(editor, LeditsEditor)
    found = verdicts(
        editor, editor.judge(arguments.draws), load(probe_file(world), world), world, study.effects.control_prompts,
        arguments.images, arguments.each,
    )  # fmt: skip
    figures = agreement([each["judge"] for each in found], [each["shown"] for each in found])
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "verdicts": found}, indent=1, default=bool) + "\n", "utf-8")


if __name__ == "__main__":
    main()
