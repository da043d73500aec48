"""A toy domain whose true answer is known by construction.

Pictures are 16×16 and grey. An edit paints a block: "red patch" and "blue patch" on the left and right, "bright"
lifts everything, and words that nobody knows change nothing. The classifier's log-odds of "warm" are
`3·red − 2·blue` of those blocks, so that the effects of the patches have known signs and "bright" has none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.judging.protocol import Pair

if TYPE_CHECKING:
    from diffex_dagster.stages.context import StudyContext
    from diffex_dagster.study import Study

PAINTS = {
    "red patch": (slice(0, 8), (200, 40, 40)),
    "dark red patch": (slice(0, 8), (140, 40, 40)),
    "blue patch": (slice(8, 16), (40, 40, 200)),
    "dark blue patch": (slice(8, 16), (40, 40, 140)),
}


def picture(shade: int) -> Image.Image:
    """A grey picture; shades around 100."""
    return Image.new("RGB", (16, 16), (shade, shade, shade))


class PaintEditor:
    """Paints blocks, one batch of `batch` edits at a time, and notes every edit in `log` (one JSON line each)."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.log = folder / options.get("log", "edits.log")
        self.batch = int(options.get("batch", 16))
        self.pause = float(options.get("pause", 0.0))
        self.version = options.get("version", "1")
        self.fading = int(options.get("fading", 0))  # red is so much paler with each seed
        self.entangled = int(options.get("entangled", 0))  # red that "bright" brings to the left half

    @property
    def fingerprint(self) -> str:
        return f"paint-{self.version}"

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        for start in range(0, len(requests), self.batch):
            time.sleep(self.pause)
            batch = requests[start : start + self.batch]
            with self.log.open("a") as file:
                for request in batch:
                    file.write(json.dumps([request.image, [c.prompt for c in request.concepts]]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            yield [(request, self._paint(images[request.image], request)) for request in batch]

    def _paint(self, image: Image.Image, request: EditRequest) -> Image.Image:
        pixels = np.asarray(image).copy()
        for concept in request.concepts:
            if concept.prompt in PAINTS:
                columns, colour = PAINTS[concept.prompt]
                pixels[:, columns] = colour
                pixels[:, columns, 0] -= self.fading * request.seed
            elif concept.prompt == "bright":
                pixels = np.minimum(pixels.astype(int) + 30, 255).astype(np.uint8)
                pixels[:, :8, 0] += np.uint8(self.entangled)
        return Image.fromarray(pixels)


class KnobEditor(PaintEditor):
    """Paints as `PaintEditor` with a knob: how opaque the paint is, in percent.

    From 70 on some of it spills: the lower half of the picture becomes darker. Words that mean nothing tint it by a
    tenth of the knob. It judges its own edits.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(folder, {"batch": 64, **options})
        self.need = dict(options.get("need", {}))  # prompt -> least opacity at which paint sticks
        self.regions: list[str | None] = []

    @property
    def fingerprint(self) -> str:
        return f"knob-{self.version}"

    def settings(self, region: str | None = None, group: str | None = None) -> list[str]:
        self.regions.append(region)
        opacities = ["", "10", "30", "50", "70", "100"]  # as it was made: 50
        return opacities[:4] if region == "left" else opacities

    def judge(self, draws: int) -> ColourJudge:
        return ColourJudge(at_once=1000)

    def _paint(self, image: Image.Image, request: EditRequest) -> Image.Image:
        pixels = np.asarray(image).astype(float)
        for concept in request.concepts:
            opacity = int(concept.setting or 50)
            if opacity < self.need.get(concept.prompt, 0):
                continue
            if concept.prompt in PAINTS:
                columns, colour = PAINTS[concept.prompt]
                pixels[:, columns] += (np.array(colour) - pixels[:, columns]) * opacity / 100
            else:
                pixels[..., 0] += opacity / 10
            if opacity >= 70:
                pixels[8:] *= 0.5
        return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


class SourcePromptEditor(KnobEditor):
    """A `KnobEditor` that describes pictures: of the paint that hits them, `spill` percent darken the lower half.

    Without words that is half of what the option `spills` says, with words all of `described`.
    """

    most_tokens = 40

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(folder, options)
        self.options, self.words = dict(options), {}

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-{sorted(self.words)}" if self.words else super().fingerprint

    def tokens(self, prompt: str) -> int:
        return len(prompt.split())

    def with_source_prompts(self, vocabulary: Mapping[str, Any]) -> SourcePromptEditor:
        other = SourcePromptEditor(self.log.parent, self.options)
        other.words = dict(vocabulary)
        return other

    def _paint(self, image: Image.Image, request: EditRequest) -> Image.Image:
        pixels = np.asarray(super()._paint(image, request)).astype(float)
        if request.concepts:
            pixels[8:] *= 1 - self.options["described" if self.words else "plain"]
        return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


class WarmClassifier:
    """Log-odds of "warm": red of the left block counts for it, blue of the right block against it."""

    labels = ("cold", "warm")

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.red, self.blue = float(options.get("red", 3.0)), float(options.get("blue", 2.0))

    @property
    def fingerprint(self) -> str:
        return f"warm-{self.red}-{self.blue}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        rows = []
        for each in pictures:
            pixels = np.asarray(each, dtype=np.float64) / 255
            red = (pixels[:, :8, 0] - pixels[:, :8, 1]).mean()
            blue = (pixels[:, 8:, 2] - pixels[:, 8:, 1]).mean()
            rows.append([0.0, self.red * red - self.blue * blue])
        return np.array(rows)


class Choosy:
    """ "yes" where red on the left, blue on the right and light add up to more than `need`."""

    labels = ("no", "yes")

    def __init__(self, need: float) -> None:
        self.need, self.fingerprint = need, f"choosy-{need}"

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        rows = []
        for each in pictures:
            x = np.asarray(each, dtype=np.float64) / 255
            red, blue = (x[:, :8, 0] - x[:, :8, 1]).mean(), (x[:, 8:, 2] - x[:, 8:, 1]).mean()
            rows.append([0.0, 4 * (red + blue - self.need)])
        return np.array(rows)


def warm(pictures: Sequence[Image.Image]) -> np.ndarray:
    """The same as a plain function from pictures to outputs."""
    return WarmClassifier(Path(), {})(pictures)


class ColourJudge:
    """Evidence for "red patch" is how red the left half is, for "blue patch" how blue the right half is."""

    fingerprint = "colours"

    def __init__(self, at_once: int = 1) -> None:
        self.asked: list[Pair] = []
        self.at_once = at_once

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        for start in range(0, len(pairs), self.at_once):
            yield [(pair, self._of(pictures[pair[0]], pair)) for pair in pairs[start : start + self.at_once]]

    def _of(self, picture: Image.Image, pair: Pair) -> float:
        self.asked.append(pair)
        pixels = np.asarray(picture, dtype=float)
        left, right = pixels[:, :8], pixels[:, 8:]
        red, blue = (left[..., 0] - left[..., 1]).mean(), (right[..., 2] - right[..., 1]).mean()
        return float(red if "red" in pair[1] else blue)


def write_study(folder: Path, image_count: int = 8, **changes: Any) -> Path:
    """A study folder of the toy domain: images, a recorded proposal, an empty corpus file, study.yaml."""
    from ruamel.yaml import YAML

    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i in range(image_count):
        picture(90 + 4 * i).save(folder / "images" / f"{i:02d}.png")
    tree = {
        "categories": [
            {"name": "Red", "prompt": "red patch", "children": [{"name": "Dark red", "prompt": "dark red patch"}]},
            {"name": "Blue", "editable": False, "children": [
                {"name": "Plain blue", "prompt": "blue patch"}, {"name": "Dark blue", "prompt": "dark blue patch"}]},
            {"name": "Light", "prompt": "bright", "children": [{"name": "Unknown thing", "prompt": "sparkles"}]},
        ]
    }  # fmt: skip
    (folder / "proposal.json").write_text(json.dumps(tree))
    if not (folder / "corpus.yaml").exists():
        (folder / "corpus.yaml").write_text("# no changes\n")
    study: dict[str, Any] = {
        "name": "toy",
        "domain": "grey squares",
        "images": {"folder": "images", "size": 16},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}, "overrides": "corpus.yaml"},
        "editors": {"paint": {"kind": "python", "factory": "tests.support.toys:PaintEditor"}},
        "classifiers": {
            "v1": {"kind": "python", "factory": "tests.support.toys:WarmClassifier"},
            "v2": {"kind": "python", "factory": "tests.support.toys:WarmClassifier", "options": {"red": 0.0}},
        },
        "target": {"label": "warm"},
        "effects": {"control_prompts": ["flornip"]},
    }
    study.update(changes)
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)  # keeps the order: the first editor is the default
    return folder / "study.yaml"


def edits_made(folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Every edit that the toy editor has made: (image, prompts)."""
    log = folder / "edits.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(image, tuple(prompts)) for image, prompts in map(json.loads, lines)]


def prepared(study: Study) -> StudyContext:
    """A study at work whose sample images and corpus are in the store: level 1 is next."""
    from diffex_dagster.stages.context import StudyContext
    from diffex_dagster.stages.corpus import merge_edits, propose
    from diffex_dagster.stages.sample_images import sample_images

    work = StudyContext(study)
    with work.store.hold():
        sample_images(work)
        propose(work)
        merge_edits(work)
    return work
