"""Toy worlds for the search: a corpus and a model whose every effect is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature


def node(name: str, *children: Feature, editable: bool = True, parent: str = "") -> Feature:
    """A feature whose id is its path; children are re-rooted under it."""
    path = f"{parent}/{name}" if parent else name
    return Feature(path, name, name, editable=editable, children=tuple(_under(path, child) for child in children))


def _under(path: str, feature: Feature) -> Feature:
    return node(feature.name, *feature.children, editable=feature.editable, parent=path)


class Toy:
    """f = Σ weights of what is edited in + Σ interactions of pairs, per image; records what it was asked for.

    `weights` hold one number, or one per image, by feature id; features without a weight do nothing.
    """

    def __init__(
        self,
        weights: Mapping[str, float | Sequence[float]],
        interactions: Mapping[tuple[str, str], float] | None = None,
        images: int = 8,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.weights = weights
        self.interactions = interactions or {}
        self.images = images
        self.noise = noise
        self.rng = np.random.default_rng(seed)
        self.calls: list[list[tuple[str, ...]]] = []

    def __call__(self, feature_sets: Sequence[tuple[Feature, ...]]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        asked = [tuple(feature.id for feature in features) for features in feature_sets]
        self.calls.append(asked)
        return {ids: self.d(ids) for ids in asked}

    def d(self, ids: tuple[str, ...]) -> NDArray[np.float64]:
        total = np.zeros(self.images)
        for feature_id in ids:
            total = total + np.asarray(self.weights.get(feature_id, 0.0))
        for pair, extra in self.interactions.items():
            if set(pair) <= set(ids):
                total = total + extra
        return total + self.rng.normal(0.0, self.noise, self.images) if self.noise else total

    @property
    def asked(self) -> list[tuple[str, ...]]:
        return [ids for call in self.calls for ids in call]


def small_corpus() -> Corpus:
    """Four groups: one plain, one not editable by its name, one with opposite children, one that does nothing."""
    return Corpus(
        (
            node("beard", node("goatee"), node("full beard")),
            node("hair colour", *(node(c) for c in ("black", "brown", "blonde", "red", "grey")), editable=False),
            node("eyewear", node("glasses"), node("sunglasses")),
            node("hat", node("beanie")),
        )
    )
