"""Is what is said to flip a picture what flips it? Pictures of a world against the same pictures drawn anew.

The pictures are drawn from states that no training, study, exam or other benchmark has seen. What truly flips one is
found by drawing it again with each feature of the corpus, and asking the classifier about the drawing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.bench.truth import world_of
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import becomes
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.editing.python_editor import PythonEditorPart
from diffex_dagster.search.flipping import FlipOptions
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.one_picture import explain_images
from diffex_dagster.stages.picture_edits import Wishes, asked_of
from diffex_dagster.stages.prepared import prepared_for
from diffex_dagster.study import Study
from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.progress import Reporter, silent
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.exact import ExactEditor
from diffex_dagster.worlds.redrawing import sample_states

SEED = 2111  # of these pictures alone
AT_ONCE = 4  # pictures that are edited together, and kept before the next


@dataclass(frozen=True)
class FlipMarks:
    """How the smallest sets of one arm and classifier did.

    Attributes:
        arm, classifier: whose report it is of.
        pictures: how many were explained.
        flippable: of these, how many a single feature of the corpus truly flips.
        as_small: of the flippable ones, for how many a set was found that is no larger: one feature.
        truly: of the flippable ones with such a set, how many have a first set that truly flips the picture.
        other: pictures that no single feature truly flips; `claimed` of them got a set of one feature.
    """

    arm: str
    classifier: str
    pictures: int
    flippable: int
    as_small: int
    truly: int
    other: int
    claimed: int


def measure_flips(
    study: Study, arms: Mapping[str, str], pictures: int, report: Reporter = silent, most: int = 1
) -> list[FlipMarks]:
    """Explain pictures that no study has seen, and hold the sets that flip them against the truth.

    Args:
        study: of a world's drawings.
        arms: arm ("exact", "diffusion") -> name of the study's editor.
        pictures: how many.
        most: features of the largest set that is looked for; for the share above, one is enough.

    Edits and scores are kept among the study's results: those that exist are not made again.
    """
    world, corpus = world_of(study), corpus_now(study)
    states = sample_states(pictures, SEED, world)
    named = {f"flips_{i:04d}.png": state for i, state in enumerate(states)}
    drawn = {}
    for done, (name, state) in enumerate(named.items()):
        report("drawings of what is true", done, len(named), 0)
        drawn[name] = _redrawn(world, state, corpus, study.images.size)
    marks = []
    for arm, editor_name in arms.items():
        of = study.changed(name=f"{study.name}_flips").with_editor(editor_name)
        editor = _editor(of, world, named)
        base = at_work(of, editor=editor, report=report)
        base = prepared_for(base, {name: each.picture for name, each in drawn.items()}, corpus)
        for classifier in study.classifiers:
            subject = base.subject(classifier)
            true = {name: each.flips(subject.classifier, of) for name, each in drawn.items()}
            findings = {}
            names = list(drawn)
            for start in range(0, len(names), AT_ONCE):
                some = names[start : start + AT_ONCE]
                keys = subject.store.put_images({name: drawn[name].picture for name in some})
                asked = asked_of(subject, corpus, Wishes(FlipOptions(most=most)))
                for f in explain_images(asked, {keys[n]: n for n in some}, "diffex bench flips"):
                    findings[f.file] = [each.features for each in f.flips]
            marks.append(mark_flips(arm, classifier, true, findings))
    return marks


def mark_flips(
    arm: str,
    classifier: str,
    true: Mapping[str, set[str]],
    found: Mapping[str, Sequence[tuple[str, ...]]],
) -> FlipMarks:
    """Count.

    Args:
        true: picture -> features that truly flip it, each alone.
        found: picture -> the smallest sets that were found, the first of them the answer.
    """
    flippable = [name for name, features in true.items() if features]
    small = [name for name in flippable if found[name] and len(found[name][0]) == 1]
    truly = sum(found[name][0][0] in true[name] for name in small)
    other = [name for name in true if not true[name]]
    claimed = sum(bool(found[name]) and len(found[name][0]) == 1 for name in other)
    return FlipMarks(arm, classifier, len(true), len(flippable), len(small), truly, len(other), claimed)


def _editor(study: Study, world: World, states: Mapping[str, State]) -> Editor:
    """The arm's editor; the exact one knows the states of these pictures."""
    if not isinstance(study.editor_part, PythonEditorPart):
        return at_work(study).bare_editor
    file = study.results_folder / "bench" / "flips" / "attributes.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(dict(states)).encode())
    return ExactEditor(world, file.parent, {"attributes": file.name})


@dataclass(frozen=True)
class _Redrawn:
    """A picture and the same with each feature of the corpus that changes it."""

    picture: Image.Image
    changed: tuple[tuple[str, Image.Image], ...]

    def flips(self, classifier: Classifier, study: Study) -> set[str]:
        """Features that change the decision about the drawing when it is drawn again with them."""
        if not self.changed:
            return set()
        outputs = classifier([self.picture, *(picture for _, picture in self.changed)])
        before = np.repeat(outputs[:1], len(self.changed), axis=0)
        gained, lost = becomes(before, outputs[1:], classifier.labels, study.target, study.folder)
        return {feature for (feature, _), flips in zip(self.changed, gained | lost, strict=True) if flips}


def _redrawn(world: World, state: State, corpus: Corpus, size: int) -> _Redrawn:
    changed = []
    for feature in corpus.walk():
        if feature.editable and world.meaning(feature.prompt):
            after = world.set_feature(state, feature.prompt, feature.direction == "remove")
            if after != state:
                changed.append((feature.id, world.draw(after, size)))
    return _Redrawn(world.draw(state, size), tuple(changed))


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else str(count)


def as_json(marks: Sequence[FlipMarks]) -> list[dict[str, Any]]:
    """The marks as plain data, with their shares."""
    return [vars(m) | {"share": m.as_small / m.flippable if m.flippable else None} for m in marks]


def as_markdown(marks: Sequence[FlipMarks]) -> str:
    """The marks as a table."""
    rows = [
        "| arm | classifier | pictures | one feature flips | found with one | so it does | others | found with one |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for m in marks:
        rows.append(
            f"| {m.arm} | `{m.classifier}` | {m.pictures} | {m.flippable} | {_share(m.as_small, m.flippable)} | "
            f"{_share(m.truly, m.as_small)} | {m.other} | {_share(m.claimed, m.other)} |"
        )
    return "\n".join(rows)
