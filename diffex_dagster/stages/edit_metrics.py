"""Stage: how much each edit changed its picture against the null edit. Measured once and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from diffex_dagster.editing.protocol import Editor
from diffex_dagster.effects.edit_metrics import EditMetrics, measure_edit, pixel_change, strength
from diffex_dagster.effects.perceptual import Lpips
from diffex_dagster.errors import DiffExError
from diffex_dagster.results import Picture, opened
from diffex_dagster.store import Store, StoredPicture

BATCH = 64  # edits measured and committed at a time
PORTIONS = 64  # of them that workers measure before they are committed


def edit_metrics_of(
    store: Store,
    edits: Mapping[str, tuple[StoredPicture, StoredPicture]],
    lpips: Lpips | None = None,
    editor: Editor | None = None,
) -> tuple[dict[str, EditMetrics], str]:
    """What each edit changed, measuring only what the store does not know.

    A report does not depend on LPIPS: where it cannot be measured, the second value says why.

    Args:
        edits: key of the edit -> (edit, null edit).
        lpips: the model, if LPIPS is asked for.
        editor: that made the edits; its workers measure them, where it has some. LPIPS is measured here.

    Returns:
        key -> change, and a note ("" where all went well).
    """
    found, note = store.stored_edit_metrics(edits, lpips.backbone if lpips else None), ""
    missing = [key for key in edits if key not in found]
    if lpips and missing:
        try:
            lpips([])  # loads it
        except DiffExError as error:
            lpips, note = None, str(error)
            found = store.stored_edit_metrics(edits)
            missing = [key for key in edits if key not in found]
    masks = store.stored_masks(missing)
    at_once = BATCH * (PORTIONS if getattr(editor, "pool", None) else 1)
    for start in range(0, len(missing), at_once):
        batch = missing[start : start + at_once]
        new = _measured({key: edits[key] for key in batch}, masks, editor)
        if lpips:
            distances = zip(batch, lpips([(edits[key][0](), edits[key][1]()) for key in batch]), strict=True)
            new = {key: replace(new[key], lpips=distance) for key, distance in distances}
        store.put_edit_metrics(new, lpips.backbone if lpips else None)
        found |= new
    return found, note


def _measured(
    pairs: Mapping[str, tuple[StoredPicture, StoredPicture]], masks: Mapping[str, Image.Image], editor: Editor | None
) -> dict[str, EditMetrics]:
    if getattr(editor, "pool", None):
        from diffex_dagster.workers.remote import measured_by_workers

        if (found := measured_by_workers(editor, pairs, masks)) is not None:
            return found
    return {key: measure_edit(edit(), null(), masks.get(key)) for key, (edit, null) in pairs.items()}


def edit_strength(edits: Iterable[Picture], nulls: Iterable[Picture]) -> np.ndarray:
    """How far each edit changed its null edit where it changed it most (`effects.edit_metrics`), shape (images,)."""
    return np.array(
        [strength(pixel_change(opened(edit), opened(null))) for edit, null in zip(edits, nulls, strict=True)]
    )


def strengths(metrics: Sequence[EditMetrics]) -> np.ndarray:
    """The strength of each, shape (edits,)."""
    return np.array([change.strength for change in metrics])


def mean_metrics(metrics: Sequence[EditMetrics]) -> EditMetrics:
    """The mean of each number over a feature's edits, at least one; None where no edit has the number."""

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return EditMetrics(
        strength=float(strengths(metrics).mean()),
        ssim=float(np.mean([change.ssim for change in metrics])),
        inside=mean(change.inside for change in metrics),
        area=mean(change.area for change in metrics),
        lpips=mean(change.lpips for change in metrics),
    )
