"""What edits changed, on the toy domain: measured once, with the mask where the editor yields one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffex_dagster.editing.protocol import MASK, EditRequest
from diffex_dagster.effects import edit_metrics as measured
from diffex_dagster.effects.edit_metrics import EditMetrics
from diffex_dagster.errors import DiffExError
from diffex_dagster.results import RankedFeature, Report
from diffex_dagster.stages import edit_metrics as stage
from diffex_dagster.stages import pictures as picturing
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.edit_metrics import edit_metrics_of, mean_metrics
from diffex_dagster.stages.report import classifier_report
from diffex_dagster.stages.search import run_search
from diffex_dagster.store import Store, StoredPicture
from diffex_dagster.study import Study, load_study
from tests.support.toys import PaintEditor, picture, prepared, write_study


class MaskedEditor(PaintEditor):
    """Says that it paints in the left half alone, which is so for red and not for blue."""

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        for batch in super().edit(images, requests):
            for request, made in batch:
                if request.concepts:
                    made.info[MASK] = Image.new("L", (2, 1), 0)
                    made.info[MASK].putpixel((0, 0), 255)
            yield batch


def explained(folder: Path, **changes: Any) -> tuple[Report, Study, Store]:
    study = load_study(write_study(folder, **changes))
    store = prepared(study).store
    return report(study, store), study, store


def report(study: Study, store: Store) -> Report:
    v1 = at_work(study, store=store).subject("v1")
    run_search(v1)
    return classifier_report(v1, "diffex run toy")[0]


def by_id(explanation: Report) -> dict[str, RankedFeature]:
    return {feature.feature: feature for feature in explanation.features}


def test_the_share_inside_the_mask_is_of_each_edit(tmp_path: Path) -> None:
    masked = {"masked": {"kind": "python", "factory": "tests.stages.test_changes:MaskedEditor"}}
    explanation, _, store = explained(tmp_path, editors=masked)
    rows = by_id(explanation)
    assert (rows["red"].inside_mask, rows["red"].mask_area) == (1.0, 0.5)
    assert (rows["blue/plain-blue"].inside_mask, rows["blue/plain-blue"].mask_area) == (0.0, 0.5)
    assert rows["light"].inside_mask == 0.5  # it changes both halves alike
    assert rows["red"].lpips is None and 0.0 < (rows["red"].ssim or 0.0) < 1.0
    kept = store.query(
        "SELECT inside, area, lpips_net FROM changes JOIN edits USING (edit) WHERE concepts LIKE '%red%'"
    )
    assert len(kept) == 16 and set(kept["inside"]) == {1.0} and kept["lpips_net"].isna().all()


def test_without_masks_the_share_is_unknown_and_nothing_is_measured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, study, store = explained(tmp_path)
    assert {feature.inside_mask for feature in first.features} == {None}
    asked: list[object] = []
    monkeypatch.setattr(stage, "measure_edit", lambda *pair: asked.append(pair))
    assert [vars(f) for f in report(study, store).features] == [vars(f) for f in first.features]
    assert not asked


class Fake:
    """In place of the model: half of the strength; counts the pairs."""

    def __init__(self, backbone: str, fails: bool = False) -> None:
        self.backbone, self.fails, self.pairs = backbone, fails, 0

    def __call__(self, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[float]:
        if self.fails:
            raise DiffExError("no weights")
        self.pairs += len(pairs)
        return [measured.strength(measured.pixel_change(*pair)) / 2 for pair in pairs]


def test_lpips_is_measured_where_it_is_asked_for_and_a_report_goes_without(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    grey, red = (store.pictures.put(p) for p in (picture(100), Image.new("RGB", (16, 16), (151, 100, 100))))
    edits = {"x": (StoredPicture(store.pictures, red), StoredPicture(store.pictures, grey))}
    plain, note = edit_metrics_of(store, edits)
    assert plain["x"].lpips is None and plain["x"].strength == pytest.approx(51 / 255 / 3) and note == ""
    model = Fake("alex")
    for _ in range(2):
        found, note = edit_metrics_of(store, edits, model)  # type: ignore[arg-type]
        assert found["x"].lpips == pytest.approx(plain["x"].strength / 2) and note == ""
    assert model.pairs == 1
    found, note = edit_metrics_of(store, edits, Fake("vgg", fails=True))  # type: ignore[arg-type]
    assert found == plain and note == "no weights"


def test_a_report_says_why_lpips_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturing, "Lpips", lambda backbone: Fake(backbone, fails=True))
    explanation, *_ = explained(tmp_path, report={"lpips": "alex"})
    assert ("LPIPS", "not measured: no weights") in explanation.settings


def test_means_leave_out_what_is_not_known() -> None:
    mean = mean_metrics([EditMetrics(0.1, 0.8, 0.5, 0.2), EditMetrics(0.3, 0.6, None, 0.4), EditMetrics(0.2, 1.0)])
    assert (mean.strength, mean.ssim) == (pytest.approx(0.2), pytest.approx(0.8))
    assert (mean.inside, mean.area, mean.lpips) == (0.5, pytest.approx(0.3), None)
