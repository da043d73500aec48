"""Every image by every top feature: its data, its orders, and how large it is."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from diffex_dagster.report import gallery as module
from diffex_dagster.report.gallery import ALREADY, FAILED, FLIP, TOP, gallery
from diffex_dagster.report.notebook import as_html
from diffex_dagster.report.page import render_report
from diffex_dagster.results import Picture, Report, opened
from tests.support import material


@pytest.fixture(scope="module")
def wide() -> Report:
    return material.wide(12, 6)


def test_a_cell_is_the_effect_on_one_image_with_what_is_wrong_about_it(wide: Report) -> None:
    found = gallery(wide, 2)
    assert found is not None and (found.images, found.features) == (12, 6)
    assert wide.gallery is not None
    by = {(row.feature, row.image): row for row in wide.per_image}
    for i, image in enumerate(wide.gallery.images):
        for j, feature in enumerate(wide.features):
            row = by[feature.feature, image]
            assert found.data["effects"][i][j] == pytest.approx(row.effect, abs=1e-5)
            flags = FLIP * row.flipped + ALREADY * (not row.counted) + FAILED * (row.succeeded is False)
            assert found.data["flags"][i][j] == flags
    assert [f["n"] for f in found.data["features"]] == [f.name for f in wide.features]


def test_images_and_features_that_are_alike_stand_together(wide: Report) -> None:
    found = gallery(wide, 2)
    assert found is not None
    rows, columns = found.data["alike"]
    assert sorted(rows) == list(range(12)) and sorted(columns) == list(range(6))
    for order in (rows, columns):  # two kinds, which alternate as they are given
        kinds = [i % 2 for i in order]
        assert kinds in (sorted(kinds), sorted(kinds, reverse=True))


def test_images_are_divided_by_what_divides_them(wide: Report) -> None:
    assert wide.gallery is not None
    columns = {"one": ("x",) * 12, "site": tuple("north" if i % 2 else None for i in range(12)),
               "two": tuple("ab"[i // 6] for i in range(12))}  # fmt: skip
    found = gallery(replace(wide, gallery=replace(wide.gallery, columns=columns)), 2)
    assert found is not None and found.columns == (("two", ("a", "b")),)
    assert [image["c"] for image in found.data["images"]] == [[i // 6] for i in range(12)]


def test_a_strip_has_the_image_its_null_edit_and_every_edit(wide: Report) -> None:
    found = gallery(wide, 2)
    assert found is not None and found.data["tiles"] == 8 and len(found.data["sprites"]) == 12
    side = found.data["side"]
    strip = Image.open(io.BytesIO(base64.b64decode(found.data["sprites"][3])))
    assert strip.size == (8 * side, side)
    assert found.size == sum(map(len, found.data["sprites"])) + len(found.data["thumbs"])


def test_pictures_get_smaller_then_fewer_and_the_heat_map_stays() -> None:
    report, budgets = material.wide(6, 24), (3_000_000, 120_000, 60_000, 100)
    found = [g for budget in budgets if (g := gallery(report, 2, budget)) is not None]
    assert [(g.data["side"], g.data["tiles"]) for g in found] == [(64, 26), (24, 26), (32, 2), (0, 0)]
    assert all(g.size <= module.SHARE * budget for g, budget in zip(found, budgets, strict=True))
    assert all(len(g.data["effects"]) == 6 for g in found)


@pytest.mark.parametrize("budget", [3_000_000, 60_000, 100])
def test_a_picture_is_read_once_however_small_it_has_to_become(wide: Report, budget: int) -> None:
    shots, read = wide.gallery, Counter[tuple[str, int]]()
    assert shots is not None

    def counted(name: str, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
        def of(i: int) -> Image.Image:
            read[name, i] += 1
            return opened(pictures[i])

        return tuple(partial(of, i) for i in range(len(pictures)))

    edits = {feature: counted(feature, of) for feature, of in shots.edits.items()}
    lazy = replace(shots, originals=counted("image", shots.originals), nulls=counted("null", shots.nulls), edits=edits)
    found = gallery(replace(wide, gallery=lazy), 2, budget)
    assert found is not None and found.data["sprites"] == gallery(wide, 2, budget).data["sprites"]  # type: ignore[union-attr]
    assert set(read.values()) == {1}


def test_a_failed_edit_counts_as_it_does_in_the_ranking(wide: Report) -> None:
    """An image of which only the failed edits move it is among those that move furthest."""
    rows = tuple(
        replace(row, score_edit=row.score_null + (0.9 if row.image == "image-004" else 0.01),
                effect=0.9 if row.image == "image-004" else 0.01, succeeded=row.image != "image-004", counted=True)
        for row in wide.per_image
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", 1)
        found = gallery(replace(wide, per_image=rows), 2)
    assert found is not None and found.data["images"][0]["n"] == "004.png"
    assert found.peak == pytest.approx(0.9)


def test_the_strongest_features_and_the_images_that_move_furthest(
    wide: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOP", 4)
    monkeypatch.setattr(module, "MOST", 5)
    found = gallery(wide, 2)
    assert found is not None and (found.images, found.of, found.features, found.of_features) == (5, 12, 4, 6)
    assert [f["n"] for f in found.data["features"]] == [f.name for f in wide.features[:4]]
    page = render_report(wide)
    assert "The 5 of 12 images that move furthest are shown." in page and "4 strongest of 6 features" in page


def test_sixty_four_images_by_forty_features_are_under_five_megabytes() -> None:
    """Pictures of noise: nothing that anybody has is larger."""
    report = material.wide(64, TOP, size=48)
    page = render_report(report)
    assert len(page.encode()) < 5_000_000
    data = json.loads(re.search(r'id="gallery-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert np.shape(data["effects"]) == (64, 40) and len(data["sprites"]) == 64
    for sprite in data["sprites"]:
        drawn = Image.open(io.BytesIO(base64.b64decode(sprite)))
        assert drawn.size == (data["side"] * data["tiles"], data["side"])
        assert all(low < high for low, high in drawn.convert("RGB").getextrema())


@pytest.mark.parametrize(("images", "left"), [(64, "40 more images are"), (25, "1 more image is"), (24, "")])
def test_a_notebook_shows_the_images_that_move_furthest_of_every_kind(images: int, left: str) -> None:
    report = material.wide(images, 10)
    text = as_html(report)
    assert "<p>2 more features are not shown" in text
    assert (f"{left} not shown" in text and "The 24 images that move furthest" in text) or not left
    assert bool(left) == ("move furthest" in text)
    rows = re.findall(r"<tr><th>(\d+)\.png</th>(.*?)</tr>", text)
    assert len(rows) == 24 and all(cells.count("<td") == 8 for _, cells in rows)
    moved = dict.fromkeys(map(str, range(images)), 0.0)
    for row in report.per_image:
        if row.counted and row.feature in {f.feature for f in report.features[:8]}:
            moved[str(int(row.image.removeprefix("image-")))] += abs(row.effect)
    furthest = sorted(moved, key=lambda image: -moved[image])[:24]
    assert {str(int(name)) for name, _ in rows} == set(furthest)
    kinds = [int(name) % 2 for name, _ in rows]
    assert set(kinds) == {0, 1} and kinds in (sorted(kinds), sorted(kinds, reverse=True))


def test_without_effects_by_image_there_is_no_gallery(wide: Report) -> None:
    for report in (replace(wide, gallery=None), replace(wide, per_image=())):
        assert gallery(report, 2) is None
        page = render_report(report)
        assert 'id="gallery"' not in page and "gallery-data" not in page.split("<script type")[1]


def test_names_cannot_end_the_block(wide: Report) -> None:
    assert wide.gallery is not None
    rows = tuple(replace(row, file="</script><script>alert(1)</script>.png") for row in wide.per_image)
    page = render_report(replace(wide, per_image=rows))
    assert "<script>alert(1)" not in page
