"""What is true of tiles, for `truth:` of a study of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffex_dagster.bench.tiles import COLOURS, PLACES, TileEditor, prompt_of
from diffex_dagster.editing.protocol import Concept, EditRequest


class TileTruth:
    """A world that says what its pictures would be, and which marks there are."""

    def __call__(
        self,
        folder: Path,
        prompts: Sequence[tuple[str, str]],
        score: Callable[[list[Image.Image]], np.ndarray],
        images: Sequence[str],
        cache: Path | None = None,
    ) -> dict[tuple[str, str], float]:
        """Mean effects; see `worlds.redrawing.StudyTruth`."""
        pictures, editor = (
            [Image.open(folder / "images" / name).convert("RGB") for name in images],
            TileEditor(folder, {}),
        )
        before = score(pictures)

        def after(prompt: str, direction: str) -> list[Image.Image]:
            wanted = (Concept(prompt, direction),)  # type: ignore[arg-type]
            requests = [EditRequest(str(i), wanted, 0) for i in range(len(pictures))]
            named = {str(i): picture for i, picture in enumerate(pictures)}
            return [picture for batch in editor.edit(named, requests) for _, picture in batch]

        return {each: float((score(after(*each)) - before).mean()) for each in prompts}

    def attributes(self, prompts: Sequence[str]) -> dict[str, bool]:
        """Every mark, and whether one of the prompts names it."""
        if "broken" in prompts:
            raise KeyError("broken")
        marks = [prompt_of(place, colour) for place in PLACES for colour in COLOURS]
        return {mark: mark in prompts for mark in marks}


tile_truth = TileTruth()
