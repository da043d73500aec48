"""How a diffusion model is loaded: with which LoRA, where it runs, and how it fits into the memory that there is.

Importing this loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from diffex_dagster.editing import checkpoints
from diffex_dagster.errors import EditorError, first_line
from diffex_dagster.utils.devices import pick_device
from diffex_dagster.utils.hashing import file_fingerprint

if TYPE_CHECKING:
    import torch

DTypeName = Literal["auto", "float32", "float16", "bfloat16"]


class Lora(BaseModel):
    """A low-rank change to the weights (Hu et al., ICLR 2022, arXiv 2106.09685), merged into them when they load."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    checkpoint: str  # a .safetensors file, a folder with one, or a hub id
    file: str | None = None  # which .safetensors file, where there are several
    revision: str | None = None  # of a hub model
    scale: float = 1.0  # how much of it is added


class LoadingOptions(BaseModel):
    """Where a diffusion model runs and how it fits; the same for every kind of editor that runs one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loras: tuple[Lora, ...] = ()
    device: str = "auto"  # "cuda", "mps", "cpu"; auto takes the first that is there
    dtype: DTypeName = "auto"  # auto: half precision on CUDA, float32 elsewhere
    offload: bool = False  # keep only the part at work on the device: slower, and fits larger models
    attention: Literal["sdpa", "xformers"] = "sdpa"  # PyTorch's own fused attention, or xFormers' (CUDA only)
    vae_tiling: bool = False  # encode and decode large pictures tile by tile: less memory, faint seams
    vae_slicing: bool = False  # encode and decode one picture of a batch at a time: less memory

    @model_validator(mode="after")
    def _goes_together(self) -> LoadingOptions:
        if self.attention == "xformers" and self.device not in ("auto", "cuda") and "cuda" not in self.device:
            raise ValueError(f"attention: xformers needs a CUDA device and device is {self.device!r}; use sdpa")
        return self

    def check(self) -> None:
        """Raise EditorError where a package that an option needs is not installed; nothing is loaded."""
        if self.loras:
            require("peft", "loras", "lora")
        if self.offload:
            require("accelerate", "offload", "offload")
        if self.attention == "xformers":
            require("xformers", "attention: xformers", None)

    def lora_files(self) -> list[tuple[Path, float]]:
        """Each LoRA's file and scale; hub models are downloaded once.

        Raises:
            EditorError: one is missing.
        """
        return [(checkpoints.locate_lora(each.checkpoint, each.file, each.revision), each.scale) for each in self.loras]

    def pixels(self) -> dict[str, Any]:
        """What of these options changes pixels, for a fingerprint: nothing where none is set.

        Raises:
            EditorError: a LoRA, or a package that an option needs, is missing.
        """
        self.check()
        parts: dict[str, Any] = {}
        if self.loras:
            parts["loras"] = [[file_fingerprint(file), scale] for file, scale in self.lora_files()]
        if self.vae_tiling:
            parts["vae_tiling"] = True
        return parts


LOADING = set(LoadingOptions.model_fields)  # none is part of a fingerprint as it stands: see `pixels`


def merge_loras(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> None:
    """Add LoRA to the weights of a pipeline's models, for good: editing costs no more with it than without.

    Args:
        pipeline: of diffusers, of a kind that takes LoRA.
        loras: files and scales.

    Raises:
        EditorError: a file does not fit the models.
    """
    names = [f"lora_{i}" for i in range(len(loras))]
    for name, (file, _) in zip(names, loras, strict=True):
        with _merging(f"the LoRA {file}"):
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
            if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
                raise ValueError("none of its tensors is named after a part of this model")
            _fits_whole(pipeline, file, name)
    with _merging(f"the LoRA {' and '.join(str(file) for file, _ in loras)}"):
        pipeline.set_adapters(names, [scale for _, scale in loras])
        pipeline.fuse_lora(adapter_names=names)
        pipeline.unload_lora_weights()


@contextmanager
def _merging(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # diffusers and peft raise whatever a tensor that does not fit leads to
        unnamed = isinstance(error, IndexError | KeyError)  # of a list of the layers that its names fit
        said = "its tensors are named after layers that this model does not have" if unnamed else first_line(error)
        raise EditorError(
            f"{what} cannot be merged ({said}): give one that was trained on this checkpoint's architecture"
        ) from error


_PAIR = re.compile(r"[._](lora_A|lora_down|lora\.down|down)(\.[\w-]+)?\.weight$|\.(hada_w1_a|lokr_w1(_a)?)$")


def _fits_whole(pipeline: Any, file: Path, name: str) -> None:
    """Raise ValueError where layers of a LoRA have no place in the models: diffusers leaves them out and goes on.

    Args:
        file: with a pair of low-rank tensors a layer, under whatever names.
        name: of the adapter that it was loaded as.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        layers = sorted({_PAIR.sub("", key) for key in tensors.keys() if _PAIR.search(key)})  # noqa: SIM118 (no dict)
    taken = [
        layer
        for model in pipeline.components.values()
        if hasattr(model, "named_modules")
        for layer, module in model.named_modules()
        if name in getattr(module, "lora_A", ()) or name in getattr(module, "lora_embedding_A", ())
    ]
    if len(taken) >= len(layers):  # a layer of the file may belong to several of the model: q, k and v in one
        return
    known = tuple({_letters(layer) for layer in taken})
    lost = [each for each in layers if not _letters(each).endswith(known)]
    named = f": {', '.join(lost[:3])}{', …' if len(lost) > 3 else ''}" if len(lost) == len(layers) - len(taken) else ""
    raise ValueError(
        f"{len(layers) - len(taken)} of its {len(layers)} layers have no place in this model{named}; the others alone "
        "are not what it was trained to be"
    )


