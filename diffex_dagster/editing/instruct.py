"""Editing by instruction ("add round glasses") with any diffusers pipeline that takes a picture and a sentence.

InstructPix2Pix (Brooks et al., CVPR 2023, arXiv 2211.09800), FLUX Kontext, Qwen-Image-Edit and their like differ in
their weights and in a few parameters of the call; those are the study's to set.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from diffex_dagster.editing.checkpoints import model_index
from diffex_dagster.editing.inversions import inversion_seed
from diffex_dagster.editing.loading import (
    LOADING,
    LoadingOptions,
    attention_processor,
    fit_vae,
    merge_loras,
    placement,
)
from diffex_dagster.editing.parts import CheckpointPart, Where
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.errors import EditorError, at_the_boundary
from diffex_dagster.utils.hashing import digest, folder_fingerprint, picture_digest
from diffex_dagster.utils.weights import check_weights


class InstructOptions(LoadingOptions):
    """Everything a user chooses about an instruction editor."""

    checkpoint: str  # a folder in diffusers format, or a hub id: timbrooks/instruct-pix2pix, Qwen/Qwen-Image-Edit, ...
    revision: str | None = None  # of a hub model
    add: str = Field("add {}", pattern=r"\{\}")  # the instruction that adds an attribute; {} is its prompt
    remove: str = Field("remove {}", pattern=r"\{\}")
    joined_by: str = " and "  # between the instructions of a joint edit
    steps: int = Field(20, ge=1, le=1000)
    guidance: float | None = None  # on the text; the pipeline's own default when None
    image_guidance: float | None = None  # InstructPix2Pix: how close the result stays to the picture
    parameters: dict[str, Any] = Field(default_factory=dict)  # further parameters of the pipeline's call
    batch_size: int = Field(1, ge=1)  # edits at a time; only some pipelines take more than one


class InstructEditorPart(InstructOptions, CheckpointPart):
    """An instruction editor through diffusers: InstructPix2Pix, FLUX Kontext, Qwen-Image-Edit."""

    kind: Literal["instruct"] = "instruct"

    def build(self, where: Where) -> InstructEditor:
        """An `InstructEditor`; its checkpoint is looked for when its fingerprint is asked for."""
        return InstructEditor(InstructOptions(**self.located(where)))

    def method(self) -> str:
        """The sentence that it is sent."""
        return (
            f"An instruction model edits every sample image by a sentence (“{self.add}”), and once more with an empty "
            "one: the null edit, which carries whatever the model does to a picture when nothing is asked of it."
        )


class InstructEditor:
    """An `Editor` that sends an instruction. The null edit is the empty instruction."""

    def __init__(self, options: InstructOptions) -> None:
        self.options = options

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, options, library versions, device kind and dtype.

        Raises:
            EditorError: the checkpoint, a LoRA, or a package that an option needs is missing.
        """
        options = self.options.model_dump(exclude=LOADING | {"checkpoint", "revision"}) | self.options.pixels()
        libraries = [version(name) for name in ("torch", "diffusers", "transformers")]
        device, dtype = self.placement
        weights = folder_fingerprint(self._folder, (".json", ".txt", ".safetensors"))
        return digest("instruct", weights, options, libraries, device.split(":")[0], dtype)

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Make the edits (see `Editor.edit`), in the order asked for, at the size of their pictures.

        Raises:
            EditorError: the checkpoint cannot be loaded, or the pipeline does not take what the study gives it.
        """
        for batch in self.batches(requests):
            sources = [images[request.image].convert("RGB") for request in batch]
            made = self._call(
                sources, [self.instruction(request) for request in batch], self._generators(sources, batch)
            )
            # Pipelines round sizes to what their autoencoder takes; the classifier compares pictures of one size.
            sized = [
                each if each.size == source.size else each.resize(source.size, Image.Resampling.LANCZOS)
                for each, source in zip(made, sources, strict=True)
            ]
            yield list(zip(batch, (each.convert("RGB") for each in sized), strict=True))

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        """The requests as the pipeline gets them: `batch_size` at a time, in the order asked for."""
        size = self.options.batch_size
        return [list(requests[start : start + size]) for start in range(0, len(requests), size)]

    def instruction(self, request: EditRequest) -> str:
        """The sentence that asks for an edit; empty for the null edit."""
        templates = {"add": self.options.add, "remove": self.options.remove}
        return self.options.joined_by.join(templates[c.direction].replace("{}", c.prompt) for c in request.concepts)

    def _call(self, sources: list[Image.Image], instructions: list[str], generators: list[Any]) -> list[Image.Image]:
        options, one = self.options, len(sources) == 1
        arguments: dict[str, Any] = {
            "image": sources[0] if one else sources,
            "prompt": instructions[0] if one else instructions,
            "generator": generators[0] if one else generators,
            "num_inference_steps": options.steps,
            "guidance_scale": options.guidance,
            "image_guidance_scale": options.image_guidance,
        }
        arguments = {name: value for name, value in arguments.items() if value is not None} | options.parameters
        parameters = inspect.signature(self._pipeline.__call__).parameters
        if "output_type" in parameters:  # numbers, of which it can be seen whether they are some
            arguments.setdefault("output_type", "np")
        unknown = sorted(arguments.keys() - parameters.keys())
        if unknown:
            raise EditorError(
                f"{options.checkpoint}: its pipeline ({type(self._pipeline).__name__}) takes no {', '.join(unknown)}; "
                "leave it out of the study's editor"
            )
        with at_the_boundary(
            f"{options.checkpoint}: the pipeline failed on {len(sources)} pictures",
            "check the editor's parameters, batch_size: 1, a smaller images.size, or offload: true",
            EditorError,
        ):
            return [self._picture(each) for each in self._pipeline(**arguments).images]

    def _picture(self, made: Any) -> Image.Image:
        """A picture as a pipeline returns it: numbers in [0, 1], shape (height, width, 3), or a picture already.

        Raises:
            EditorError: a number is not finite.
        """
        if isinstance(made, Image.Image):
            return made
        numbers = np.asarray(made, dtype=np.float32)
        if not np.isfinite(numbers).all():
            raise EditorError(
                f"{self.options.checkpoint}: the pipeline returned numbers that are not finite (in "
                f"{self.placement[1]}), which would be black pictures: set dtype: float32 (or bfloat16), or get the "
                "checkpoint again"
            )
        return Image.fromarray((numbers.clip(0, 1) * 255).round().astype(np.uint8))

    @staticmethod
    def _generators(sources: Sequence[Image.Image], batch: Sequence[EditRequest]) -> list[Any]:
        """One a picture, on the CPU and by its content: every edit of a picture starts from the same noise."""
        import torch

        return [
            torch.Generator().manual_seed(inversion_seed(picture_digest(source), request.seed))
            for source, request in zip(sources, batch, strict=True)
        ]

    @cached_property
    def placement(self) -> tuple[str, str]:
        return placement(self.options, half="bfloat16")

    @cached_property
    def _folder(self) -> Path:
        """The checkpoint's folder; a hub model's is downloaded once."""
        from diffusers import DiffusionPipeline

        folder = Path(self.options.checkpoint)
        if folder.is_dir():
            if not (folder / "model_index.json").exists():
                raise EditorError(f"{folder}: there is no model_index.json; name a folder that `save_pretrained` wrote")
            return _whole(folder)
        if folder.is_absolute():
            raise EditorError(f"{folder}: there is no such checkpoint; name a folder in diffusers format, or a hub id")
        with at_the_boundary(
            f"{self.options.checkpoint}: the checkpoint cannot be downloaded",
            "correct its name, or download it and give its folder",
            EditorError,
        ):
            found = DiffusionPipeline.download(
                self.options.checkpoint, revision=self.options.revision, use_safetensors=True
            )
        return _whole(Path(found))

    @cached_property
    def _pipeline(self) -> Any:
        import torch
        from diffusers import DiffusionPipeline

        from diffex_dagster.utils.devices import load_quietly

        load_quietly()
        device, dtype = self.placement
        with at_the_boundary(
            f"{self._folder}: the pipeline cannot be loaded",
            "it needs a diffusers folder with safetensors weights, of a pipeline that this version of diffusers knows",
            EditorError,
        ):
            pipeline = DiffusionPipeline.from_pretrained(
                self._folder, torch_dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
            )
        pipeline.set_progress_bar_config(disable=True)
        if getattr(pipeline, "safety_checker", None) is not None:
            pipeline.safety_checker = None  # it would black out edits at random, and the study's images are the user's
        self._set_up(pipeline, torch.device(device))
        return pipeline

    def _set_up(self, pipeline: Any, device: Any) -> None:
        options = self.options
        kind = type(pipeline).__name__
        if options.loras:
            if not hasattr(pipeline, "load_lora_weights"):
                raise EditorError(f"{options.checkpoint}: its pipeline ({kind}) takes no LoRA; remove loras")
            merge_loras(pipeline, options.lora_files())
        if options.vae_tiling or options.vae_slicing:
            if not hasattr(pipeline.vae, "enable_tiling"):
                raise EditorError(
                    f"{options.checkpoint}: its autoencoder ({type(pipeline.vae).__name__}) has neither tiling nor "
                    "slicing; remove vae_tiling and vae_slicing"
                )
            fit_vae(pipeline.vae, options)
        if options.attention == "xformers":
            attention_processor(options, device)  # says what is missing
            pipeline.enable_xformers_memory_efficient_attention()
        if options.offload and device.type != "cpu":  # on the CPU nothing has to leave
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.to(device)


def _whole(folder: Path) -> Path:
    """The folder of a checkpoint.

    Raises:
        EditorError: a file of weights in it is missing, or cut off, or it wants code of its own to be run.
    """
    for part, named in model_index(folder).items():
        if (code := _own_code(folder, part, named)) is not None:
            raise EditorError(
                f"{folder / 'model_index.json'}: {part} is made by code of the checkpoint's own ({code}), which is not "
                "run; give a pipeline of diffusers, or write an editor (kind: python) that runs it"
            )
    for weights in sorted({file.parent for file in folder.glob("*/*.safetensors*")}):
        check_weights(weights, EditorError)
    return folder


def _own_code(folder: Path, part: str, named: Any) -> str | None:
    """The module that makes a part of a pipeline, where it is neither diffusers' nor transformers', nor loaded already
    by the user of this program.
    """
    if not isinstance(named, list) or not named or named[0] is None:
        return None
    module = str(named[0])
    if part != "_class_name":
        beside = (folder / part / f"{module}.py").exists()
        known = importlib.util.find_spec(f"diffusers.pipelines.{module}") if module.isidentifier() else None
        if not beside and (known is not None or module in sys.modules or module in ("diffusers", "transformers")):
            return None
    return f"{module}.py"
