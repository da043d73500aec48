"""The editor's own model as the judge of its edits: a diffusion classifier (`editing.diffusion_classifier`).

An edit shows its concept when the evidence for the concept rises from the null edit to the edit.

The judge is the model that made the edit. It sees whether the edit went where the model's words point, not whether a
person would agree: towards a word that the model has never learned, an edit may raise the evidence of that word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from PIL import Image
from pydantic import Field

from diffex_dagster.editing.pixels import picture_tensor
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import EditorError
from diffex_dagster.judging.parts import JudgePart, Where
from diffex_dagster.judging.protocol import Judge, Pair
from diffex_dagster.utils.imports import at_own_code
from diffex_dagster.utils.secrets import logger

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.engine import Engine

log = logger(__name__)

ALGORITHM = 1  # raised when a change of the code changes answers
NOISE_LEVELS = (0.8, 0.7, 0.9, 0.6)  # shares of the noise schedule; a concept shows best where composition is decided
_ROWS = 32  # UNet rows at a time, where memory suffices


class DiffusionJudgePart(JudgePart):
    """Judge edits with the editor's own judge, of a diffusion editor its model; others' edits are not judged."""

    own_model: ClassVar[bool] = False

    kind: Literal["diffusion"] = "diffusion"
    draws: int = Field(2, ge=1, le=64, description="noise draws a picture is judged at: 2 cost a fifth of the edit")

    def build(self, where: Where, editor: Editor) -> Judge | None:
        """The editor's own judge (`OwnJudge.judge`): code that wraps an editor passes the question on."""
        judge: Callable[[int], Judge] | None = getattr(editor, "judge", None)
        if judge is None:
            return None
        with at_own_code(f"the judge of the editor {editor.__class__.__name__} cannot be made", "mend it", EditorError):
            return judge(self.draws)

    def absent(self, where: Where) -> str:
        """The editor has none."""
        asked = "`judge: {kind: vlm}` asks the study's vision-language model, and " if where.vlm else ""
        named = "" if where.vlm else " or `judge: {kind: vlm, model: ...}`"
        return (
            f"the editor {where.editor_name} has no judge of its own; {asked}`judge: {{kind: clip, checkpoint: ...}}`"
            f"{named} would name one"
        )


class HasEngine(Protocol):
    """An editor whose diffusion model can be shared."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes the model's answers."""
        ...

    def engine(self) -> Engine:
        """The loaded model."""
        ...


class DiffusionJudge:
    """A `Judge` on the diffusion model of a LEDITS++ editor.

    Args:
        editor: its model is shared, not loaded a second time.
        draws: pairs of time step and noise a picture is judged at; each costs two UNet rows a concept, less one for
            every further concept of the same picture.
    """

    name = "the editor's own model"  # as a report says it
    absolute = True  # what words explain beyond no words is 0 where they explain nothing, whatever the words

    def __init__(self, editor: HasEngine, draws: int = 2) -> None:
        self.editor, self.draws = editor, draws
        self._rows = _ROWS  # halved where memory does not suffice

    @property
    def fingerprint(self) -> str:
        """Hash of the editor's fingerprint and the draws."""
        text = f"diffusion probe {ALGORITHM} {self.draws} {NOISE_LEVELS} {self.editor.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `Judge.evidence`; pictures are judged as many at a time as fill a UNet batch.

        Raises:
            EditorError: the checkpoint is missing or cannot be loaded, or one row does not fit into memory.
        """
        if not pairs:
            return
        engine = self.editor.engine()
        for batch in self.batches(pairs):
            prompts = {key: [prompt for _, prompt in of] for key, of in groupby(batch, key=lambda pair: pair[0])}
            yield self._judge(engine, pictures, prompts)

    def batches(self, pairs: Sequence[Pair]) -> list[list[Pair]]:
        """The pairs as they are judged together, in order: as many pictures as fill a UNet batch."""
        batches: list[list[Pair]] = [[]]
        rows = 0
        for _, of in groupby(sorted(dict.fromkeys(pairs)), key=lambda pair: pair[0]):
            some = list(of)
            if rows >= _ROWS:
                batches.append([])
                rows = 0
            batches[-1] += some
            rows += len(some) + 1
        return [batch for batch in batches if batch]

    def _judge(
        self, engine: Engine, pictures: Mapping[str, Image.Image], batch: Mapping[str, Sequence[str]]
    ) -> list[tuple[Pair, float]]:
        while (judged := self._try(engine, pictures, batch)) is None:
            self._rows //= 2
            log.warning(
                "out of memory: judging goes on with %d UNet rows at a time; answers differ by rounding from those of "
                "a run that has memory for more",
                self._rows,
            )
        return [
            ((key, prompt), float(value))
            for (key, prompts), values in zip(batch.items(), judged, strict=True)
            for prompt, value in zip(prompts, values.mean(dim=1), strict=True)
        ]

    def _try(
        self, engine: Engine, pictures: Mapping[str, Image.Image], batch: Mapping[str, Sequence[str]]
    ) -> list[torch.Tensor] | None:
        """The evidence for each picture's words, (words, draws), or None if it did not fit into memory."""
        import torch

        from diffex_dagster.editing.diffusion_classifier import evidence
        from diffex_dagster.utils.devices import made_if_it_fits

        keys, at_once = list(batch), max(self._rows // 2, 1)  # a batch of `_ROWS` has no more pictures
        levels = [NOISE_LEVELS[i % len(NOISE_LEVELS)] for i in range(self.draws)]

        def made() -> list[torch.Tensor]:
            encoded = [
                engine.encode(torch.stack([picture_tensor(pictures[key], engine.resolution) for key in some]))
                for some in (keys[start : start + at_once] for start in range(0, len(keys), at_once))
            ]
            return evidence(engine, torch.cat(encoded), list(batch.values()), levels, self._rows)

        too_large = (
            "to judge one edit at a time does not fit into the device's memory: ask for a smaller resolution, "
            'dtype: "float16", another device, or another judge'
        )
        return made_if_it_fits(made, engine.device.type, too_large * (self._rows == 1))
