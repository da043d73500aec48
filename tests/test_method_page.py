"""docs/method.md says what the asset graph is."""

from __future__ import annotations

import re
from pathlib import Path

from diffex_dagster.assets.build import build_study
from diffex_dagster.study import load_study
from tests.support.project import ROOT
from tests.support.toys import write_study

PAGE = (ROOT / "docs" / "method.md").read_text("utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of a table after the first, by the name in the first."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert table
    cells = [[cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table[1].splitlines()]
    return {first.strip("`"): rest for first, *rest in cells}


def test_the_page_has_every_asset_with_what_it_depends_on(tmp_path: Path) -> None:
    judge = {"kind": "clip", "checkpoint": "owner/name"}
    graph = build_study(
        load_study(write_study(tmp_path, 2, judge=judge, second_judge=judge, calibrate=True))
    ).resolve_asset_graph()

    def named(key: object) -> str:
        return re.sub(r"^v[12]/", "<classifier>/", "/".join(key.path[1:]))  # type: ignore[attr-defined]

    parents: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        parents.setdefault(named(key), set()).update(named(each) for each in graph.get(key).parent_keys)
    stages = {name for name, above in parents.items() if above}
    assert set(rows("source")) == set(parents) - stages
    said = {name: set(re.findall(r"`([^`]+)`", reads)) for name, (reads, *_) in rows("stage").items()}
    assert said == {name: parents[name] for name in stages}
    for _, (_, module, _) in rows("stage").items():
        assert (ROOT / "diffex_dagster" / module.strip("`")).is_file()


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    pictures = re.findall(r"\]\((?:\.\./)?([\w-]+\.png)\)", PAGE + (ROOT / "docs/howto/deploy.md").read_text("utf-8"))
    assert len(pictures) >= 4
    for name in pictures:
        assert (ROOT / "docs" / name).stat().st_size < 200_000
