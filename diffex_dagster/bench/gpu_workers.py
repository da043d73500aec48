"""Whether two workers on one GPU make the edits of one process, through the pool that shares work among workers."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffex_dagster.bench.gpu_plan import PROMPTS, Check, Figures, Plan
from diffex_dagster.bench.workers import study_of
from diffex_dagster.editing.protocol import Concept, EditRequest

WAIT_S = 120.0  # for the workers to be ready


def two_workers(check: Check, plan: Plan) -> Figures:
    """The same edits by this process and by two workers with half a GPU each, as rows and files of two stores.

    Models are loaded and warm before the clock starts: by an edit of each of two batches under another seed.
    """
    if importlib.util.find_spec("ray") is None:
        return {"left_out": "Ray is not installed"}
    gpus = 0.5 if check.device.startswith("cuda") else 0.0
    alone = _edited(check, plan, check.folder / "alone", None)
    crew = _edited(check, plan, check.folder / "crew", {"count": 2, "gpus": gpus})
    one, two = alone.pop("kept"), crew.pop("kept")
    return {
        "edits": len(one),
        "same_edits": one.keys() == two.keys(),
        "edits_that_differ": sum(two.get(request) != made for request, made in one.items()),
        "gpus_each": gpus,
        "alone": alone,
        "workers": crew,
    }


def _edited(check: Check, plan: Plan, folder: Path, workers: Mapping[str, Any] | None) -> Figures:
    """Edits by a study's own editor, on workers where it has some: what is kept of them, and what they took."""
    from diffex_dagster.stages.context import StudyContext
    from diffex_dagster.stages.edits import edit_requests, ensure_edits
    from diffex_dagster.store import edit_key

    workload = check.workload(plan, batch_size=plan.batches[0])
    options = {name: value for name, value in workload.options.items() if value is not None}
    images = workload.images()
    side = next(iter(images.values())).width
    work = StudyContext(study_of(folder, {"kind": "ledits", **options, "source_prompts": "none"}, side, workers))
    keys = list(work.store.put_images({Path(file).stem: picture for file, picture in images.items()}).values())
    concepts = [(), *((Concept(prompt),) for prompt in PROMPTS[: plan.prompts])]
    requests = [*edit_requests(keys, concepts, [0]), EditRequest(keys[0], (Concept(PROMPTS[0]), Concept(PROMPTS[1])))]
    pool = getattr(work.editor, "pool", None)
    try:
        if pool and pool.gather(WAIT_S) < 2:
            raise RuntimeError(f"two workers did not come within {WAIT_S:.0f} s")
        ensure_edits(work.store, work.editor, edit_requests(keys[:2], concepts[1:], [1]))
        wall, cpu = time.perf_counter(), time.process_time()
        counts = ensure_edits(work.store, work.editor, requests)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        if pool:
            pool.close()
    fingerprint = work.editor.fingerprint
    masks = work.store.stored_masks(edit_key(request, fingerprint) for request in requests)
    files = work.store.stored_edits(requests, fingerprint)
    return {
        "kept": {
            edit_key(request, fingerprint): (file, mask and mask.tobytes())
            for request, file in files.items()
            for mask in [masks.get(edit_key(request, fingerprint))]
        },
        "seconds": wall,
        "process_seconds": cpu,
        "edits_per_second": counts.made / wall,
        "made_by_each": sorted(counts.by_worker.values()),
        "gpus": list(counts.gpus),
    }
