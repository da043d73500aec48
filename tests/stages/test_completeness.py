"""How much of a classifier the features explain, on a world whose truth is known: from pictures to the report."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from diffex_dagster.bench.tiles import PLACES, draw_weights, group_of, sample
from diffex_dagster.results import Report
from diffex_dagster.stages.versions import report_version
from diffex_dagster.study import load_study
from tests.support.explaining import explained

WEIGHTS, TOP = draw_weights(1)


def write_tiles(folder: Path, left_out: str = "", **changes: Any) -> Path:
    """A study of 32 pictures of tiles with an exact editor, and a corpus of all places but the one left out."""
    (folder / "images").mkdir(parents=True)
    for i, picture in enumerate(sample(32, 0)):
        picture.save(folder / "images" / f"{i:02d}.png")
    groups = [group_of(place) for place in PLACES if place != left_out]
    (folder / "proposal.json").write_text(json.dumps({"categories": groups}))
    study = {
        "name": "tiles", "domain": "tiles", "images": {"size": 24},
        "corpus": {"vlm": {"kind": "recorded", "file": "proposal.json"}, "overrides": "corpus.yaml"},
        "editors": {"paint": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileEditor"}},
        "classifiers": {
            "rule": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
                     "options": {"weights": WEIGHTS}},
            "shade": {"kind": "python", "factory": "diffex_dagster.bench.tiles:TileClassifier",
                      "options": {"shade": 4.0}},
        },
        "target": {"label": "yes"}, "search": {"probes": 2, "beam": 9}, "effects": {"control_prompts": ["flornip"]},
    } | changes  # fmt: skip
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(study, file)
    return folder


def of(report: Report) -> float:
    found = report.completeness
    assert found is not None and found.score is not None and found.low is not None and found.high is not None
    assert 0.0 <= found.low <= found.score <= found.high <= 1.0
    return found.score


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """The reports of the rule and of a classifier that looks at nothing the corpus names."""
    study = load_study(write_tiles(tmp_path_factory.mktemp("whole") / "s"))
    return explained(study, "rule"), explained(study, "shade")


def test_a_rule_is_explained_and_less_so_without_its_strongest_group(
    whole: tuple[Report, Report], tmp_path: Path
) -> None:
    rule, shade = whole
    assert of(rule) > 0.9
    without = explained(load_study(write_tiles(tmp_path / "s", TOP)), "rule")
    assert of(without) < of(rule) - 0.3
    assert of(shade) < 0.1


def test_the_images_that_are_explained_least_are_those_with_what_nobody_named(tmp_path: Path) -> None:
    from diffex_dagster.bench.tiles import marks_of

    report = explained(load_study(write_tiles(tmp_path / "s", TOP)), "rule")
    assert report.completeness
    least = report.completeness.least_explained
    missed = [abs(each.score - each.predicted) for each in least]
    assert missed == sorted(missed, reverse=True) and len(least) == 12
    first = marks_of(Image.open(tmp_path / "s" / "images" / least[0].file))
    named = {f"{colour} mark at the {place}" for place, colour in first.items() if place != TOP}
    assert set(least[0].shows) == named


def test_it_is_in_every_file_of_the_report(whole: tuple[Report, Report]) -> None:
    from diffex_dagster.report.markdown import report_markdown
    from diffex_dagster.report.page import render_report
    from diffex_dagster.report.schema import report_as_json, report_from_json

    rule, _ = whole
    score = f"{of(rule):.0%}"
    for text in (render_report(rule), report_markdown(rule)):
        assert f"explains {score} of how the" in text and "no share of the causes" in text
    data = report_as_json(rule)
    assert data["completeness"]["score"] == pytest.approx(of(rule)) and data["completeness"]["features"] > 15
    assert "picture" not in data["completeness"]["least_explained"][0]
    assert report_from_json(data).completeness.score == pytest.approx(of(rule))  # type: ignore[union-attr]


def test_a_report_that_says_anything_else_of_it_has_another_version(whole: tuple[Report, Report]) -> None:
    rule, _ = whole
    said = rule.completeness
    assert said and said.least_explained
    before = report_version(rule)
    first, *rest = said.least_explained
    changed = [replace(said, **{each.name: _other(getattr(said, each.name))}) for each in fields(said)]
    for each in fields(first):
        if each.name != "picture":
            other = replace(first, **{each.name: _other(getattr(first, each.name))})
            changed.append(replace(said, least_explained=(other, *rest)))
    assert [found for found in changed if report_version(replace(rule, completeness=found)) == before] == []
    assert report_version(replace(rule, completeness=replace(said))) == before


def _other(value: Any) -> Any:
    return value[1:] or "other" if isinstance(value, tuple | str) else (value or 0) + 1


def test_where_it_cannot_be_known_it_says_why(tmp_path: Path) -> None:
    unjudged = explained(load_study(write_tiles(tmp_path / "a", judge={"kind": "none"})), "rule").completeness
    assert unjudged and unjudged.score is None and "nobody judges" in unjudged.why
    few = explained(load_study(write_tiles(tmp_path / "b", images={"size": 24, "limit": 6})), "rule").completeness
    assert few and few.score is None and "fewer than 8 images" in few.why


def test_a_probe_on_an_embedding_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffex_dagster.bench.tiles import TileJudge

    asked: list[int] = []

    def embeddings(self: TileJudge, pictures: Any) -> np.ndarray:
        asked.append(len(pictures))
        return np.stack([np.asarray(picture, float).ravel() / 255 for picture in pictures])

    monkeypatch.setattr(TileJudge, "embeddings", embeddings, raising=False)
    study = load_study(write_tiles(tmp_path / "s", TOP))
    found = [explained(study, "rule").completeness for _ in range(2)]
    assert asked == [32] and found[0] is not None and found[0].ceiling is not None and found[0].score is not None
    assert found[0].ceiling > found[0].score and found[0].ceiling_by == "the tile itself"
    assert found[1] is not None and found[1].ceiling == pytest.approx(found[0].ceiling)
