"""A study whose editor does what a worker may meet: it is slow, ends its process, or is another one elsewhere."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.editing.batches import cut
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.stages.edits import edit_requests
from diffex_dagster.store import Store, edit_key
from diffex_dagster.study import Study, load_study
from diffex_dagster.workers.bench import Bench
from tests.support.toys import write_study


class BatchedEditor:
    """Its pixels depend on which edits share a batch, as those of a GPU do. Prompts say what befalls its process.

    "once ..." ends it the first time, "never" each time, "wrong" is an error of its own. It notes each edit with its
    process in `pids.log`.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder, self.pause = folder, float(options.get("pause", 0.0))
        self.together = int(options.get("together", 0))  # processes that wait for each other before they edit
        self.alone = int(options.get("alone", 0))  # batches that each makes before that
        self.driver = int(options.get("driver", 0))  # the process that calls itself another editor

    @property
    def fingerprint(self) -> str:
        return "here" if os.getpid() == self.driver else "batched"

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        return cut(requests, 4)

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        for batch in self.batches(requests):
            self._meet()
            time.sleep(self.pause)
            for request in batch:
                self._befalls(" ".join(concept.prompt for concept in request.concepts))
            shared = hashlib.sha256(repr(batch).encode()).digest()[0] % 2
            with (self.folder / "pids.log").open("a") as log:
                log.write(f"{os.getpid()}\n" * len(batch))
            yield [(request, self._picture(images[request.image], request, shared)) for request in batch]

    def _meet(self) -> None:
        self.alone -= 1
        if self.alone >= 0:
            return
        here = self.folder / "met"
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        end = time.monotonic() + 120
        while len(list(here.iterdir())) < self.together and time.monotonic() < end:
            time.sleep(0.05)

    def _befalls(self, prompt: str) -> None:
        if prompt == "wrong":
            raise ValueError("the model is of another kind")
        once = self.folder / prompt.replace(" ", "-")
        if prompt == "never" or (prompt.startswith("once") and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _picture(self, image: Image.Image, request: EditRequest, shared: int) -> Image.Image:
        pixels = np.asarray(image).copy()
        shade = hashlib.sha256(repr(request.concepts).encode()).digest()[0]
        pixels[:8, :, 0] = shade
        pixels[8:, :, 1] += np.uint8(shared)
        made = Image.fromarray(pixels)
        made.info[MASK] = Image.new("L", (4, 4), 255 * shared)
        return made

    def judge(self, draws: int) -> ShadeJudge:
        return ShadeJudge(draws)


class ShadeJudge:
    """Evidence is how red a picture is, and a little of which pictures it is asked about together."""

    def __init__(self, draws: int = 2) -> None:
        self.more = 0 if draws == 2 else draws  # what a judge at other draws adds to its answers

    @property
    def fingerprint(self) -> str:
        return f"shade of {self.more}" if self.more else "shade"

    def batches(self, pairs: Sequence[Pair]) -> list[list[Pair]]:
        return [list(pairs[start : start + 3]) for start in range(0, len(pairs), 3)]

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        for batch in self.batches(pairs):
            shared = hashlib.sha256(repr(batch).encode()).digest()[0] / 1e6
            yield [(pair, float(np.asarray(pictures[pair[0]])[..., 0].mean()) + shared + self.more) for pair in batch]


class Backwards:
    """In place of `workers.pool.Pool`: works in this process, on the last batch first."""

    lost = remade = 0

    def __init__(self, bench: Bench, in_flight: int) -> None:
        self.bench, self.in_flight = bench, in_flight

    def run(
        self, method: str, batches: Sequence[Any], given: Callable[[Any], tuple[Any, ...]], *_: Any
    ) -> Iterator[list[Any]]:
        for batch in reversed(batches):
            yield getattr(self.bench, method)(*given(batch))

    def made(self) -> dict[str, int]:
        return {}

    def gpus(self) -> list[str]:
        return []


def crew_study(
    folder: Path,
    workers: Mapping[str, Any] | int | None = None,
    judge: Mapping[str, Any] | None = None,
    second_judge: Mapping[str, Any] | None = None,
    **options: Any,
) -> Study:
    """The toy study with `BatchedEditor`, in a folder of its own."""
    editors = {"batched": {"kind": "python", "factory": "tests.support.crew:BatchedEditor", "options": options}}
    said = {"workers": workers, "judge": judge, "second_judge": second_judge}
    changes = {name: value for name, value in said.items() if value is not None}
    return load_study(write_study(folder, editors=editors, **changes))


def asked(images: Sequence[str], *prompts: str) -> list[EditRequest]:
    """The null edits of images, and their edits towards prompts."""
    return edit_requests(images, [(), *((Concept(prompt),) for prompt in prompts)], [0])


def kept(store: Store, requests: Sequence[EditRequest]) -> dict[str, tuple[str, bytes]]:
    """Key -> (file, which is named by its content; mask) of the edits that a store has."""
    masks = store.stored_masks(edit_key(request, "batched") for request in requests)
    files = {edit_key(request, "batched"): file for request, file in store.stored_edits(requests, "batched").items()}
    return {key: (file, masks[key].tobytes()) for key, file in files.items()}


def pids(study: Study) -> list[int]:
    """The process of every edit that was made."""
    log = study.folder / "pids.log"
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []
