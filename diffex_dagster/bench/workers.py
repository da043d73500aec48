"""What it costs one process to be in charge of many workers, and how far that carries.

The workers are real processes on Ray, behind the same `ensure_edits`, store and pool as in a study; only their editor
is none: it sleeps as long as a GPU would work, and then gives back plain pictures, so that this machine's cores, which
all workers share here, are not what is measured. The figures are processor time of the process in charge, which other
work on the machine does not change much, and shares of what the workers could do if nothing had to be waited for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffex_dagster.bench.pages import table, write_between
from diffex_dagster.editing.batches import AT_ONCE
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.errors import EditorError

if TYPE_CHECKING:
    from diffex_dagster.study import Study

Figures = dict[str, Any]
MARK = "bench-workers"
AIMS = {"driver_ms": 1.0, "share_of_ideal": 0.7}
GPUS = (1, 8, 64, 512)
WAIT_S = 600.0  # for all workers to be ready


class SleepingEditor:
    """Sleeps for each batch; then one plain picture an edit, each of another colour."""

    fingerprint = "sleeping"

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.seconds, self.side = float(options["seconds"]), int(options["side"])

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        """So many at a time, whatever they are."""
        return [list(requests[start : start + AT_ONCE]) for start in range(0, len(requests), AT_ONCE)]

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """See `Editor.edit`."""
        for batch in self.batches(requests):
            begun = time.monotonic()
            made = [(request, Image.new("RGB", (self.side, self.side), _colour(request))) for request in batch]
            time.sleep(max(self.seconds - (time.monotonic() - begun), 0.0))
            yield made


class GreyClassifier:
    """Two outputs from a few pixels: costs nothing but reading the picture."""

    fingerprint = "grey"
    labels = ("dark", "light")

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        pass

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """See `Classifier.__call__`."""
        levels = np.array([np.asarray(picture)[0, 0].mean() / 255 for picture in pictures])
        return np.stack([-levels, levels], axis=1)


def _colour(request: EditRequest) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(repr(request).encode()).digest()[:3]
    return red, green, blue


@dataclass(frozen=True)
class Load:
    """What the workers are asked for.

    Attributes:
        workers: processes.
        seconds: that a batch of 16 edits takes one of them.
        edits: in all.
        side: of a picture, in pixels.
    """

    workers: int = 16
    seconds: float = 2.5
    edits: int = 1024
    side: int = 512


@dataclass(frozen=True)
class Assumed:
    """What growth is worked out with besides what is measured; seconds are those of one GPU.

    Attributes:
        edits: of the study.
        edit_s: an edit, as Stable Diffusion 1.5 takes on one H200 (docs/speed.md).
        judge_s: judging it: about a fifth of making it.
        score_s: a classifier's pass over its picture.
        rounds: how often the search waits for answers before it asks on.
        start_s: until the workers have loaded the model.
        reported: share of the edits whose change is measured.
    """

    edits: int = 30_000
    edit_s: float = 0.156
    judge_s: float = 0.033
    score_s: float = 0.003
    rounds: int = 8
    start_s: float = 60.0
    reported: float = 0.6


def measure(load: Load, folder: Path, say: Callable[[str], None] = lambda _: None) -> Figures:
    """Have simulated workers edit, score and measure, and look at what that costs the process in charge.

    Args:
        folder: where a study and its results are made.
        say: told what is going on.

    Raises:
        EditorError: Ray is not installed, or not all workers come.
    """
    from diffex_dagster.stages.context import StudyContext
    from diffex_dagster.stages.edits import edit_requests, ensure_edits
    from diffex_dagster.stages.judging import first_metrics
    from diffex_dagster.stages.scores import ensure_scores

    say("the same in one process")
    alone = _alone(load.side)
    options = {"seconds": load.seconds, "side": load.side}
    editor = {"kind": "python", "factory": "diffex_dagster.bench.workers:SleepingEditor", "options": options}
    work = StudyContext(study_of(folder, editor, load.side, {"count": load.workers}))
    work.store.put_images({f"{i}": _picture(i, load.side) for i in range(IMAGES)})
    images = [key for (key,) in work.store.rows("SELECT image FROM images ORDER BY image")]
    prompts = [(Concept(f"word {i}"),) for i in range(math.ceil(load.edits / IMAGES) - 1)]
    requests = edit_requests(images, [(), *prompts], [0])
    pool: Any = work.editor.pool  # type: ignore[attr-defined]  # workers are asked for
    try:
        say(f"waiting for {load.workers} workers")
        if (ready := pool.gather(WAIT_S)) < load.workers:
            raise EditorError(
                f"bench workers: only {ready} of {load.workers} workers came within {WAIT_S:.0f} s; ask for fewer"
            )
        say(f"{len(requests)} edits by {load.workers} workers")
        wall, cpu, counts = _timed(lambda: ensure_edits(work.store, work.editor, requests))
        say("scores")
        _, scoring, (_, scored) = _timed(lambda: ensure_scores(work.subject("grey"), requests))
        say("changes")
        few = prompts[:AT_ONCE]  # 128 edits
        _, measuring, changes = _timed(lambda: first_metrics(work, few, images))
    finally:
        pool.close()
    ideal = load.workers * AT_ONCE / load.seconds
    return {
        "machine": {
            "cores": os.cpu_count(), "python": platform.python_version(), "ray": version("ray"),
            "load": os.getloadavg()[0],
        },
        "asked": {**asdict(load), "edits": len(requests)},
        "edits_per_second": counts.made / wall,
        "ideal_edits_per_second": ideal,
        "share_of_ideal": counts.made / wall / ideal,
        "made_by_each": least_and_most(counts.by_worker, load.workers),
        "driver_ms": {
            "edit": 1000 * cpu / counts.made,
            "score": 1000 * scoring / scored,
            "change": 1000 * measuring / sum(map(len, changes.values())),
        },
        "alone_ms": alone,
        "assumed": asdict(Assumed()),
    }  # fmt: skip


IMAGES = 8  # that are edited


def least_and_most(by_worker: Mapping[str, int], workers: int) -> list[int]:
    """The fewest and the most edits that one of so many workers made; 0 where one made none."""
    each = sorted(by_worker.values())
    return [each[0] if len(each) >= workers else 0, each[-1]] if each else [0, 0]


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the clock, seconds of this process's processor time, and what comes of it."""
    wall, cpu = time.monotonic(), time.process_time()
    found = work()
    return time.monotonic() - wall, time.process_time() - cpu, found


