"""Prints the largest difference between the timm adapter and timm's own model; test_adapters runs it."""

import importlib.abc
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision where it is missing: timm names its classes on import, and the model below uses none of them."""

    def find_spec(self, name, path=None, target=None):
        is_ours = name.partition(".")[0] == "torchvision"
        return importlib.util.spec_from_loader(name, self, is_package=True) if is_ours else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = self.attribute
        return module

    @staticmethod
    def attribute(name):
        if name.startswith("__"):
            raise AttributeError(name)
        modes = {each: each.lower() for each in ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")}
        return type(name, (torch.nn.Module,), modes)

    def exec_module(self, module):
        pass


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(StandIn())

import timm
from safetensors.torch import save_file

from diffex_dagster.classifying.timm_adapter import TimmClassifier

folder = Path(sys.argv[1])
torch.manual_seed(0)
model = timm.create_model("resnet10t", num_classes=3).eval()
save_file(model.state_dict(), folder / "weights.safetensors")
rng = np.random.default_rng(0)
pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]
adapter = TimmClassifier("resnet10t", ("a", "b", "c"), weights=folder / "weights.safetensors", batch_size=2)
side = model.pretrained_cfg["input_size"][-1]
crop = round(side / model.pretrained_cfg["crop_pct"] - 0.5)
cut = (crop - side) // 2
resized = [each.resize((crop, crop), Image.Resampling.BICUBIC) for each in pictures]
pixels = np.stack([np.asarray(each.crop((cut, cut, cut + side, cut + side))) for each in resized]) / 255
mean, std = (np.array(model.pretrained_cfg[key]) for key in ("mean", "std"))
with torch.inference_mode():
    expected = model(torch.from_numpy(((pixels - mean) / std).transpose(0, 3, 1, 2)).float()).double().numpy()
assert np.ptp(expected) > 1e-3
print(np.abs(adapter(pictures) - expected).max())
