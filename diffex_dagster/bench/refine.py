"""Is a missing group found? A corpus without what a rule leans on most, refined from pictures and scores alone.

The proposer here is scripted: it looks at the pictures of a question, reads their captions, and names the place whose
marks differ most between pictures above their prediction and below it, one a round. It knows the words for what it
sees, and neither the rule nor which of the five missing places matters: by luck it would name that one within two
rounds in two of five. So it is measured whether the question holds what it takes to answer it, and whether what is
accepted then explains more; how well a model sees and names is not measured.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.bench.tiles import COLOURS, PLACES, draw_weights, group_of, marks_of, prompt_of, sample
from diffex_dagster.corpus.refining import Refined, Refinement, refine_prompt
from diffex_dagster.corpus.tree import slug
from diffex_dagster.corpus.vlm.prompts import ProposalRequest
from diffex_dagster.corpus.vlm.protocol import Proposal
from diffex_dagster.corpus.vlm.recorded import RecordedProposer
from diffex_dagster.errors import CorpusError
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus import merge_edits, propose
from diffex_dagster.stages.edits import level1_edits
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.suggestions import accept, suggest
from diffex_dagster.study import Study, load_study

PICTURES, ROUNDS, AT_ONCE = 32, 2, 1
_SAID = re.compile(r"^(\d+)\. scored .* predicted .*: (above|below) its prediction", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """What became of one seed.

    Attributes:
        seed: of the rule, the place left out and the pictures.
        place: what was left out.
        round: in which it was suggested and accepted; None where it was not within `ROUNDS`.
        scores: how much was explained at first and after every round.
    """

    seed: int
    place: str
    round: int | None
    scores: tuple[float, ...]


def scripted_answer(question: str, pictures: Sequence[Image.Image], at_once: int = AT_ONCE) -> str:
    """What somebody with eyes answers: the marks that tell pictures above their prediction from those below it.

    Args:
        question: its text, of which the captions and the ids of what was tried are read.
        pictures: in the order of the captions.
        at_once: places that are named.
    """
    above, below = ([], []) if not pictures else _sides(question, pictures)
    gaps: dict[str, float] = {}
    for place in PLACES:
        if slug(f"Mark at the {place}") in re.findall(r"^- ([\w-]+): ", question, re.MULTILINE):
            continue
        gaps[place] = max(abs(_share(above, place, colour) - _share(below, place, colour)) for colour in COLOURS)
    named = sorted(gaps, key=lambda place: -gaps[place])[:at_once]
    said = [
        {
            "kind": "group", "under": None, "name": f"Mark at the {place}", "prompt": prompt_of(place),
            "editable": False, "exclusive": True, "children": group_of(place)["children"],
            "why": f"{gaps[place]:.0%} more of one side show it",
        }
        for place in named
    ]  # fmt: skip
    return json.dumps({"suggestions": said})


def _sides(question: str, pictures: Sequence[Image.Image]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    seen: dict[str, list[dict[str, str]]] = {"above": [], "below": []}
    for number, side in _SAID.findall(question):
        if int(number) <= len(pictures):
            seen[side].append(marks_of(pictures[int(number) - 1]))
    return seen["above"], seen["below"]


def _share(some: Sequence[dict[str, str]], place: str, colour: str) -> float:
    return sum(marks.get(place) == colour for marks in some) / len(some) if some else 0.0


class ScriptedProposer:
    """A recorded proposal, and suggestions of `scripted_answer`."""

    def __init__(self, file: Path) -> None:
        self.recorded, self.asked = RecordedProposer(file), 0

    def propose(self, images: Sequence[Image.Image], request: ProposalRequest) -> Proposal:
        """See `Proposer`."""
        return self.recorded.propose(images, request)

    def refine(self, asked: Refinement) -> Refined:
        """See `Refiner`."""
        self.asked += 1
        answer = scripted_answer(refine_prompt(asked), [seen.picture for seen in asked.pictures])
        return Refined(answer, "scripted")


def write_study(folder: Path, seed: int, corpus: dict[str, Any] | None = None) -> tuple[Study, str]:
    """A study of tiles whose corpus lacks five of nine places: the rule's strongest, and four that do nothing.

    Returns:
        The study, and the rule's strongest place.
    """
    weights, top = draw_weights(seed)
    idle = [place for place in PLACES if not any(prompt_of(place, c) in weights for c in COLOURS)]
    missing = {top, *idle[:4]}
    (folder / "images").mkdir(parents=True)
    for i, picture in enumerate(sample(PICTURES, seed)):
        picture.save(folder / "images" / f"{i:02d}.png")
    groups = [group_of(place) for place in PLACES if place not in missing]
    (folder / "proposal.json").write_text(json.dumps({"categories": groups}), "utf-8")
    (folder / "suggestions.json").write_text(json.dumps({"suggestions": [{"name": "Mark"}]}), "utf-8")
    recorded = {"kind": "recorded", "file": "proposal.json", "suggestions": "suggestions.json"}
    fields: dict[str, Any] = {
        "name": "tiles", "domain": "tiles", "images": {"size": 24},
        "corpus": corpus or {"vlm": recorded, "overrides": "corpus.yaml"},
        "editors": {"paint": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileEditor"}},
        "classifiers": {"rule": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
                                 "options": {"weights": weights}}},
        "target": {"label": "yes"}, "search": {"probes": 2, "beam": 9, "joint_size": 1},
        "effects": {"control_prompts": ["flornip"]},
    }  # fmt: skip
    with (folder / "study.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(fields, file)
    return load_study(folder), top


def searched(work: StudyContext) -> StudyContext:
    """The same study with the corpus file as it is now, searched for its classifier."""
    merge_edits(work)
    work = work.changed()
    level1_edits(work)
    run_search(work.subject("rule"))
    return work


def refine_once(folder: Path, seed: int) -> Found:
    """Refine the corpus of one seed, accepting all that is suggested."""
    study, top = write_study(folder, seed)
    proposer = ScriptedProposer(folder / "proposal.json")
    work = StudyContext(study).changed(proposer=proposer)
    sample_images(work)
    propose(work)
    when, scores = None, []
    for number in range(1, ROUNDS + 1):
        work = searched(work)
        found = suggest(work.subject("rule"))
        scores.append(found.rounds[-1].score or 0.0)
        try:
            taken, _ = accept(work, work.store.current_corpus(study.kept_as, "proposal"), [])
        except CorpusError:
            break  # nothing new was named
        if any(one.id == slug(f"Mark at the {top}") for one in taken):
            when = when or number
    work = searched(work)
    scores.append(_explained(work))
    return Found(seed, top, when, tuple(scores))


def _explained(work: StudyContext) -> float:
    from diffex_dagster.stages.suggestions import question_of

    _, report = question_of(work.subject("rule"))
    return (report.completeness.score or 0.0) if report.completeness else 0.0


def measure(seeds: Sequence[int]) -> list[Found]:
    """Every seed in a folder of its own, which is removed."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(refine_once(Path(folder) / "study", seed))
    return found


def as_markdown(found: Sequence[Found]) -> str:
    """One line a seed, and how many were found."""
    lines = ["| seed | left out | found in round | explained at first, and after each round |", "|---|---|---|---|"]
    lines += [
        f"| {each.seed} | {each.place} | {each.round or 'not'} | {', '.join(f'{x:.0%}' for x in each.scores)} |"
        for each in found
    ]
    hits = sum(each.round is not None for each in found)
    return "\n".join([*lines, "", f"found within {ROUNDS} rounds: {hits} of {len(found)}"])
