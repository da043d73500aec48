"""The published table of whose editor options were used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from diffex_dagster.bench import settings_tables, truth_tables
from diffex_dagster.bench.exam_tables import places
from diffex_dagster.bench.pages import write_between
from diffex_dagster.cli.bench import EditorSettings
from diffex_dagster.errors import DiffExError

DOCS = Path(__file__).parents[2] / "docs"
SUBJECTS = ("colour_rule", "eyebrow_rule", "interaction")


def point(decision: str, success: float | None) -> dict[str, Any]:
    return {"decision": decision} if success is None else {"decision": decision, "edit_success": success}


def written(spearman: float, precision: float, success: float | None = 0.8, **fields: Any) -> dict[str, Any]:
    """What the benchmark writes of three classifiers, the last of which has no ranking to judge."""
    marks = dict.fromkeys(truth_tables.MARKS, 0.0) | {"precision_at_5": precision, "sign_accuracy": 0.96}
    rows = {
        name: marks
        | {"spearman": None if i == 2 else spearman + 0.1 * i, "fdr": 0.3 * i}
        | {"false_discoveries": {"a": "another size"} if i else {}, "population_error": 0.01 * i}
        for i, name in enumerate(SUBJECTS)
    }
    arm = {
        "classifiers": rows,
        "missed": {"inconclusive": 2, "edit failed": 5},
        "points": {name: [point("raises", success), point("edit failed", success and 0.2)] for name in SUBJECTS},
    }
    whole = {"commit": "aaaaaaa", "images": 12, "population": 60, "features": 68, "arms": {"diffusion": arm}}
    return whole | fields


def publish(folder: Path, **files: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What is kept of these files, and the page."""
    (folder / "figures").mkdir(exist_ok=True)
    page, paths = folder / "validity.md", []
    if not page.exists():
        page.write_text("before\n<!-- settings begins -->\n<!-- settings ends -->\nafter\n", "utf-8")
    for name, whole in files.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(whole))
    assert settings_tables.main([*map(str, paths), "--docs", str(folder)]) == 0
    runs: list[dict[str, Any]] = json.loads((folder / "figures" / "settings.json").read_text("utf-8"))["runs"]
    return runs, page.read_text("utf-8")


def cells(page: str, title: str) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    head, row = lines[0], next(line for line in lines if line[0] == title)
    return dict(zip(head, row, strict=True))


def test_one_command_makes_one_table_of_all_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = written(0.7, 0.5, success=None)  # of before a file said whose settings, and how many edits show
    runs, page = publish(tmp_path, authors=written(0.2, 0.1), default=early, tuned=written(0.8, 0.54, settings="tuned"))
    assert [run["settings"] for run in runs] == ["tuned", "default", "authors"]
    of = cells(page, "default")
    assert of["ρ"] == "0.75"  # two classifiers have a ranking to judge: too few for an interval
    assert of["P@5"] == "0.50" and of["features reported"] == "2"
    assert of["edits that show"] == "–" and of["edit failed"] == "50%" and of["commit"] == "aaaaaaa"
    assert cells(page, "the authors' defaults")["edits that show"] == "50%"
    assert of["false claims"].startswith("30% (0% to 60%)")
    assert (
        "- default: edit failed 5, inconclusive 2; claims in all: 3, false of them: 2 another size." in page
        and "- missed: ρ 0.75, within 0.05" in page
    )
    assert "so many drawings of the population (standard errors of their true effects: of 60 up to 0.020)." in page
    assert of["drawings"] == "60"
    assert "| interaction | –, 0.54 | –, 0.50 | –, 0.10 | –, −0.04 | –, −0.44 |" in page
    said = capsys.readouterr().out.splitlines()
    assert "missed: ρ 0.75, within 0.05 of the tuned study's 0.85" in said
    assert "met: P@5 0.50, within 0.05 of the tuned study's 0.54" in said
    assert "met: signs 96%, ≥ 95%" in said and "missed: false claims 30%, ≤ 5%" in said


