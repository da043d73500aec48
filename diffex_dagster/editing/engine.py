"""LEDITS++ on tensors: invert once, then denoise many edits in one batch.

The engine uses the parts of a Stable Diffusion checkpoint and nothing of diffusers' pipelines. `invert` follows the
paper's section "perfect inversion", `edit` its sections "textual editing" and "semantic grounding" (arXiv 2311.16711).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from diffex_dagster.editing import guidance, solver
from diffex_dagster.editing.checkpoints import Checkpoint
from diffex_dagster.editing.edit_plan import Edit, Inversion, Plan
from diffex_dagster.editing.guidance import AttentionMaps
from diffex_dagster.editing.ledits_options import LeditsOptions
from diffex_dagster.editing.loading import attention_processor, place
from diffex_dagster.editing.models import Text, Texts, load_components
from diffex_dagster.editing.vocabulary import SourcePrompt, prompt_of
from diffex_dagster.errors import EditorError
from diffex_dagster.utils.devices import keep_freed_memory

_TEXTS = 512  # encoded prompts that are kept: 60 MB for Stable Diffusion 1.5


def check_latents(config: Any) -> None:
    """Refuse an autoencoder whose latents are more than scaled.

    Raises:
        EditorError: its configuration has `latents_mean`, `latents_std` or a `shift_factor`.
    """
    shifted = [name for name in ("latents_mean", "latents_std", "shift_factor") if getattr(config, name, None)]
    if shifted:
        raise EditorError(
            f"the checkpoint's autoencoder shifts its latents ({', '.join(shifted)}), which this editor does not undo: "
            "its edits would have wrong colours; use a checkpoint whose vae/config.json has a scaling_factor alone"
        )


class Engine:
    """A loaded checkpoint that inverts and edits.

    Args:
        checkpoint: complete (see `checkpoints.locate`), or its folder.
        options: steps, skip and scheduler; `correct_end`, whether the last step, which adds no noise, is corrected as
            the others are (see `invert`); `zero_noise_steps`, last steps that get no noise from the inversion: None is
            3 for Stable Diffusion XL, where diffusers warns of grain otherwise, and 0 for the others. Where it is not
            0, null edits are the model's own ending of a picture, no exact reconstruction. With `compile`, calls whose
            attention is read stay uncompiled. LoRA, attention and what saves memory are of `LoadingOptions`.
        device: where the models run, whatever the options say.
        dtype: of the models; latents stay float32 since differences of close numbers are masked and amplified.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Path,
        options: LeditsOptions,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device, self.dtype, self.mask_resolution = device, dtype, options.mask_resolution
        if device.type == "cpu":
            keep_freed_memory()
        checkpoint = Checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        self.components = load_components(checkpoint, dtype, options.lora_files())
        self.unet, self.vae, schedule = self.components.unet, self.components.vae, self.components.schedule
        check_latents(self.vae.config)
        place(self.components.models, options, device)
        if options.channels_last and device.type != "mps":
            self.unet.to(memory_format=torch.channels_last)
            self.vae.to(memory_format=torch.channels_last)
        self.correct_end = options.correct_end
        own = 3 if self.components.is_xl else 0
        self.zero_noise_steps = own if options.zero_noise_steps is None else options.zero_noise_steps
        self._timetable = partial(solver.timetable, options.scheduler, schedule, options.steps)
        self.steps = self._timetable(options.skip)
        self.train_timesteps = int(schedule.get("num_train_timesteps", 1000))
        self._maps = AttentionMaps()
        guidance.install(self.unet, self._maps, attention_processor(options, device))
        self._compiled: torch.nn.Module | None = torch.compile(self.unet) if options.compile else None  # type: ignore[assignment]
        self.text = lru_cache(_TEXTS)(self.components.encode)  # a prompt as the UNet reads it

    def skipping(self, skip: float) -> Engine:
        """The same models with another share of the noisy end left out."""
        other = copy(self)
        other.steps = self._timetable(skip)
        return other

    @property
    def resolution(self) -> int:
        """The side in pixels of the square pictures that the checkpoint was trained on."""
        return int(self.unet.config.sample_size) * self.vae_factor

    @property
    def side_multiple(self) -> int:
        """What a picture's side has to be a multiple of: the UNet halves its latents once less than it has levels."""
        levels = len(self.unet.config.block_out_channels)
        return int(self.vae_factor * 2 ** (levels - 1))

    @property
    def vae_factor(self) -> int:
        """Pixels to a latent, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    # -- the models ------------------------------------------------------------------------------------------------

    @property
    def denoiser(self) -> torch.nn.Module:
        """What predicts where no attention map is read: the UNet, compiled if that was asked for."""
        return self.unet if self._compiled is None else self._compiled

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, H, W) in [−1, 1] to scaled latents (N, C, h, w), float32: the mode, so nothing is drawn."""
        latents = self.vae.encode(pictures.to(self.device, self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (N, C, h, w) to pictures (N, 3, H, W) in [0, 1], float32.

        Raises:
            EditorError: latents or pictures are not finite: the model's numbers overflowed, or its weights are broken.
        """
        pictures = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
        for what, model, values in (("UNet", self.unet, latents), ("autoencoder", self.vae, pictures)):
            if not bool(torch.isfinite(values).all()):
                remedy = "set dtype: float32 (or bfloat16), or " if model.dtype != torch.float32 else ""
                raise EditorError(
                    f"the editor's {what} returned numbers that are not finite (in {str(model.dtype)[6:]}), which "
                    f"would be black pictures: {remedy}get the checkpoint again"
                )
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def text_among(self, before: Sequence[str], concept: str, after: Sequence[str]) -> Text:
        """A concept among other words, with the mask of its own tokens only."""
        text = self.text(", ".join([*before, concept, *after]))
        start = 1 + self.components.tokens(", ".join([*before, ""]))
        words = torch.zeros_like(text.words)
        words[start : start + self.components.tokens(concept)] = 1
        return replace(text, words=words * text.words)

    def predict(
        self, x: torch.Tensor, timesteps: torch.Tensor, texts: Texts, words: torch.Tensor | None, rows: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """UNet outputs of N rows, at most `rows` in one call.

        Args:
            x: latents (N, C, H, W).
            timesteps: (N,).
            texts: N prompts.
            words: (K, T) token masks of the last K rows if their attention maps are wanted.
            rows: the largest batch.

        Returns:
            Outputs (N, C, H, W) float32 and attention maps (K, h, w) or None.
        """
        outputs, maps = [], []
        self._maps.stop()  # a call that ran out of memory may have left it collecting
        first_read = len(x) - (0 if words is None else len(words))
        for start in range(0, len(x), rows):
            stop = min(start + rows, len(x))
            read = None
            if words is not None and stop > first_read:
                read = words[max(start - first_read, 0) : stop - first_read]
                self._maps.start(read, *self._mask_size(x))
            outputs.append(self._unet(x[start:stop], timesteps[start:stop], texts[start:stop], rows, read is not None))
            if read is not None:
                maps.append(self._finished_maps())
        return torch.cat(outputs), torch.cat(maps) if maps else None

    def _unet(self, x: torch.Tensor, timesteps: torch.Tensor, texts: Texts, rows: int, reading: bool) -> torch.Tensor:
        count = len(x)
        model = self.unet if reading else self.denoiser
        if model is not self.unet:  # a compiled UNet sees one size of batch only: each other would be compiled again
            spare = rows - count
            x, timesteps = (torch.cat([t, t[:1].expand(spare, *t.shape[1:])]) for t in (x, timesteps))
            texts = texts.padded(rows)
        conditions = self.conditions(texts, x)
        return model(x.to(self.dtype), timesteps, return_dict=False, **conditions)[0][:count].float()

    def conditions(self, texts: Texts, x: torch.Tensor) -> dict[str, Any]:
        """The UNet's arguments beside latents (N, C, H, W) and time step.

        Stable Diffusion XL is also told every picture's size, that nothing was cropped, and the size to draw
        ("micro-conditioning", section 2.2 of its paper).
        """
        added = None
        if texts.pooled is not None:
            height, width = (side * self.vae_factor for side in x.shape[-2:])
            sizes = _micro_conditions(height, width, x.device)
            added = {"text_embeds": texts.pooled, "time_ids": sizes.expand(len(x), -1)}
        return {"encoder_hidden_states": texts.embeddings, "added_cond_kwargs": added}

    def _finished_maps(self) -> torch.Tensor:
        try:
            return self._maps.finish()
        except LookupError as error:
            raise EditorError(
                f"the checkpoint's UNet has {error}, which the cross-attention mask is read at: "
                'set mask_resolution to the side of one of its cross-attention layers, or use mask: "noise"'
            ) from error

    # -- inversion -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def invert(
        self,
        latents: torch.Tensor,
        generators: Sequence[torch.Generator],
        rows: int = 32,
        shows: Sequence[SourcePrompt] | None = None,
    ) -> list[Inversion]:
        """Invert N pictures (edit-friendly DDPM inversion carried over to the solver; section "perfect inversion").

        Every noisy x_i is drawn from the forward process with noise of its own, and the noise that the sampler would
        have needed to arrive there follows. No x_i depends on another, so all steps of all pictures share UNet batches.

        The last step of the sampler adds no noise. diffusers leaves it uncorrected, so that the null edit differs from
        the picture by what the model gets wrong there, which is much where few steps are taken. With `correct_end` the
        same difference is added as in the other steps: the null edit is then exactly the autoencoder's reconstruction.

        Args:
            latents: clean, (N, C, H, W).
            generators: one CPU generator a picture, so that its noise does not depend on its batch or the device.
            rows: the largest UNet batch.
            shows: what each picture shows, which is the UNet's prompt; nothing when left out, as in LEDITS++.
        """
        shape, count = latents.shape[1:], len(self.steps)
        shows = shows or [()] * len(latents)
        texts = [self.text(prompt_of(each)) for each in shows]
        paths = []
        for clean, generator in zip(latents, generators, strict=True):
            # Drawn from the least noisy step on, the order in which diffusers draws.
            drawn = torch.stack([torch.randn(shape, generator=generator) for _ in self.steps]).to(self.device)
            noisy = [step.noised(clean, noise) for step, noise in zip(self.steps, drawn.flip(0), strict=True)]
            paths.append(torch.stack([*noisy, clean]))
        path = torch.stack(paths)  # (N, S + 1, C, H, W)

        outputs, noises = torch.zeros_like(path[:, 1:]), torch.zeros_like(path[:, 1:])
        free = max(count - self.zero_noise_steps, 0)  # the first step that is left without noise
        on_path = min(free + 1, count)
        outputs[:, :on_path] = self._unguided(path[:, :on_path], self.steps[:on_path], texts, rows)
        previous: torch.Tensor | None = None
        for i, step in enumerate(self.steps):
            if i > free:  # the step before went its own way
                outputs[:, i : i + 1] = self._unguided(path[:, i : i + 1], [step], texts, rows)
            clean = step.clean(path[:, i], outputs[:, i])
            mean = step.mean(path[:, i], clean, previous)
            if i < free and (step.noisy or self.correct_end):
                noises[:, i] = path[:, i + 1] - mean
            else:
                path[:, i + 1] = mean
            previous = clean
        # Copies, so that a kept inversion does not hold on to the whole batch.
        return [
            Inversion(latents.clone(), output.clone(), noise.clone(), shown)
            for latents, output, noise, shown in zip(path, outputs, noises, shows, strict=True)
        ]

    def _unguided(
        self, x: torch.Tensor, steps: Sequence[solver.Step], texts: Sequence[Text], rows: int
    ) -> torch.Tensor:
        """The UNet's outputs at latents (N, steps, C, H, W) under each picture's own text."""
        timesteps = torch.tensor([step.timestep for step in steps], device=self.device).repeat(len(x))
        prompts = Texts.stack([text for text in texts for _ in steps])
        return self.predict(x.flatten(0, 1), timesteps, prompts, None, rows)[0].view(x.shape)

    # -- editing ---------------------------------------------------------------------------------------------------

    def edit(self, edits: Sequence[Edit], rows: int = 32) -> torch.Tensor:
        """The clean latents of `edit_with_masks`."""
        return self.edit_with_masks(edits, rows)[0]

    @torch.no_grad()
    def edit_with_masks(self, edits: Sequence[Edit], rows: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
        """Clean latents of N independent edits, and where they were guided.

        An edit joins at the first step that its guidance changes: until then it would follow its inversion, whose UNet
        output and previous prediction are known. A concept costs a UNet row only in the steps that it is active in, and
        the unguided output one only where it counts (see `Edit.source_cancels`).

        Args:
            edits: any mix of pictures, prompts, directions and guidances.
            rows: the largest UNet batch.

        Returns:
            Latents (N, C, H, W), and bool (N, H, W): the places that the mask of some concept of the edit was open at
            in some step.
        """
        steps = len(self.steps)
        starts = [edit.start(steps) for edit in edits]
        x = torch.stack([edit.inversion.latents[start] for edit, start in zip(edits, starts, strict=True)])
        previous = torch.stack([self._clean_before(edit, start) for edit, start in zip(edits, starts, strict=True)])
        sources = [self.text(prompt_of(edit.inversion.shows)) for edit in edits]
        plan = Plan(edits, starts, sources, self.device)
        opened = torch.zeros(len(x), *x.shape[-2:], device=self.device)  # how often each place was guided
        for i in range(min(starts), steps):
            step, now = self.steps[i], plan.at(i)
            known = [edits[e].inversion.outputs[i][None] for e in now.joining]
            batch = x[now.source]
            maps_wanted = now.concepts is not None and now.concepts.needs_attention
            timesteps = torch.full((len(batch),), step.timestep, device=self.device)
            words = now.words if maps_wanted else None
            if len(batch):
                predicted, maps = self.predict(batch, timesteps, now.texts, words, rows)
            else:
                predicted, maps = batch, None
            unguided = predicted[: len(predicted) - now.count]
            cancelled = torch.zeros((now.cancelled, *x.shape[1:]), device=self.device)
            output = torch.cat([unguided, cancelled, *known])  # in the order of now.running
            if now.concepts is not None:
                difference = predicted[len(unguided) :] - output[now.owner]
                guided, places = now.concepts.guide(difference, maps, self._intersects(step))
                for turn in now.turns:  # one concept of an edit at a time: a GPU adds in any order where places repeat
                    output = output.index_add(0, now.owner[turn], guided[turn])
                opened.index_add_(0, now.source[len(now.source) - now.count :], places)
            here = x[now.running]
            clean = step.clean(here, output)
            noise = torch.stack([edits[e].inversion.noises[i] for e in now.running_list])
            x[now.running] = step.mean(here, clean, previous[now.running]) + noise
            previous[now.running] = clean
        return x, opened > 0

    def _intersects(self, step: solver.Step) -> bool:
        return self.components.is_xl or step.timestep <= guidance.INTERSECT_FROM_TIMESTEP

    def _clean_before(self, edit: Edit, start: int) -> torch.Tensor:
        """m_{start−1} of the inversion, which the second-order solver looks back to."""
        if start == 0:
            return torch.zeros_like(edit.inversion.latents[0])  # the first step does not look back
        return self.steps[start - 1].clean(edit.inversion.latents[start - 1], edit.inversion.outputs[start - 1])

    def _mask_size(self, x: torch.Tensor) -> tuple[int, int]:
        height, width = x.shape[-2:]
        if self.mask_resolution is None:
            return height // 4, width // 4
        return self.mask_resolution, self.mask_resolution * width // height


@lru_cache
def _micro_conditions(height: int, width: int, device: torch.device) -> torch.Tensor:
    # Kept: a tensor that goes to a GPU at every step makes every step wait for the one before.
    return torch.tensor([height, width, 0, 0, height, width], device=device)
