"""What a check of a GPU measures: sizes, batches and budgets, and what its sections share."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.bench.contenders import Workload
from diffex_dagster.editing.ledits import LeditsEditor, LeditsOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import first_line

Figures = dict[str, Any]
PROMPTS = ("beard", "hat", "smile", "glasses", "old", "red hair", "makeup", "earrings")


@dataclass(frozen=True)
class Plan:
    """How one size is measured."""

    size: str  # of `random_weights.SIZES`
    pictures: int = 4
    prompts: int = len(PROMPTS)
    batches: tuple[int, ...] = (8, 16, 32)  # edits at a time
    few: int = 4  # edits of a contender that takes as long for each
    rounds: int = 2
    steps: int = 20
    seconds: float = 90.0  # no further batch or round begins after so many


FULL = (Plan("sd15", seconds=45), Plan("sdxl", pictures=2, batches=(8, 16), few=2, seconds=75))
TINY = (
    Plan("tiny", pictures=2, prompts=2, batches=(2, 3), few=1, rounds=1, steps=3),
    Plan("tiny-xl", pictures=1, prompts=2, batches=(2,), few=1, rounds=1, steps=3),
)


@dataclass
class Check:
    """A run of all checks: where it computes, how long it may take, and what it found."""

    device: str
    file: Path
    folder: Path  # for checkpoints and pictures
    plans: Sequence[Plan]
    budget: float  # seconds
    half: str = "float16"
    figures: Figures = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.monotonic() - self.started)

    def section(self, name: str, least: float, make: Callable[[], Figures]) -> None:
        """Keep what `make` finds under `name`; `least` are the seconds that it takes at least."""
        start = time.monotonic()
        found: Figures
        if self.left < least:
            found = {"left_out": f"{max(self.left, 0):.0f} s were left and it takes at least {least:.0f}"}
        else:
            try:
                found = make()
            except Exception as error:
                found = {
                    "error": f"{type(error).__name__}: {first_line(error)}",
                    "trace": traceback.format_exc()[-3000:],
                }
        found["seconds"] = round(time.monotonic() - start, 2)
        self.figures[name] = found
        self.figures["total_seconds"] = round(time.monotonic() - self.started, 2)
        part = self.file.with_name(self.file.name + ".part")
        part.write_text(json.dumps(self.figures, indent=1) + "\n", "utf-8")
        part.replace(self.file)
        print(f"{name}: {_summary(found)}", flush=True)
        free()

    def options(self, plan: Plan, dtype: str | None = None, **changes: Any) -> LeditsOptions:
        """The editor's default options on a checkpoint of the plan's size."""
        chosen = {"checkpoint": str(self.checkpoint(plan.size)), "device": self.device, "dtype": dtype or self.half}
        return LeditsOptions.model_validate(chosen | {"steps": plan.steps} | changes)

    def checkpoint(self, size: str) -> Path:
        """A checkpoint of random weights in half precision, written at the first call."""
        import torch

        from diffex_dagster.bench.random_weights import write_checkpoint

        folder = self.folder / size
        if not folder.exists():
            start = time.monotonic()
            write_checkpoint(folder, size, dtype=getattr(torch, self.half), device=self.device, steady=True)
            self.figures.setdefault("weights_written_seconds", {})[size] = round(time.monotonic() - start, 2)
            free()
        return folder

    def workload(self, plan: Plan, dtype: str | None = None, **changes: Any) -> Workload:
        """The plan's pictures, each edited towards the plan's prompts."""
        from diffex_dagster.bench.random_weights import resolution

        side = resolution(plan.size)
        files = [self.folder / f"{side}-{i}.png" for i in range(plan.pictures)]
        for i, file in enumerate(files):
            if not file.exists():
                _picture(i, side).save(file)
        options = self.options(plan, dtype, **changes).model_dump(mode="json")
        return Workload(options, tuple(map(str, files)), PROMPTS[: plan.prompts])


def _picture(seed: int, side: int) -> Image.Image:
    """Large forms and fine noise."""
    rng = np.random.default_rng(seed)
    forms = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((side // 4, side // 4, 1)))
    return Image.fromarray((forms + rng.integers(0, 55, (side, side, 3))).astype(np.uint8))


def free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _summary(found: Figures) -> str:
    shown = {key: value for key, value in found.items() if key not in ("trace", "samples", "operators", "batches")}
    return json.dumps(shown)[:1500]


def warm(editor: LeditsEditor, workload: Workload) -> None:
    """One batch whose guidance sets in for the last two steps: every shape of the work once, and few of its steps."""
    images = workload.images()
    requests = [EditRequest(image, (Concept(prompt),)) for image in images for prompt in workload.prompts]
    late = editor.with_options(warmup=max(editor.options.steps - 2, 0))
    for _ in late.edit(images, late.batches(requests)[0]):
        pass


def requests_of(workload: Workload) -> list[EditRequest]:
    """Every prompt, the null edit, and one edit of two concepts, on every picture."""
    concepts: list[tuple[Concept, ...]] = [(Concept(prompt),) for prompt in workload.prompts]
    concepts += [(), (Concept(workload.prompts[0]), Concept(workload.prompts[1]))]
    return [EditRequest(picture, each) for each in concepts for picture in workload.pictures]
