"""Grad-CAM against maps that can be worked out by hand, and on the kinds of networks that users bring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diffex_dagster.classifying.gradcam import Differentiable, GradCam, map_side, on_picture
from diffex_dagster.classifying.parts import Preprocessing, Target
from diffex_dagster.classifying.python_adapter import CallableClassifier
from diffex_dagster.errors import ClassifierError
from tests.support.networks import RedNet

COLD_WARM = ("cold", "warm")
WARM = Target(label="warm")


class Flat(nn.Module):
    """Keeps no map of the picture."""

    labels = COLD_WARM

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 16 * 16, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(pixels.flatten(1))


def cam(module: nn.Module, target: Target = WARM) -> GradCam:
    model = CallableClassifier(module, takes="tensor", device="cpu").differentiable()
    assert model is not None
    return GradCam(model, COLD_WARM, target)


def red_corner() -> Image.Image:
    picture = Image.new("RGB", (16, 16))
    picture.paste((255, 0, 0), (0, 0, 8, 4))  # the first two blocks of the first row
    picture.paste((0, 0, 255), (12, 12, 16, 16))  # the last block
    return picture


def test_the_map_is_the_one_of_the_paper() -> None:
    # Equations 1 and 2: a channel's weight is its mean gradient (2/16 and −1/16), the map max(0, Σ weight·channel).
    (heat,) = cam(RedNet())([red_corner()])
    expected = np.zeros((4, 4))
    expected[0, :2] = 2 / 16
    np.testing.assert_allclose(heat, expected, atol=1e-7)


def test_the_other_class_of_one_output_and_a_margin_turn_the_map_round() -> None:
    expected = np.zeros((4, 4))
    expected[3, 3] = 1 / 16
    np.testing.assert_allclose(cam(RedNet(), Target(label="cold"))([red_corner()])[0], expected, atol=1e-7)

    class Two(RedNet):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros(len(pixels), 1), super().forward(pixels)], dim=1)

    margin = Target(label="cold", measure="margin", against="warm")
    np.testing.assert_allclose(cam(Two(), margin)([red_corner()])[0], expected, atol=1e-7)


def test_a_batch_that_does_not_fit_is_halved_and_the_maps_stay() -> None:
    class Small(RedNet):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(pixels))
            if len(pixels) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(pixels)

    module, pictures = Small(), [red_corner(), Image.new("RGB", (16, 16), (255, 0, 0))] * 2
    maps = cam(module)(pictures)
    np.testing.assert_allclose(maps, cam(RedNet())(pictures))
    assert module.sizes[:2] == [1, 4] and max(module.sizes[2:]) == 2  # the layer is looked for with one picture


def test_many_pictures_come_back_in_order() -> None:
    plain = Image.new("RGB", (16, 16), (255, 0, 0))
    maps = cam(RedNet())([red_corner(), plain] * 10)
    assert maps.shape == (20, 4, 4)
    assert (maps[1::2] == maps[1]).all() and (maps[1] == 2 / 16).all() and (maps[::2] == maps[0]).all()


@pytest.mark.parametrize("extra", ["class token", "mean of the tokens"])
def test_a_transformer_is_looked_into_at_its_patches(extra: str) -> None:
    from transformers import BeitConfig, BeitForImageClassification, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    shared = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
              "image_size": 16, "patch_size": 4, "num_labels": 2}  # fmt: skip
    if extra == "class token":
        model: nn.Module = ViTForImageClassification(ViTConfig(**shared))
    else:
        model = BeitForImageClassification(BeitConfig(**shared, use_mean_pooling=True))
    wrapped = CallableClassifier(model.eval(), labels=COLD_WARM, takes="tensor", device="cpu")
    differentiable = wrapped.differentiable()
    assert differentiable is not None
    maps = GradCam(differentiable, COLD_WARM, WARM)([red_corner(), Image.new("RGB", (16, 16))])
    assert maps.shape == (2, 4, 4) and maps.min() >= 0 and maps.max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_it_cannot_look_into_is_one_sentence() -> None:
    with pytest.raises(ClassifierError, match="no layer of this classifier that keeps a map"):
        cam(Flat())([red_corner()])
    with pytest.raises(ClassifierError, match="a function of your own has no gradient"):
        GradCam(Differentiable(None, None, None), COLD_WARM, Target(measure="function", function="a:b"))  # type: ignore[arg-type]
    assert CallableClassifier(lambda pictures: np.zeros((1, 2)), labels=COLD_WARM).differentiable() is None
    with pytest.raises(ClassifierError, match="it is a class"):
        CallableClassifier(Flat, takes="tensor")
    scripted = torch.jit.script(Flat())
    assert CallableClassifier(scripted, labels=COLD_WARM, takes="tensor", name="flat").differentiable() is None


def test_a_square_of_tokens_with_a_few_before_it() -> None:
    norm = nn.LayerNorm(4)
    assert [map_side(torch.zeros(1, count, 4), norm) for count in (197, 196, 201, 235, 3)] == [14, 14, 14, None, None]
    assert map_side(torch.zeros(1, 197, 4), nn.Linear(4, 4)) is None
    assert map_side(torch.zeros(1, 8, 7, 7), nn.ReLU()) == 0 and map_side(torch.zeros(1, 8, 1, 1), nn.ReLU()) is None


def test_a_map_covers_what_the_model_was_given() -> None:
    maps = np.ones((1, 2, 2))
    assert on_picture(maps, (8, 8)).shape == (1, 8, 8) and on_picture(maps, (8, 8)).min() == 1.0
    cropped = on_picture(maps, (8, 8), crop=0.5)[0]
    assert cropped[2:6, 2:6].min() == 1.0 and cropped.sum() == 16.0
    options = Preprocessing(size=16, resize="crop", crop_pct=0.875)
    model = CallableClassifier(RedNet(), takes="tensor", preprocessing=options).differentiable()
    assert model is not None and model.crop == 0.875
