"""A checkpoint's models as the engine uses them: Stable Diffusion 1.x and 2.x, and Stable Diffusion XL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.checkpoints import Checkpoint
from diffex_dagster.editing.loading import merge_loras
from diffex_dagster.errors import EditorError, at_the_boundary
from diffex_dagster.utils.devices import load_quietly
from diffex_dagster.utils.secrets import logger

log = logger(__name__)


@dataclass(frozen=True)
class Text:
    """A prompt as the UNet reads it."""

    embedding: torch.Tensor  # (T, D), a row a token
    words: torch.Tensor  # (T,): 1 at the tokens of its own words, 0 at start, end and padding
    pooled: torch.Tensor | None = None  # (P,): the whole prompt in one vector; Stable Diffusion XL only


@dataclass(frozen=True)
class Texts:
    """The prompts of a UNet batch of N rows."""

    embeddings: torch.Tensor  # (N, T, D)
    pooled: torch.Tensor | None  # (N, P)

    @classmethod
    def stack(cls, texts: Sequence[Text]) -> Texts:
        """A row a prompt."""
        pooled = [text.pooled for text in texts if text.pooled is not None]
        return cls(torch.stack([text.embedding for text in texts]), torch.stack(pooled) if pooled else None)

    @classmethod
    def repeat(cls, text: Text, count: int) -> Texts:
        """The same prompt in `count` rows, without a copy."""
        pooled = None if text.pooled is None else text.pooled.expand(count, -1)
        return cls(text.embedding.expand(count, -1, -1), pooled)

    def __getitem__(self, rows: slice) -> Texts:
        return Texts(self.embeddings[rows], None if self.pooled is None else self.pooled[rows])

    def padded(self, count: int) -> Texts:
        """`count` rows: these, and the first one again as often as needed."""
        rows = [*range(len(self.embeddings)), *[0] * (count - len(self.embeddings))]
        return Texts(self.embeddings[rows], None if self.pooled is None else self.pooled[rows])


@dataclass(frozen=True)
class Components:
    """A checkpoint's models, as loaded: float weights of the dtype asked for, on the CPU."""

    unet: Any
    vae: Any
    encoders: tuple[Any, ...]  # CLIP text encoders: one, or two for Stable Diffusion XL
    tokenizers: tuple[Any, ...]  # one for each encoder
    schedule: dict[str, Any]  # the scheduler's configuration
    zeros_when_empty: bool = False  # whether the empty prompt is all zeros instead of encoded (XL)

    @property
    def is_xl(self) -> bool:
        """Whether this is Stable Diffusion XL."""
        return len(self.encoders) == 2

    @property
    def models(self) -> tuple[Any, ...]:
        """All models."""
        return (self.unet, self.vae, *self.encoders)

    def pipeline(self) -> Any:
        """The same models as a pipeline of diffusers, which knows how LoRA files name them."""
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

        scheduler = DPMSolverMultistepScheduler.from_config(self.schedule)
        shared = {"unet": self.unet, "vae": self.vae, "scheduler": scheduler}
        shared |= {"text_encoder": self.encoders[0], "tokenizer": self.tokenizers[0]}
        if self.is_xl:
            second = {"text_encoder_2": self.encoders[1], "tokenizer_2": self.tokenizers[1]}
            return StableDiffusionXLPipeline(**shared, **second, add_watermarker=False)
        return StableDiffusionPipeline(
            **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    @torch.no_grad()
    def encode(self, prompt: str) -> Text:
        """A prompt through the text encoder, or through both and side by side (XL, section 2.1 of its paper).

        XL reads each encoder's last hidden layer but one; the second encoder's pooled output goes to the UNet as well.
        """
        parts = [self._encode(i, prompt) for i in range(len(self.encoders))]
        embedding = torch.cat([hidden for hidden, _ in parts], dim=-1)
        pooled = parts[-1][1]
        if prompt == "" and self.zeros_when_empty:
            embedding = torch.zeros_like(embedding)
            pooled = None if pooled is None else torch.zeros_like(pooled)
        return Text(embedding.to(self.unet.dtype), self._words(prompt, embedding), pooled)

    def _encode(self, i: int, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        encoder, tokenizer = self.encoders[i], self.tokenizers[i]
        tokens = tokenizer(
            prompt, padding="max_length", max_length=self.limit, truncation=True, return_tensors="pt"
        ).to(encoder.device)
        if self.is_xl:
            output = encoder(tokens.input_ids, output_hidden_states=True)
            return output.hidden_states[-2][0], output[0][0].to(self.unet.dtype) if i == 1 else None
        attended = getattr(encoder.config, "use_attention_mask", None)
        return encoder(tokens.input_ids, attention_mask=tokens.attention_mask if attended else None)[0][0], None

    @property
    def limit(self) -> int:
        """How many tokens a prompt is read to, with those of the start and the end."""
        return int(self.tokenizers[0].model_max_length)

    def tokens(self, prompt: str) -> int:
        """How many tokens a prompt has, without those of the start and the end."""
        return len(self.tokenizers[-1](prompt).input_ids) - 2

    def reads(self, prompt: str) -> bool:
        """Whether the text encoder reads all of a prompt."""
        return self.tokens(prompt) <= self.limit - 2

    def _words(self, prompt: str, embedding: torch.Tensor) -> torch.Tensor:
        # Counted without padding: with it, a fast tokenizer gives the padded length for every prompt.
        own, limit = self.tokens(prompt), self.limit
        if own > limit - 2:
            log.warning("prompt %r has %d tokens; the checkpoint reads the first %d", prompt, own, limit - 2)
        words = torch.zeros(limit, device=embedding.device)
        words[1 : 1 + min(own, limit - 2)] = 1
        return words


def load_components(checkpoint: Checkpoint, dtype: torch.dtype, loras: Sequence[tuple[Path, float]] = ()) -> Components:
    """Load a checkpoint, and merge LoRA into its UNet and text encoders.

    Args:
        checkpoint: complete (see `checkpoints.locate`).
        dtype: of the models.
        loras: their files and scales.

    Stable Diffusion XL's autoencoder overflows in half precision: it is loaded in float32 where its configuration says
    so (`force_upcast`) and `dtype` is float16.

    Raises:
        EditorError: a file cannot be read as what it should be.
    """
    load_quietly()
    components = _from_file(checkpoint, dtype) if checkpoint.file else _from_folder(checkpoint.folder, dtype)
    if loras:
        merge_loras(components.pipeline(), loras)
    return components


def _from_folder(folder: Path, dtype: torch.dtype) -> Components:
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    options: dict[str, Any] = {
        "variant": checkpoints.variant(folder),
        "use_safetensors": True,
        "local_files_only": True,
    }
    is_xl = checkpoints.is_xl(folder)
    encoder_classes = (CLIPTextModel, CLIPTextModelWithProjection) if is_xl else (CLIPTextModel,)
    with at_the_boundary(
        f"the diffusion checkpoint {folder.absolute()} cannot be loaded",
        "give a Stable Diffusion 1.x, 2.x or XL checkpoint with safetensors weights",
        EditorError,
    ):
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, **options)
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, **options)
        if is_xl and dtype == torch.float16 and vae.config.force_upcast:
            vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, **options)
        encoders, tokenizers = [], []
        for kind, end in zip(encoder_classes, ("", "_2"), strict=False):
            encoders.append(kind.from_pretrained(folder / f"text_encoder{end}", dtype=dtype, **options))
            tokenizers.append(CLIPTokenizer.from_pretrained(folder / f"tokenizer{end}", local_files_only=True))
        schedule = DPMSolverMultistepScheduler.load_config(folder / "scheduler", local_files_only=True)
    zeros = is_xl and bool(checkpoints.model_index(folder).get("force_zeros_for_empty_prompt", True))
    return Components(unet, vae, tuple(encoders), tuple(tokenizers), dict(schedule), zeros)


