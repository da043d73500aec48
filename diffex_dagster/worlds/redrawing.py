"""Drawing the truth: every image again with only one feature changed, kept so that it is drawn once.

What the classifier says of the changed drawing, less what it says of the unchanged one, is the effect of putting the
feature there, or of taking it away. Both together are do(1) − do(0), the causal concept effect (CaCE, Goyal et al.
2019, equation 1): both interventions are drawn exactly.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.hashing import digest
from diffex_dagster.worlds.avatars import WORLD as AVATARS
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.exact import read_states

Feature = tuple[str, bool]  # (prompt, whether it is removed)
Score = Callable[[list[Image.Image]], NDArray[np.float64]]
SEED = 5  # of the world's sample; training uses 1 and 2, the study's images 3


def sample_states(count: int, seed: int = SEED, world: World = AVATARS) -> list[State]:
    """States that no training script and no study has seen, drawn as the world draws them."""
    rng = random.Random(seed)
    return [world.sample_state(rng) for _ in range(count)]


@dataclass(frozen=True)
class Redrawn:
    """Images and their exact counterfactuals.

    Attributes:
        base: (images, side, side, 3) uint8.
        pixels: (changes, side, side, 3): the pictures that differ from their base.
        index: (changes, 2): feature and image of each.
        features: the features, in the order that `index` counts them.
    """

    base: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    index: NDArray[np.int64]
    features: tuple[Feature, ...]

    def effects(self, score: Score) -> dict[Feature, NDArray[np.float64]]:
        """f(changed) − f(unchanged) for each feature, shape (images,); zero where the drawing does not change.

        Args:
            score: pictures -> target measure, shape (N,).
        """
        table = np.zeros((len(self.features), len(self.base)))
        before = score(_pictures(self.base))
        if len(self.pixels):
            table[self.index[:, 0], self.index[:, 1]] = score(_pictures(self.pixels)) - before[self.index[:, 1]]
        return dict(zip(self.features, table, strict=True))


def redraw(
    states: Sequence[State],
    features: Sequence[Feature],
    size: int | None = None,
    cache: Path | None = None,
    world: World = AVATARS,
) -> Redrawn:
    """Draw states and all their counterfactuals; features that the world cannot draw change nothing.

    Args:
        size: side of the square pictures, in pixels; the world's own unless given.
        cache: folder that the drawings are kept in, a file a feature: another list of features draws only what is new.
    """
    size = size or world.size
    base, _ = _drawn(states, None, size, cache, world)
    pixels, index = [np.empty((0, size, size, 3), np.uint8)], [np.empty((0, 2), np.int64)]
    for j, feature in enumerate(features):
        changed, moved = _drawn(states, feature, size, cache, world)
        pixels.append(changed)
        index.append(np.stack([np.full(len(moved), j), moved], axis=1))
    return Redrawn(base, np.concatenate(pixels), np.concatenate(index), tuple(features))


@dataclass(frozen=True)
class StudyTruth:
    """What is true of a study's images, for `truth:` in a study file.

    Attributes:
        found: finds the world, when it is asked.
    """

    found: Callable[[], World]

    def __call__(
        self,
        folder: Path,
        prompts: Sequence[tuple[str, str]],
        score: Score,
        images: Sequence[str],
        cache: Path | None = None,
    ) -> dict[tuple[str, str], float]:
        """True mean effects over the images that a study edits.

        Args:
            folder: the study's folder, with `images/attributes.json`.
            prompts: (edit prompt, direction) of each feature.
            score: pictures -> target measure, shape (N,).
            images: file names of the study's sample images.
            cache: see `redraw`.

        Returns:
            (prompt, direction) -> mean true effect; 0 where the world cannot draw the feature.

        Raises:
            EditorError: `attributes.json` cannot be read, or does not describe one of the images.
        """
        world = self.found()
        states = read_states(folder / "images" / "attributes.json", world, images)
        if not prompts:
            return {}
        features = {(prompt, direction): (prompt, direction == "remove") for prompt, direction in prompts}
        which = list(dict.fromkeys(features.values()))
        effects = redraw([states[name] for name in images], which, cache=cache, world=world).effects(score)
        return {prompt: float(effects[feature].mean()) for prompt, feature in features.items()}

    def attributes(self, prompts: Sequence[str]) -> dict[str, bool]:
        """Every attribute of the world that words name, and whether one of the prompts names it.

        An attribute that a prompt names stands under that prompt, so that what is drawn for one is there for the other.
        """
        world = self.found()
        named = {world.meaning(prompt): prompt for prompt in reversed(prompts)}
        phrases = [value.phrases[0] for values in world.factors.values() for value in values.values() if value.phrases]
        meant = {phrase: world.phrases[phrase] for phrase in phrases}
        return {named.get(meaning, phrase): meaning in named for phrase, meaning in meant.items()}


def _scenes() -> World:
    from diffex_dagster.worlds.scenes import WORLD

    return WORLD


study_truth = StudyTruth(lambda: AVATARS)
"""Of the avatars."""
scenes_truth = StudyTruth(_scenes)
"""Of the scenes."""


def _pictures(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    return [Image.fromarray(each) for each in pixels]


def _drawn(
    states: Sequence[State], feature: Feature | None, size: int, cache: Path | None, world: World
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, side, side, 3), and the numbers of their states: those that `feature` changes, or as they are."""
    path = cache and cache / f"{digest(list(states), feature, size, world.drawn_with())}.npz"
    if path and path.exists():
        stored = np.load(path)
        return stored["pixels"], stored["moved"]
    pixels, moved = [np.empty((0, size, size, 3), np.uint8)], []
    for i, state in enumerate(states):
        changed = world.set_feature(state, *feature) if feature else state
        if feature is None or changed != state:
            pixels.append(np.asarray(world.draw(changed, size))[None])
            moved.append(i)
    drawn, numbers = np.concatenate(pixels), np.array(moved, dtype=np.int64)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez_compressed(content, pixels=drawn, moved=numbers)
        write_atomically(path, content.getvalue())
    return drawn, numbers
