"""An editor without error: it draws the picture again with only the attribute changed."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from PIL import Image

from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.editing.python_editor import PythonEditorPart
from diffex_dagster.errors import EditorError
from diffex_dagster.judging.protocol import Pair
from diffex_dagster.store.keys import image_key
from diffex_dagster.utils.hashing import digest
from diffex_dagster.worlds.base import State, World


def read_states(file: Path, world: World, images: Iterable[str] = ()) -> dict[str, State]:
    """File name of a picture -> the state that it was drawn from.

    Args:
        file: `attributes.json`, beside the pictures.
        images: file names that it must describe.

    Raises:
        EditorError: it cannot be read, or does not describe one of the images.
    """
    again = f"draw them again with `python -m training.samples --world {world.name}`"
    try:
        states: dict[str, State] = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EditorError(
            f"{file}: the states that the images were drawn from are needed, and cannot be read ({error}); {again}"
        ) from error
    if absent := [name for name in images if name not in states]:
        raise EditorError(f"{file}: it does not say from which state {absent[0]} was drawn; {again}")
    return states


def draws_exactly(part: EditorPart) -> TypeGuard[PythonEditorPart]:
    """Whether an editor of a study is the exact editor of a world: its edits are the drawings that the truth is of."""
    return isinstance(part, PythonEditorPart) and part.factory.startswith("diffex_dagster.worlds.")


class ExactJudge:
    """What the exact editor's edits show, by the states that they were drawn from: evidence 1, or 0."""

    name = "the exact editor, which knows what it drew"  # as a report says it
    absolute = True

    def __init__(self, editor: ExactEditor) -> None:
        self.editor = editor

    @property
    def fingerprint(self) -> str:
        """That of the editor, whose states are the answers."""
        return digest("exact judge", self.editor.fingerprint)[:16]

    def evidence_of(self, request: EditRequest, prompt: str) -> float:
        """1 where the picture of the request shows what the prompt names, else 0; of words without meaning 0."""
        return float(self.editor.world.has_feature(self.editor.edited(request), prompt))

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """Not by looking.

        Raises:
            EditorError: always; ask `evidence_of`.
        """
        raise EditorError("the exact editor's judge knows requests, not pictures; ask evidence_of")


class ExactEditor:
    """Edits by drawing the state again with only the attribute changed.

    It recognises a sample image by its key and reads the state that it was drawn from in `attributes.json`, beside the
    images. The same protocol as the diffusion editor, so that the same study can be graded with and without its error.

    Args:
        world: what draws.
        folder: the study's folder.
        options: `attributes`: the file, relative to the folder, that maps file names to states.
    """

    def __init__(self, world: World, folder: Path, options: Mapping[str, str]) -> None:
        self.world, self.file = world, folder / options.get("attributes", "images/attributes.json")
        self.states = read_states(self.file, world)

    @functools.cached_property
    def by_image(self) -> dict[str, State]:
        """Image key -> the state that it was drawn from; draws them all."""
        return {image_key(self.world.draw(state)): state for state in self.states.values()}

    @property
    def fingerprint(self) -> str:
        """Changes with what the world draws with, and with its own values."""
        factors = {factor: sorted(values) for factor, values in self.world.factors.items()}
        words = {phrase: [of, *values] for phrase, (of, values) in self.world.synonyms.items()}
        return digest(f"exact {self.world.name}", self.world.versions(), factors, *([words] if words else []))[:16]

    def check_images(self, images: Iterable[str]) -> None:
        """Raise EditorError where one of the images, by its key, was not drawn from a state that is known."""
        for image in images:
            if image not in self.by_image:
                raise EditorError(
                    f"{self.file}: image {image} was not drawn from any of its states; the exact editor only edits the "
                    f"pictures that `python -m training.samples --world {self.world.name}` drew"
                )

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Draw the edits, 64 at a time.

        Raises:
            EditorError: an image is not one of those that `attributes.json` describes.
        """
        for start in range(0, len(requests), 64):
            yield [(request, self.world.draw(self.edited(request))) for request in requests[start : start + 64]]

    def judge(self, draws: int) -> ExactJudge:
        """The judge of these edits: it need not look, since the states are known. See `judging.protocol.OwnJudge`."""
        return ExactJudge(self)

    def edited(self, request: EditRequest) -> State:
        """The state that a request leads to.

        Raises:
            EditorError: the image is not one of those that `attributes.json` describes.
        """
        self.check_images([request.image])
        state = self.by_image[request.image]
        for concept in request.concepts:
            state = self.world.set_feature(state, concept.prompt, concept.direction == "remove")
        return state