def _letters(layer: str) -> str:
    """The name of a layer, whether its parts are joined by dots or underscores."""
    return re.sub(r"[^a-z0-9]", "", layer.lower())


def place(models: Sequence[Any], options: LoadingOptions, device: torch.device) -> None:
    """Put models on their device or, with `offload`, let each come when it is called and the others leave.

    Args:
        models: of one checkpoint; one that has `enable_tiling` is an autoencoder.
    """
    for model in models:
        model.eval().requires_grad_(False)
        if hasattr(model, "enable_tiling"):
            fit_vae(model, options)
        if not options.offload:
            model.to(device)
    if options.offload:
        _come_when_called(models, device)


def _come_when_called(models: Sequence[Any], device: torch.device) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module
    from accelerate.utils import send_to_device

    class OneAtATime(ModelHook):  # accelerate's own CpuOffload sends one other model away, and here any may be there
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            for other in models:
                if other is not module:
                    other.to("cpu")
            module.to(device)
            return send_to_device(args, device), send_to_device(kwargs, device)

    for model in models:
        add_hook_to_module(model, OneAtATime())


def fit_vae(vae: Any, options: LoadingOptions) -> None:
    """Set an autoencoder of diffusers to the options' tiling and slicing."""
    if options.vae_tiling:
        vae.enable_tiling()
    if options.vae_slicing:
        vae.enable_slicing()


def attention_processor(options: LoadingOptions, device: torch.device) -> Any:
    """A diffusers attention processor of the kind that the options ask for.

    Raises:
        EditorError: xFormers is asked for and the device is no CUDA device.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0, XFormersAttnProcessor

    if options.attention == "sdpa":
        return AttnProcessor2_0()
    if device.type != "cuda":
        raise EditorError(f"attention: xformers needs a CUDA device and the editor runs on {device.type}: use sdpa")
    return XFormersAttnProcessor()


def require(package: str, option: str, extra: str | None) -> None:
    """Raise EditorError where a package that an option needs is not installed."""
    if importlib.util.find_spec(package) is None:
        install = f"diffex-dagster[{extra}]" if extra else package
        raise EditorError(f"{option} needs {package}, which is not installed: pip install '{install}'")


def placement(options: LoadingOptions, half: str = "float16") -> tuple[str, str]:
    """Device and dtype by name, with "auto" resolved; `half` is the dtype on CUDA."""
    device, dtype = pick_device(options.device), options.dtype
    if dtype == "auto":
        dtype = half if device.startswith("cuda") else "float32"  # type: ignore[assignment]
    return device, dtype
