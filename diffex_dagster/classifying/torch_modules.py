"""Torch modules: how a batch goes through one, and what gradients are taken of."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffex_dagster.classifying.gradcam import Differentiable
from diffex_dagster.classifying.outputs import SMALLEST, Outputs
from diffex_dagster.classifying.parts import Preprocessing
from diffex_dagster.classifying.preprocessing import as_array


def run_torch(module: Any, array: np.ndarray, device: str) -> Any:
    """An array through a torch callable, in the number type of its parameters where those are of half precision."""
    import torch

    inputs = torch.from_numpy(array).to(device)
    if inputs.is_floating_point():
        own = {each.dtype for each in getattr(module, "parameters", tuple)() if each.is_floating_point()}
        if len(own) == 1 and inputs.dtype == torch.float32:
            inputs = inputs.to(own.pop())
    with torch.inference_mode():
        return module(inputs)


def module_for_gradients(
    module: Any, options: Preprocessing, device: str, outputs: Outputs, classes: int
) -> Differentiable | None:
    """A torch module that takes prepared pictures, for gradients; None for a callable of another kind."""
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return None

    def logits(pixels: Any) -> Any:
        found = _tensor(module(pixels), len(pixels), classes)
        if outputs == "sigmoid":
            return found.clamp(SMALLEST, 1 - SMALLEST).logit()
        return found.clamp(min=SMALLEST).log() if outputs == "probabilities" else found

    return Differentiable(
        module,
        lambda pictures: torch.from_numpy(as_array(pictures, options)).to(device),
        logits,
        options.crop_pct if options.resize == "crop" and options.size is not None else 1.0,
    )


def _tensor(returned: Any, count: int, classes: int) -> Any:
    """The scores (N, C) in what a module returned, with their gradients."""
    from diffex_dagster.classifying.outputs import entry

    found = entry(returned, count, classes, "Grad-CAM")
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    return found
