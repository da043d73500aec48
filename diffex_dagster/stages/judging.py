"""Stage: ask the probe whether edits show what they were asked for. Answers are kept and never computed twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.judging.asking import evidence_of
from diffex_dagster.judging.protocol import ConceptProbe, Pair
from diffex_dagster.stages.edit_metrics import changes_of, strengths
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests, nonsense_edits
from diffex_dagster.store import Store, StoredPicture, edit_key
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter, silent

PICTURES = 256  # read at a time


def ensure_evidence(
    store: Store, probe: ConceptProbe, wanted: Sequence[tuple[EditRequest, str]], editor: str, report: Reporter = silent
) -> dict[tuple[EditRequest, str], float]:
    """Evidence for (edit, prompt), asking the probe only for what the store does not hold.

    Args:
        editor: fingerprint of the editor that made the edits, which must exist.
    """
    pairs: dict[Pair, tuple[EditRequest, str]] = {(edit_key(r, editor), prompt): (r, prompt) for r, prompt in wanted}
    found = store.stored_evidence(pairs, probe.fingerprint)
    missing = sorted(pair for pair in pairs if pair not in found)
    done, reused = 0, len(found)
    report("edit checks", 0, len(missing), reused)
    for start in range(0, len(missing), PICTURES):
        some = missing[start : start + PICTURES]
        requests = {key: pairs[key, prompt][0] for key, prompt in some}
        files = store.stored_edits(list(requests.values()), editor)
        with store.let_go():
            pictures = {key: store.pictures.get(files[request]) for key, request in requests.items()}
            for answers in evidence_of(probe, pictures, some):
                store.put_evidence(answers, probe.fingerprint)
                found |= dict(answers)
                done += len(answers)
                report("edit checks", done, len(missing), reused)
    return {asked: found[pair] for pair, asked in pairs.items()}


def gains(
    study: Study,
    store: Store,
    probe: ConceptProbe,
    editor: str,
    asked: Sequence[tuple[Concepts, Concept]],
    images: Sequence[str],
    report: Reporter = silent,
) -> dict[tuple[Concepts, Concept], np.ndarray]:
    """How much more an edit shows a concept than the null edit does, for each image; negative: it shows it less.

    Args:
        asked: (what was edited, the concept looked for).
        images: keys of the sample images.

    Returns:
        (edited, concept) -> gain in evidence, mean over seeds, shape (images,), turned round for a concept that is
        removed, so that a positive gain always is what its edit is meant to do.
    """

    def at(concepts: Concepts, of: Concept) -> list[tuple[EditRequest, str]]:
        return [(request, of.prompt) for request in edit_requests(images, [concepts], study.seeds)]

    wanted = [pair for edited, of in asked for concepts in ((), edited) for pair in at(concepts, of)]
    found = ensure_evidence(store, probe, list(dict.fromkeys(wanted)), editor, report)

    def gain(edited: Concepts, of: Concept) -> np.ndarray:
        rises = [found[after] - found[before] for after, before in zip(at(edited, of), at((), of), strict=True)]
        rise = np.array(rises).reshape(len(images), len(study.seeds)).mean(axis=1)
        return rise if of.direction == "add" else -rise

    return {(edited, of): gain(edited, of) for edited, of in asked}


def chance_gain(nonsense: Iterable[np.ndarray]) -> float:
    """The gain in evidence of itself that one in four edits towards words that mean nothing reaches.

    The judge is often the model that made the edit, and an edit towards any word raises the evidence of that word a
    little. Never below zero, and zero where no nonsense was edited.
    """
    gained = [gain for gain in nonsense if gain.size]
    return max(0.0, float(np.quantile(np.concatenate(gained), 0.75))) if gained else 0.0


def control_gain(
    study: Study, store: Store, probe: ConceptProbe, editor: str, images: Sequence[str], report: Reporter = silent
) -> float:
    """`chance_gain` of the study's control prompts on these images."""
    asked = [(concepts, concepts[0]) for concepts in nonsense_edits(study)]
    return chance_gain(gains(study, store, probe, editor, asked, images, report).values())


def failed_edits(
    study: Study,
    store: Store,
    probe: ConceptProbe | None,
    editor: str,
    features: Sequence[Feature],
    images: Sequence[str],
    report: Reporter = silent,
) -> dict[str, float]:
    """Features of whose edits on these images too few show them -> the share that does.

    As the report judges them: by the probe and by how far the edits changed their pictures; by the latter alone where
    no probe judges.
    """
    weak, shares = study.effects.min_edit_strength, {}
    of = {feature.id: concepts_of([feature]) for feature in features}
    requests = edit_requests(images, [(), *of.values()], [study.seed])
    files = {r: StoredPicture(store.pictures, file) for r, file in store.stored_edits(requests, editor).items()}
    pairs = {edit_key(r, editor): (files[r], files[EditRequest(r.image, (), r.seed)]) for r in requests if r.concepts}
    changes, _ = changes_of(store, pairs)
    if probe:
        chance = control_gain(study, store, probe, editor, images, report)
        gained = gains(study, store, probe, editor, [(c, c[0]) for c in of.values()], images, report)
    for feature, concepts in of.items():
        keys = [edit_key(r, editor) for r in edit_requests(images, [concepts], [study.seed])]
        strength = strengths([changes[key] for key in keys])
        took = strength >= weak
        if probe:
            took &= gained[concepts, concepts[0]] > chance
            shares[feature] = float(took.mean())
        if strength.mean() < weak:
            shares[feature] = 0.0
    return {feature: share for feature, share in shares.items() if share < study.effects.min_edit_success}