def _alone(side: int) -> dict[str, float]:
    """Milliseconds of processor time that keeping, reading and measuring a picture takes in one process."""
    import tempfile

    from diffex_dagster.effects.edit_metrics import measure_edit
    from diffex_dagster.store.files import PictureFiles

    pictures = [_picture(i, side) for i in range(9)]
    with tempfile.TemporaryDirectory() as folder:
        files = PictureFiles(Path(folder))
        _, keep, names = _timed(lambda: [files.put(picture) for picture in pictures])
        _, read, _ = _timed(lambda: [files.get(name) for name in names])
    _, change, _ = _timed(lambda: [measure_edit(each, pictures[0]) for each in pictures[1:]])
    found = {"edit": keep / len(pictures), "score": read / len(pictures), "change": change / (len(pictures) - 1)}
    return {name: 1000 * seconds for name, seconds in found.items()}


def _picture(seed: int, side: int) -> Image.Image:
    """Large forms and fine noise."""
    rng = np.random.default_rng(seed)
    forms = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((-(-side // 4), -(-side // 4), 1)))[:side, :side]
    return Image.fromarray((forms + rng.integers(0, 55, (side, side, 3))).astype(np.uint8))


def study_of(folder: Path, editor: Mapping[str, Any], side: int, workers: Mapping[str, Any] | None) -> Study:
    """A study in a folder of its own, whatever the deployment says: one editor, and `GreyClassifier`."""
    from ruamel.yaml import YAML

    from diffex_dagster.study import load_study

    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = {
        "name": "bench",
        "domain": "made-up pictures",
        "images": {"folder": "images", "size": side},
        "corpus": {"starter": "face"},
        "editors": {"editor": dict(editor)},
        "classifiers": {"grey": {"kind": "python", "factory": "diffex_dagster.bench.workers:GreyClassifier"}},
        "target": {"label": "light"},
        **({"workers": dict(workers)} if workers else {}),
    }
    with (folder / "study.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(written, file)
    return load_study(folder / "study.yaml").deployed(
        editor={"workers": workers["count"] if workers else 0},
        results={"folder": None, "pictures": None, "database": None},
    )


@dataclass(frozen=True)
class Growth:
    """How long a study takes with so many GPUs, in seconds.

    Attributes:
        editing: workers only edit; what comes after is done by the process in charge.
        all: workers judge, write, score and measure as well.
        busy: share of that time in which the process in charge works.
    """

    gpus: int
    editing: float
    all: float
    busy: float

    def gain(self, alone: float) -> float:
        """How many times as fast as one GPU, where workers do all."""
        return alone / self.all


def growth(figures: Figures, gpus: int) -> Growth:
    """What the measured costs come to with so many GPUs.

    A round of the search ends with its slowest worker: with as many batches as one has more than the others. What
    workers do beside editing they do one after the other, and the process in charge works beside them.
    """
    of = Assumed(**figures["assumed"])
    here, alone = figures["driver_ms"], figures["alone_ms"]

    def rounds(an_edit: float) -> float:
        batches = math.ceil(of.edits / of.rounds / AT_ONCE / gpus)
        return of.rounds * batches * AT_ONCE * an_edit

    def in_charge(ms: Mapping[str, float]) -> float:
        return of.edits * (ms["edit"] + ms["score"] + of.reported * ms["change"]) / 1000

    judged = of.edits * of.judge_s
    only = of.start_s + max(rounds(of.edit_s), of.edits * alone["edit"] / 1000)
    only += of.edits * (of.judge_s + of.score_s + (alone["score"] + of.reported * alone["change"]) / 1000)
    each = of.edit_s + judged / of.edits + of.score_s
    each += (alone["edit"] + alone["score"] + of.reported * alone["change"]) / 1000
    driver = in_charge(here)
    whole = of.start_s + max(rounds(each), driver)
    return Growth(gpus, only, whole, driver / whole)


def as_markdown(figures: Figures) -> str:
    """What was measured, its aims, and what it comes to with more GPUs than were there."""
    asked, here, alone = figures["asked"], figures["driver_ms"], figures["alone_ms"]
    of, machine = Assumed(**figures["assumed"]), figures["machine"]
    share = figures["share_of_ideal"]
    grown = [growth(figures, gpus) for gpus in GPUS]
    rows = [
        ["taking an edit in", f"{here['edit']:.2f}", f"{alone['edit']:.0f}", _aim(here["edit"] <= AIMS["driver_ms"])],
        ["a score", f"{here['score']:.2f}", f"{alone['score']:.1f}", "–"],
        ["measuring what an edit changed", f"{here['change']:.2f}", f"{alone['change']:.0f}", "–"],
    ]
    return "\n\n".join(
        [
            f"Measured with {asked['workers']} workers that sleep {asked['seconds']:g} s for each {AT_ONCE} edits, "
            f"{asked['edits']} edits of {asked['side']}×{asked['side']} pixels, on {machine['cores']} cores "
            f"(load {machine['load']:.0f}), Ray {machine['ray']}: {figures['edits_per_second']:.0f} edits a second of "
            f"{figures['ideal_edits_per_second']:.0f} that are possible, a share of {share:.2f} (at least "
            f"{AIMS['share_of_ideal']:g}: {_aim(share >= AIMS['share_of_ideal'])}). Milliseconds of processor time of "
            "the process in charge:",
            table(["", "with workers", "without", f"at most {AIMS['driver_ms']:g} ms"], rows),
            f"What that comes to for a study of {of.edits} edits. **Worked out, not measured**; assumed are "
            f"{of.edit_s:g} s an edit (Stable Diffusion 1.5 on one H200, [speed](../speed.md)), {of.judge_s:g} s to "
            f"judge it, {of.score_s * 1000:g} ms to score it, {of.reported:.0%} of the changes measured, {of.rounds} "
            f"rounds of the search that wait for their slowest worker, {of.start_s:.0f} s until models are loaded, and "
            "a network and disks that keep up:",
            table(
                ["GPUs", "workers only edit", "workers do all", "times one GPU", "process in charge busy"],
                [
                    [str(g.gpus), _clock(g.editing), _clock(g.all), f"{g.gain(grown[0].all):.0f}", f"{g.busy:.1%}"]
                    for g in grown
                ],
            ),
        ]
    ) + "\n"  # fmt: skip


def _aim(met: bool) -> str:
    return "met" if met else "missed"


def _clock(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def main(arguments: Sequence[str]) -> None:
    """Write the figures of a file into the marked part of a page: `python -m … FILE PAGE`."""
    file, page = map(Path, arguments)
    write_between(page, MARK, as_markdown(json.loads(file.read_text("utf-8"))))


if __name__ == "__main__":
    main(sys.argv[1:])