def _from_file(checkpoint: Checkpoint, dtype: torch.dtype) -> Components:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline

    is_xl = checkpoints.is_xl(checkpoint.folder)
    file, config = str(checkpoint.file), str(checkpoint.folder)
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    with at_the_boundary(
        f"the diffusion checkpoint {checkpoint} cannot be loaded with the configuration in "
        f"{checkpoint.folder.absolute()}",
        "give a Stable Diffusion 1.x, 2.x or XL file, and a config of the same architecture",
        EditorError,
    ):
        if is_xl and dtype == torch.float16:
            options["vae"] = AutoencoderKL.from_single_file(
                file, config=config, subfolder="vae", torch_dtype=torch.float32, local_files_only=True
            )
            if not options["vae"].config.force_upcast:
                options["vae"].to(dtype)
        if not is_xl:
            options |= {"safety_checker": None, "feature_extractor": None}
        kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
        loaded: Any = kind.from_single_file(file, config=config, **options)
    ends = ("", "_2") if is_xl else ("",)
    encoders = tuple(getattr(loaded, f"text_encoder{end}") for end in ends)
    tokenizers = tuple(getattr(loaded, f"tokenizer{end}") for end in ends)
    zeros = is_xl and bool(loaded.config.force_zeros_for_empty_prompt)
    return Components(loaded.unet, loaded.vae, encoders, tokenizers, dict(loaded.scheduler.config), zeros)
