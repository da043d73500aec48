"""A small study with known truth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from diffex_dagster.bench import pages, truth
from diffex_dagster.study import Study
from diffex_dagster.worlds.avatars import Avatars
from diffex_dagster.worlds.base import World
from diffex_dagster.worlds.scenes import Scenes
from tests.support.drawn import write_small

SCOPE = truth.Scope(population=12, resamples=3)


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """A state is drawn once for all tests of a process: every study redraws the same states of its world.

    What dicebear checks of each drawing's options, against a JSON schema and at a third of a drawing's cost, other
    tests have checked.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicebear.validator.OptionsValidator.validate", lambda options: None)
        for world in (Avatars, Scenes):
            patch.setattr(world, "draw", _remembered(world.draw))
        yield


@pytest.fixture(autouse=True)
def every_commit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests publish figures of commits that there are not."""
    monkeypatch.setattr(pages, "in_history", lambda of: True)


@pytest.fixture
def small(tmp_path: Path) -> Study:
    """Six drawn avatars, two groups, an exact editor and one classifier."""
    return write_small(tmp_path)


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, truth.Benchmark]:
    """Such a study, and the marks of its classifier under the exact editor."""
    study = write_small(tmp_path_factory.mktemp("graded"))
    return study, truth.grade_all(study, truth.editors(study, "exact"), truth.subjects(study), SCOPE)


def _remembered(draw: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
    """`World.draw` that keeps what it drew, by the world, the state and the size; callers get copies."""

    @functools.cache
    def drawn(world: World, state: tuple[tuple[str, str], ...], size: int | None) -> Image.Image:
        return draw(world, dict(state), size)

    return lambda world, state, size=None: drawn(world, tuple(sorted(state.items())), size).copy()
