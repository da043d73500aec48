"""Stage: ask the probe whether edits show what they were asked for. Answers are kept and never computed twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.judging.protocol import ConceptProbe, Pair
from diffex_dagster.stages.edits import Concepts, edit_requests
from diffex_dagster.store import Store, edit_key
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
            for answers in probe.evidence(pictures, some):
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
