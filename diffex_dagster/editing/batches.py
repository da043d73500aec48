"""Which edits share a batch: what does can change the last bits of a pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffex_dagster.editing.protocol import EditRequest


def cut(
    requests: Sequence[EditRequest], at_once: int, skip: Callable[[EditRequest], float] = lambda _: 0.0
) -> list[list[EditRequest]]:
    """Batches for `LeditsEditor.batches`: as many UNet rows each as `at_once` edits of one concept, or one edit.

    The order is the requests' own, whatever order they came in. Edits of one picture and seed are close together: each
    is inverted once, however small the cache is.

    Args:
        requests: each once.
        at_once: how many edits of one concept a batch holds.
        skip: what an edit leaves out of the noisy end; edits that differ in it share no batch.
    """
    kinds: dict[tuple[int, float], list[EditRequest]] = {}
    for request in sorted(requests, key=lambda each: (each.image, each.seed, each.concepts)):
        kinds.setdefault((len(request.concepts), skip(request)), []).append(request)
    batches = []
    for (concepts, _), some in sorted(kinds.items()):
        size = max(2 * at_once // (1 + concepts), 1)
        batches += [some[start : start + size] for start in range(0, len(some), size)]
    return sorted(batches, key=lambda batch: (batch[0].image, batch[0].seed))
