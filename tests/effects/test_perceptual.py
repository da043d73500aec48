"""LPIPS through its package, with a backbone of random weights: those it was trained with come from a hub."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffex_dagster.effects.perceptual import Lpips
from diffex_dagster.errors import DiffExError

ROOT = Path(__file__).parent.parent.parent
GREY = Image.new("RGB", (64, 64), (90, 90, 90))


def test_distances_are_those_of_the_package() -> None:
    if importlib.util.find_spec("lpips") is None:
        pytest.fail("lpips is not installed (`pip install --no-deps lpips`): the base install does not have it")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "lpips_parity.py")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    same, some, other = said["ours"]
    assert same == 0.0 and 0.0 < some < other
    assert said["ours"] == pytest.approx(said["theirs"], rel=1e-4)
    assert said["tiny"][0] == 0.0 < said["tiny"][1]  # smaller than the backbone can take: enlarged
    assert said["many"] == pytest.approx(said["ours"] * 20, rel=1e-4) and said["none"] == []


def test_a_batch_that_does_not_fit_is_halved_and_the_distances_stay() -> None:
    sizes = []

    def model(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        sizes.append(len(first))
        if len(first) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (first - second).abs().mean(dim=(1, 2, 3))

    asked = Lpips("alex", device="cpu")
    asked._model = model
    pairs = [(GREY, Image.new("RGB", (64, 64), (90 + i, 90, 90))) for i in range(5)]
    distances = asked(pairs)
    assert sizes == [5, 2, 2, 1] and distances == sorted(distances) and distances[0] == 0 < distances[1]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(
        DiffExError, match=r"report\.lpips needs the package lpips .* `pip install diffex-dagster\[lpips"
    ):
        Lpips("alex", device="cpu")([(GREY, GREY)])


def test_weights_that_cannot_be_had_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        @staticmethod
        def LPIPS(**options: object) -> None:
            raise OSError("<urlopen error no route>")

    monkeypatch.setitem(sys.modules, "lpips", Offline)
    with pytest.raises(DiffExError, match=r"backbone 'vgg' cannot be loaded \(.*no route.*\).*TORCH_HOME"):
        Lpips("vgg", device="cpu")([(GREY, GREY)])
