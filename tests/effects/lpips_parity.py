"""Prints what `Lpips` says of pictures; test_perceptual runs it, since a stand-in has to be there before lpips."""

import importlib.machinery
import importlib.util
import json
import sys
import types

import numpy as np
import torch
from PIL import Image


def alexnet(pretrained: bool = False) -> types.SimpleNamespace:
    """The convolutions of AlexNet (one tower, as torchvision has it) with random weights."""
    assert not pretrained, "no weights can be fetched here"
    nn = torch.nn
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
              nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1),
              nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]  # fmt: skip
    return types.SimpleNamespace(features=nn.Sequential(*layers))


if importlib.util.find_spec("torchvision") is None:
    for name in ("torchvision", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]
    sys.modules["torchvision.models"].alexnet = alexnet

from diffex_dagster.effects.perceptual import Lpips

torch.manual_seed(0)
model = Lpips("alex", device="cpu", pnet_rand=True)
rng = np.random.default_rng(0)
null = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
some, all_of_it = null.copy(), Image.new("RGB", (64, 64), (255, 0, 0))
some.paste((0, 0, 0), (0, 0, 24, 24))
pairs = [(null, null), (some, null), (all_of_it, null)]
tensors = [[torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] / 255 for p in pair] for pair in pairs]
ours = model(pairs)
with torch.inference_mode():
    theirs = [model._model(*pair, normalize=True).item() for pair in tensors]
tiny = [(a.resize((16, 16)), b.resize((16, 16))) for a, b in pairs]
print(json.dumps({"ours": ours, "theirs": theirs, "tiny": model(tiny), "many": model(pairs * 20), "none": model([])}))
