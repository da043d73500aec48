"""The wheel works in an environment of its own, outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.toys import picture

ROOT = Path(__file__).parent.parent
MINE = '''
"""A classifier and an editor of somebody's own."""
from types import SimpleNamespace

import numpy as np
from PIL import Image

labels = ("dark", "bright")


def brightness(pictures):
    light = np.array([np.asarray(each).mean() / 255 for each in pictures])
    return np.stack([np.zeros(len(light)), 8 * light - 4], axis=1)


def lighter(folder, options):
    def edit(images, requests):
        for request in requests:
            step = 40 * sum(c.prompt == "a beard" for c in request.concepts)
            yield [(request, Image.fromarray(np.minimum(np.asarray(images[request.image]).astype(int) + step, 255)
                                             .astype(np.uint8)))]

    return SimpleNamespace(fingerprint="lighter-1", edit=edit)
'''


DECLARED = "import importlib.metadata as m; print(*m.requires('diffex-dagster'), sep='\\n')"


@pytest.mark.slow
def test_init_and_run_from_the_installed_wheel(tmp_path: Path) -> None:
    def run(*command: object) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        return done.stdout

    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DIFFEX_ROOT", "DAGSTER_HOME")}
    source = tmp_path / "source"
    shutil.copytree(ROOT / "diffex_dagster", source / "diffex_dagster", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", source
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    packed = zipfile.ZipFile(wheel).infolist()
    assert max(each.file_size for each in packed) < 100_000  # code and texts: no model, no picture
    shutil.rmtree(source)
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin_folder = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(bin_folder / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    # The dependencies are those of this environment: only the package itself is installed anew.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    declared = [Requirement(each) for each in run(bin_folder / "python", "-c", DECLARED).splitlines()]
    base = {each.name: each.specifier for each in declared if each.marker is None}
    assert all(version(name) in specifier for name, specifier in base.items())
    assert "torch" in base and not base.keys() & {
        "torchvision",
        "timm",
        "onnxruntime",
        "dagster-webserver",
        "peft",
        "pytest",
    }
    where = run(bin_folder / "python", "-c", "import diffex_dagster; print(diffex_dagster.__file__)")
    assert str(site) in where

    (tmp_path / "photos").mkdir()
    for i in range(6):
        picture(80 + 10 * i).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "mine.py").write_text(MINE)
    out = run(
        bin_folder / "diffex", "init", "faces", "--images", "photos", "--classifier", "python:mine:brightness",
        "--labels", "dark,bright", "--label", "bright", "--editor", "python:mine:lighter", "--size", 16,
    )  # fmt: skip
    assert "6 images" in out
    study = tmp_path / "studies" / "faces"
    text = (study / "study.yaml").read_text()
    (study / "study.yaml").write_text(text.replace('corpus: {"starter": "face"}', "corpus: {}"))
    (study / "corpus.yaml").write_text("tree: [{name: Beard, prompt: a beard}, {name: Hat, prompt: a hat}]\n")
    out = run(bin_folder / "diffex", "run", "faces")
    assert "Beard" in out and (study / "results" / "reports" / "v1" / "index.html").exists()
