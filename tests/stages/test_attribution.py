"""Attribution maps: the share of Grad-CAM on what an edit changed, on a network that sees red only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.classifying.gradcam import GradCam
from diffex_dagster.results import Report
from diffex_dagster.stages.attribution import changed_region
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.study import Study, load_study
from tests.support.toys import prepared, write_study

NET = {"kind": "python", "callable": "tests.support.networks:red_net", "takes": "tensor", "device": "cpu"}


def explained(study: Study) -> Report:
    net = prepared(study).subject("net")
    run_search(net)
    return classifier_report(net, "diffex run toy")[0]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path, classifiers={"net": NET}, report={"gradcam": 9}))


def test_an_edit_towards_red_draws_the_look_to_itself(study: Study) -> None:
    found = {each.feature: each for each in explained(study).attributions}
    # The patch is the left half. Before, all of the grey picture counts alike; the map is bilinear at its border.
    red = found["red"]
    assert red.changed == 0.5 and red.before == pytest.approx(0.5) and red.after > 0.7 and red.images == 8
    assert red.example is not None and red.example.edit_map.shape == (16, 16)
    assert red.example.edit_map[:, :4].min() > red.example.edit_map[:, 12:].max()


def test_maps_are_kept(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    before = explained(study).attributions
    monkeypatch.setattr(GradCam, "__call__", lambda self, pictures: pytest.fail("looked again"))
    after = explained(study).attributions
    assert [(x.feature, x.before, x.after) for x in after] == [(x.feature, x.before, x.after) for x in before]


def test_a_report_without_it_says_why(tmp_path: Path) -> None:
    warm = {"kind": "python", "factory": "tests.support.toys:WarmClassifier"}
    explanation = explained(load_study(write_study(tmp_path / "a", classifiers={"net": warm})))
    assert not explanation.attributions and "for torch modules" in dict(explanation.settings)["Grad-CAM"]
    off = explained(load_study(write_study(tmp_path / "b", classifiers={"net": NET}, report={"gradcam": 0})))
    assert not off.attributions and "Grad-CAM" not in dict(off.settings)


def test_what_an_edit_changed() -> None:
    before, after = Image.new("RGB", (4, 2)), Image.new("RGB", (4, 2), (9, 9, 9))
    after.putpixel((3, 0), (0, 12, 0))
    assert changed_region(before, after).tolist() == [[False, False, False, True], [False] * 4]
    assert not np.any(changed_region(before, before))
