"""What may be chosen about LEDITS++, and which of it decides pixels or inversions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from diffex_dagster.editing.loading import LOADING, LoadingOptions
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.editing.settings import ConceptOptions, PromptOptions, Setting, read_setting
from diffex_dagster.editing.vocabulary import Vocabulary, VocabularyGroup, describing
from diffex_dagster.errors import EditorError

ALGORITHM = 2  # raised when a change of the code changes pixels: it is part of the fingerprint
_version = functools.cache(version)  # reads a file each time, and a fingerprint is asked for often
# Not part of the fingerprint as they stand: what they mean for pixels enters it by content, or they change only speed.
NOT_PIXELS = LOADING | {
    "checkpoint",
    "revision",
    "config",
    "batch_size",
    "channels_last",
    "compile",
    "inversion_cache_mb",
    "inversion_folder",
    "inversion_folder_mb",
}
# An inversion does not depend on how an edit is guided.
NOT_INVERSION = NOT_PIXELS | {"prompts", "scale", "threshold", "mask", "mask_resolution", "warmup", "cooldown"}


class LeditsOptions(ConceptOptions, LoadingOptions):
    """Everything a user chooses about the diffusion editor."""

    checkpoint: str  # a folder in Stable Diffusion format, a single .safetensors file, or a Hugging Face model id
    revision: str | None = None  # of a hub model
    config: str | None = None  # of a single file: folder or hub id of its architecture; None: inferred, from the hub
    steps: int = Field(20, ge=1, le=1000)  # denoising steps
    skip: float = Field(0.1, ge=0, lt=1)  # extra noisy steps left out: less skip, larger changes
    mask_resolution: int | None = Field(None, ge=2)  # side of the attention maps; None: a quarter of the latents' side
    scheduler: Literal["dpm", "ddim"] = "dpm"  # DPM-Solver++ SDE, second order, or DDPM sampling on fewer steps
    correct_end: bool = True  # null edits reconstruct the picture exactly; False ends as diffusers does
    zero_noise_steps: int | None = Field(None, ge=0)  # last steps without the inversion's noise; None: 3 for XL, else 0
    resolution: int | None = Field(None, ge=8, le=8192)  # side in pixels; None: what the checkpoint was trained on
    prompts: dict[str, PromptOptions] = Field({})  # prompts that need options of their own
    # Words that pictures are described in.
    source_prompts: Literal["auto", "none"] | dict[str, VocabularyGroup] = "auto"
    # auto: those of the corpus, frozen at the first run (`LeditsEditor.with_source_prompts`); none: e(concept) − e("")
    batch_size: int | None = Field(None, ge=1)  # single-concept edits at a time; None: 16
    channels_last: bool = True
    compile: bool = False  # torch.compile the UNet: minutes at the start, for long runs
    inversion_cache_mb: int = Field(1024, ge=0)  # inverted pictures kept for later calls
    inversion_folder: Path | None = None  # inverted pictures kept for later runs too; a folder beside the study
    inversion_folder_mb: int = Field(4096, ge=1)  # its largest size; 20 steps at 512 pixels are 4 MB a picture

    @model_validator(mode="after")
    def _fits_together(self) -> LeditsOptions:
        if self.config and not self.checkpoint.endswith(".safetensors"):
            raise ValueError("config belongs to a checkpoint that is a single .safetensors file; remove it")
        if self.compile and self.offload:
            raise ValueError("compile needs the UNet to stay on the device, and offload moves it; keep one of them")
        return self

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that pictures are described in, where they are written down."""
        return {} if isinstance(self.source_prompts, str) else self.source_prompts

    def setting(self, concept: Concept) -> Setting:
        """The options that a concept is edited under: those that it asks for, or the editor's own for its prompt."""
        if concept.setting:
            return read_setting(concept.setting)
        named = self.prompts.get(concept.prompt)
        if named is None:
            return self.own
        skip = self.skip if named.skip is None else named.skip
        return Setting(**_of_concept(named), skip=skip, described=named.described)

    @property
    def own(self) -> Setting:
        """The options of prompts that have none of their own."""
        return Setting(**_of_concept(self), skip=self.skip)

    def skip_of(self, request: EditRequest) -> float:
        """How much of the noisy end an edit leaves out: the least of what its concepts do."""
        return min((self.setting(concept).skip for concept in request.concepts), default=self.skip)

    def described_of(self, request: EditRequest) -> bool:
        """Whether an edit follows the picture's description: where all of its concepts do.

        A joint edit starts from one inversion, and the description is part of that. Where one concept was found to do
        better without it, so is the whole edit: the harm that a wrong description does is larger than its good.
        """
        return all(self.setting(concept).described for concept in request.concepts)

    def alike(self, setting: Setting) -> bool:
        """Whether edits under a setting leave out as much and are described as null edits are."""
        return setting.skip == self.skip and setting.described

    def check_alike(self, requests: Sequence[EditRequest]) -> None:
        """Refuse single prompts' own skip or description where null edits depend on these: an edit has no null edit.

        Raises:
            EditorError: a concept asks for one.
        """
        for concept in (concept for request in requests for concept in request.concepts):
            asked = self.setting(concept)
            if not self.alike(asked):
                name = "described" if asked.skip == self.skip else "skip"
                raise EditorError(
                    f"prompts: {concept.prompt!r}: null edits of this editor depend on {name} (Stable Diffusion XL as "
                    f"it is set, zero_noise_steps above 0, or correct_end: false): leave {name} of this prompt out"
                )

    def identity(
        self, checkpoint: str, placement: tuple[str, str], leave_out: set[str], in_order: bool
    ) -> dict[str, Any]:
        """What a fingerprint is a hash of.

        Args:
            checkpoint: hash of its content.
            placement: device and dtype; of the device, its kind counts.
            leave_out: options that do not count: `NOT_PIXELS`, `NOT_INVERSION`.
            in_order: whether the order of the vocabulary counts: it decides what a description says first.
        """
        options = self.model_dump(mode="json", exclude=leave_out | {"source_prompts"})
        if "prompts" in options:
            options["prompts"] = {prompt: each.identity() for prompt, each in self.prompts.items()}
        if words := self.vocabulary:  # under its old name: edits that were made under it stay valid
            options["describe"] = {name: group.model_dump(mode="json") for name, group in words.items()}
            if in_order:
                options["order"] = list(words)
            if rules := describing():
                options["describing"] = rules
        return {
            "editor": "ledits",
            "algorithm": ALGORITHM,
            "checkpoint": checkpoint,
            "options": options,
            "device": placement[0].split(":")[0],
            "dtype": placement[1],
            "libraries": {name: _version(name) for name in ("torch", "diffusers", "transformers")},
            **self.pixels(),
        }


def _of_concept(options: ConceptOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ConceptOptions.model_fields}