def test_a_mean_has_the_interval_of_the_exam_s_tables_where_there_are_three_classifiers(tmp_path: Path) -> None:
    """Of many classifiers one is far off: the interval of their mean is narrower than what they range over."""
    whole = written(0.5, 0.5)
    arm = whole["arms"]["diffusion"]
    names = [f"rule_{i}" for i in range(12)]
    arm["classifiers"] = {
        name: arm["classifiers"]["colour_rule"] | {"coverage": 0.6 + 0.03 * i} for i, name in enumerate(names)
    }
    arm["points"] = dict.fromkeys(names, arm["points"]["colour_rule"])
    runs, page = publish(tmp_path, default=whole)
    rows = list(runs[0]["classifiers"].values())
    low, high = truth_tables.intervals(rows, keys=("coverage",))["coverage"] or (0.0, 0.0)
    assert 0.6 < low < runs[0]["mean"]["coverage"] < high < 0.93
    assert cells(page, "default")["coverage"] == f"76% ({100 * low:.0f}% to {100 * high:.0f}%)"
    assert "95% interval in brackets (classifiers resampled)" in page and "the least and the most" not in page


def test_two_classifiers_give_no_interval(tmp_path: Path) -> None:
    whole = written(0.5, 0.5)
    arm = whole["arms"]["diffusion"]
    for of in (arm["classifiers"], arm["points"]):
        del of["interaction"]
    _, page = publish(tmp_path, default=whole)
    assert cells(page, "default")["ρ"] == "0.55 (0.50 to 0.60)"
    assert "with the least and the most of any in brackets; fewer than three give no interval." in page
    assert "95%" not in page.split("\n\n")[1]


def test_a_run_takes_the_place_of_an_earlier_one_of_its_settings(tmp_path: Path) -> None:
    publish(tmp_path, default=written(0.5, 0.5), tuned=written(0.8, 0.8))
    runs, page = publish(tmp_path, default=written(0.6, 0.6, commit="bbbbbbb"))
    assert [(run["settings"], run["commit"]) for run in runs] == [("tuned", "aaaaaaa"), ("default", "bbbbbbb")]
    again, same = publish(tmp_path)
    assert (again, same) == (runs, page)
    assert "edits that show" in page
    _, page = publish(tmp_path, default=written(0.6, 0.6, success=None), tuned=written(0.8, 0.8, success=None))
    assert "edits that show" not in page  # a column without a value


def test_more_images_are_a_row_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, tuned=written(0.8, 0.8), default=written(0.5, 0.5))
    capsys.readouterr()
    runs, page = publish(tmp_path, default=written(0.9, 0.9, images=24))
    assert [(run["settings"], run["images"]) for run in runs] == [("tuned", 12), ("default", 12), ("default", 24)]
    assert "12 or 24 images" in page
    assert cells(page, "default, 12 images")["P@5"] == "0.50" and cells(page, "default, 24 images")["P@5"] == "0.90"
    assert "default, 12 images less tuned" in page and "default, 24 images less tuned" not in page
    assert "missed: P@5 0.50, within 0.05 of the tuned study's 0.80" in capsys.readouterr().out  # on as many images
    assert ("P@5 0.90, ≥ 0.8", True) in settings_tables.verdicts(runs[1:])  # none is tuned: those on the most


def test_without_a_file_there_is_nothing_to_publish(tmp_path: Path) -> None:
    with pytest.raises(DiffExError, match="nothing is published yet"):
        publish(tmp_path)


