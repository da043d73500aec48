"""Attribution maps of a torch classifier: Grad-CAM (Selvaraju et al., ICCV 2017) through Captum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.classifying.parts import Target
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.devices import made_in_batches

BATCH = 16  # pictures at a time: gradients need more memory than scores
MOST_OTHER_TOKENS = 8  # class, distillation and register tokens that stand before the patches of a transformer


@dataclass(frozen=True)
class Differentiable:
    """A classifier that gradients can be taken of.

    Attributes:
        module: whose layers may be looked at.
        inputs: RGB pictures -> float tensor (N, C, H, W) on the module's device.
        logits: that tensor -> logits (N, classes), with gradients.
        crop: the share of a picture's side, around its centre, that the model is given.
    """

    module: Any
    inputs: Callable[[Sequence[Image.Image]], Any]
    logits: Callable[[Any], Any]
    crop: float = 1.0


class GradCam:
    """Attribution maps: where the evidence for a target lies in a picture.

    At the last layer that keeps a map of the picture and that the score depends on. Convolutional networks get Grad-CAM
    (equations 1 and 2). A transformer's tokens get gradient times activation, summed over channels (HiResCAM, Draelos &
    Carin 2020, equation 3): Grad-CAM's average over positions has no meaning where a class token gathers from each.

    Args:
        classifier: what is looked into.
        labels: its class names, in the order of the logits.
        target: probability, sigmoid and logit look at the logit of the class, as Grad-CAM does (of several classes, at
            the logarithm of their summed exponentials); a margin at the difference of two logits; a value at the
            output; an expected value at itself.

    Raises:
        ClassifierError: Captum is not installed, the target is a function of the user's own, or no layer keeps a map.
    """

    def __init__(self, classifier: Differentiable, labels: Sequence[str], target: Target) -> None:
        if not target.kind.has_gradient():
            raise ClassifierError("Grad-CAM needs a target with a class; a function of your own has no gradient")
        try:
            import captum.attr  # noqa: F401 (said here, before any work)
        except ImportError as error:
            raise ClassifierError("Grad-CAM needs Captum: run `pip install diffex-dagster[gradcam]`") from error
        self.classifier, self.target, self.labels = classifier, target, list(labels)
        self._layer: tuple[Any, int] | None = None
        self._at_once = BATCH  # halved where memory does not suffice

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures -> maps of shape (len(pictures), h, w), float64, >= 0, in the layer's own resolution."""
        import torch

        def asked(batch: Sequence[Image.Image]) -> np.ndarray:
            with torch.enable_grad():
                inputs = self.classifier.inputs(batch)
                if self._layer is None:
                    self._layer = self._last_layer(inputs[:1])
                return self._maps(inputs, *self._layer)

        too_large = "Grad-CAM of one picture alone does not fit into the device's memory: choose another device"
        made = made_in_batches(pictures, self._at_once, asked, "auto", too_large, ClassifierError)
        found = []
        for _, maps, at_once in made:
            self._at_once = at_once
            found.append(maps)
        return np.concatenate(found) if found else np.empty((0, 1, 1))

    def _score(self, inputs: Any) -> Any:
        logits = self.classifier.logits(inputs)
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape[1] == 1 and len(self.labels) == 2:  # one output: the log-odds of the second class
            return logits[:, 0] * (1 if self.target.label == self.labels[1] else -1)
        return self.target.kind.score(logits, self.labels, self.target)

    def _maps(self, inputs: Any, layer: Any, side: int) -> np.ndarray:
        from captum.attr import LayerGradCam, LayerGradientXActivation

        if not side:
            maps = LayerGradCam(self._score, layer).attribute(inputs, relu_attributions=True)[:, 0]
        else:
            tokens = LayerGradientXActivation(self._score, layer).attribute(inputs).sum(dim=2)
            maps = tokens[:, -side * side :].reshape(-1, side, side).clamp(min=0)
        return np.asarray(maps.detach().double().cpu().numpy())

    def _last_layer(self, one: Any) -> tuple[Any, int]:
        """The layer to look at, and the side of its square of tokens (0 for a convolutional map)."""
        outputs: list[tuple[Any, int, Any]] = []

        def note(module: Any, _: Any, output: Any) -> None:
            side = map_side(output, module)
            if side is not None and output.requires_grad:
                output.retain_grad()
                outputs.append((module, side, output))

        hooks = [module.register_forward_hook(note) for module in self.classifier.module.modules()]
        try:
            self._score(one).sum().backward()
        finally:
            for hook in hooks:
                hook.remove()
            self.classifier.module.zero_grad(set_to_none=True)
        for module, side, output in reversed(outputs):
            grad = output.grad
            if grad is not None and bool((grad[:, -side * side :] if side else grad).abs().sum() > 0):
                return module, side
        raise ClassifierError("Grad-CAM found no layer of this classifier that keeps a map of the picture")


def map_side(output: Any, module: Any) -> int | None:
    """0 for a convolutional map (1, C, h, w), the side of a square of normalised tokens (1, T, C), None for others."""
    import torch

    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4 and min(output.shape[2:]) > 1:
        return 0
    if output.ndim == 3 and "norm" in type(module).__name__.lower():
        side = math.isqrt(output.shape[1])
        return side if side > 1 and output.shape[1] - side * side <= MOST_OTHER_TOKENS else None
    return None


def on_picture(maps: np.ndarray, size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
    """Maps (N, h, w) in the resolution of pictures of `size` (width, height): (N, height, width), bilinear, >= 0.

    Zero outside the centre that a model with a centre crop is given.
    """
    width, height = size
    inside = (max(1, round(width * crop)), max(1, round(height * crop)))
    left, top = (width - inside[0]) // 2, (height - inside[1]) // 2
    placed = np.zeros((len(maps), height, width))
    for canvas, each in zip(placed, maps, strict=True):
        resized = Image.fromarray(each.astype(np.float32)).resize(inside, Image.Resampling.BILINEAR)
        canvas[top : top + inside[1], left : left + inside[0]] = np.asarray(resized)
    return placed.clip(min=0.0)
