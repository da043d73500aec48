"""The editor's own model as a diffusion classifier (Li et al., ICCV 2023, arXiv 2303.16203).

A diffusion model's error in predicting the noise of a noised picture bounds the picture's log-likelihood (their
equation 3): the text under which the error is least describes the picture best. Evidence for a concept is

    E_{t, ε} [ ‖ε − ε_θ(x_t, "")‖² − ‖ε − ε_θ(x_t, concept)‖² ]

in mean squared noise per latent value: what the concept's words explain beyond no words. An edit shows its concept when
evidence rises from the null edit to the edit. Noise and time steps are the same for every picture and concept, as in
their section 3.3: what they have in common cancels in the difference, so that a few draws are enough.

The judge is the model that made the edit. It sees whether the edit went where the model's words point, not whether a
person would agree: towards a word that the model has never learned, an edit may raise the evidence of that word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from PIL import Image

from diffex_dagster.editing.ledits import LeditsEditor, picture_tensor
from diffex_dagster.probing.protocol import Pair

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.engine import Engine
    from diffex_dagster.editing.solver import Step

ALGORITHM = 1  # raised when a change of the code changes answers
NOISE_LEVELS = (0.8, 0.7, 0.9, 0.6)  # shares of the noise schedule; a concept shows best where composition is decided
_ROWS = 32  # UNet rows at a time


class DiffusionProbe:
    """A `ConceptProbe` on the diffusion model of a LEDITS++ editor.

    Args:
        editor: its model is shared, not loaded a second time.
        draws: pairs of time step and noise a picture is judged at; each costs two UNet rows a concept, less one for
            every further concept of the same picture.
    """

    def __init__(self, editor: LeditsEditor, draws: int = 2) -> None:
        self.editor, self.draws = editor, draws

    @property
    def fingerprint(self) -> str:
        """Hash of the editor's fingerprint and the draws."""
        text = f"diffusion probe {ALGORITHM} {self.draws} {NOISE_LEVELS} {self.editor.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[Pair]
    ) -> Iterator[list[tuple[Pair, float]]]:
        """See `ConceptProbe.evidence`; pictures are judged as many at a time as fill a UNet batch.

        Raises:
            EditorError: the checkpoint is missing or cannot be loaded.
        """
        if not pairs:
            return
        engine = self.editor.engine()
        by_picture = {key: [p for _, p in of] for key, of in groupby(sorted(dict.fromkeys(pairs)), key=lambda x: x[0])}
        batch: dict[str, list[str]] = {}
        for key, prompts in by_picture.items():
            batch[key] = prompts
            if sum(len(some) + 1 for some in batch.values()) >= _ROWS:
                yield self._judge(engine, pictures, batch)
                batch = {}
        if batch:
            yield self._judge(engine, pictures, batch)

    def _judge(
        self, engine: Engine, pictures: Mapping[str, Image.Image], batch: Mapping[str, Sequence[str]]
    ) -> list[tuple[Pair, float]]:
        import torch

        from diffex_dagster.editing.parts import Texts

        latents = engine.encode(torch.stack([picture_tensor(pictures[key], engine.resolution) for key in batch]))
        # A row without words for every picture first, then one for every concept of it.
        owner = torch.tensor([i for i, prompts in enumerate(batch.values()) for _ in prompts], device=engine.device)
        words = [prompt for prompts in batch.values() for prompt in prompts]
        texts = Texts.stack([engine.text(prompt) for prompt in [""] * len(batch) + words])
        source = torch.cat([torch.arange(len(batch), device=engine.device), owner])
        total = torch.zeros(len(words), dtype=torch.float64, device=engine.device)
        for step, noise in self._draws(engine, latents.shape[1:]):
            clean = latents[source]
            x = step.noised(clean, noise)
            with torch.no_grad():
                output, _ = engine.predict(x, torch.full((len(x),), step.timestep, device=x.device), texts, None, _ROWS)
            error = noise_error(step, clean, x, output)
            total += (error[: len(batch)][owner] - error[len(batch) :]).double()
        evidence = (total / self.draws).tolist()
        pairs = [(key, prompt) for key, prompts in batch.items() for prompt in prompts]
        return list(zip(pairs, evidence, strict=True))

    def _draws(self, engine: Engine, shape: Sequence[int]) -> Iterator[tuple[Step, torch.Tensor]]:
        """The same (time step, noise) for every picture and concept; noise comes from the CPU on every device."""
        import torch

        for i in range(self.draws):
            generator = torch.Generator().manual_seed(i)
            share = NOISE_LEVELS[i % len(NOISE_LEVELS)]
            step = min(engine.steps, key=lambda each: abs(each.timestep - share * engine.train_timesteps))
            yield step, torch.randn(tuple(shape), generator=generator).to(engine.device)


def noise_error(step: Step, clean: torch.Tensor, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise, shape (N,), whatever the model predicts (noise, velocity, picture).

    With x = signal·clean + sigma·ε, predicting m for the clean latents is predicting ε with signal / sigma the error.
    """
    return ((step.clean(x, output) - clean) * (step.signal / step.sigma)).square().mean(dim=(1, 2, 3))