@pytest.mark.parametrize(
    ("name", "whole", "says"),
    [
        ("mine", written(0.5, 0.5), "'mine' are no settings"),
        ("default", {**written(0.5, 0.5), "arms": {"exact": {}}}, "no diffusion arm"),
        ("default", {**written(0.5, 0.5), "commit": None}, "--commit"),
        ("default", written(0.5, 0.5, features=90), "cannot stand in one table"),
    ],
)
def test_what_cannot_be_published_is_refused_and_nothing_is_written(
    name: str, whole: dict[str, Any], says: str, tmp_path: Path
) -> None:
    before = publish(tmp_path, tuned=written(0.8, 0.8))
    with pytest.raises(DiffExError, match=says):
        publish(tmp_path, **{name: whole})
    assert publish(tmp_path) == before


def test_another_world_has_its_own_page_and_is_held_against_aims_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures").mkdir()
    page, file = tmp_path / "worlds.md", tmp_path / "default.json"
    page.write_text("<!-- settings of scenes begins -->\n<!-- settings of scenes ends -->\n", "utf-8")
    file.write_text(json.dumps(written(0.8, 0.6, world="scenes")))
    with pytest.raises(DiffExError, match="of the world 'scenes', not 'avatars': say --world scenes"):
        settings_tables.main([str(file), "--docs", str(tmp_path)])
    assert settings_tables.main([str(file), "--docs", str(tmp_path), "--world", "scenes"]) == 0
    nameless = tmp_path / "tuned.json"  # files named no world while there was one
    nameless.write_text(json.dumps({key: value for key, value in written(0.8, 0.6).items() if key != "world"}))
    with pytest.raises(DiffExError, match="of the world 'avatars', not 'scenes': say --world avatars"):
        settings_tables.main([str(nameless), "--docs", str(tmp_path), "--world", "scenes"])
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["met: ρ 0.85, ≥ 0.8", "missed: P@5 0.60, ≥ 0.8"]
    assert "tuned" not in page.read_text("utf-8")
    assert [each.name for each in (tmp_path / "figures").iterdir()] == ["settings_scenes.json"]


def test_every_setting_of_the_command_has_a_row() -> None:
    assert set(settings_tables.WORDS) == set(EditorSettings)


@pytest.mark.parametrize("world", ["avatars", "scenes"])
def test_the_page_shows_the_settings_that_are_committed(world: str, tmp_path: Path) -> None:
    figures, page, place = places(DOCS, "settings", world)
    copy = tmp_path / page.name
    copy.write_bytes(page.read_bytes())
    write_between(copy, place, settings_tables.as_markdown(json.loads(figures.read_text("utf-8"))["runs"]))
    assert copy.read_text("utf-8") == page.read_text("utf-8"), "publish the settings again"


def test_the_readme_says_what_scenes_come_to() -> None:
    runs = json.loads((DOCS / "figures" / "settings_scenes.json").read_text("utf-8"))["runs"]
    *_, default = [run for run in runs if run["settings"] == "default"]  # on the most images
    readme = " ".join((DOCS.parent / "README.md").read_text("utf-8").split())
    mean = default["mean"]
    ranks = f"(ρ {mean['spearman']:.2f} over true effects above 0.02, {mean['spearman_whole']:.2f} over every feature;"
    assert f"{ranks} precision@5 {mean['precision_at_5']:.2f})" in readme
    assert f"on {default['images']} images fog" in readme
    # Every claim is of a true effect here.
    effects = sum(default["missed"].values()) + default["claims"]
    assert f"but {default['missed']['inconclusive']} of {effects} true effects" in readme
    assert default["false"] == {"another size": 1}
    assert f"one of {default['claims']} claims is of another size than its interval allows" in readme


def test_the_readme_says_of_the_fog_what_the_page_of_worlds_says() -> None:
    page = (DOCS / "worlds.md").read_text("utf-8")
    claimed = re.search(r"fog for `urban_v1` \(claimed (\S+) \[[^]]*\], truth (\S+) on these images\)", page)
    assert claimed
    assert f"fog still comes first ({claimed[1]}, truth {claimed[2]})" in (DOCS.parent / "README.md").read_text("utf-8")
