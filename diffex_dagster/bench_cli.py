"""`diffex bench`: measure the tool itself."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

bench = typer.Typer(no_args_is_help=True, help="Measure the tool itself: its speed, its savings, its truth.")
JsonOption = Annotated[Path | None, typer.Option("--json", help="write every figure and raw sample to this file")]


class Arm(StrEnum):
    """Who makes the edits."""

    exact = "exact"
    diffusion = "diffusion"
    both = "both"


@bench.command()
def truth(
    study: Annotated[str, typer.Argument(help="a study of drawn avatars with an exact editor")] = "avatars",
    arm: Annotated[Arm, typer.Option(help="exact edits, the diffusion editor's, or both")] = Arm.both,
    images: Annotated[int | None, typer.Option(min=2, help="use the first N images; the study's own limit")] = None,
    population: Annotated[int, typer.Option(min=10, help="drawings that stand for the world")] = 200,
    resamples: Annotated[int, typer.Option(min=1, help="resampled studies of the exact arm")] = 200,
    classifier: Annotated[Path | None, typer.Option(help="grade only this folder's classifier")] = None,
    label: Annotated[str | None, typer.Option(help="class to explain; the study's, or the second of two")] = None,
    figure: Annotated[Path | None, typer.Option(help="where the figure goes; among the results")] = None,
    file: JsonOption = None,
) -> None:
    """Grade the explanations where the truth is known: estimated against true effects, decisions, the beam."""
    from diffex_dagster.bench import truth as grading
    from diffex_dagster.bench import truth_tables
    from diffex_dagster.cli import _load, _progress_bar
    from diffex_dagster.showing import terminal

    loaded = _load(study, None)
    arms = grading.editors(loaded, None if arm is Arm.both else arm.value)
    chosen = grading.subjects(loaded, classifier, label)
    with _progress_bar() as report:
        found = grading.grade_all(
            loaded, arms, chosen, images=images, population=population, resamples=resamples, report=report,
            say=lambda text: report(text, 0, 1, 0),
        )  # fmt: skip
    figures, console = truth_tables.as_json(found), terminal()
    for name, values in figures["arms"].items():
        console.print(truth_tables.table(name, values))
        console.print(truth_tables.missed_line(values), highlight=False)
    picture = figure or loaded.results_folder / "bench" / "truth.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(truth_tables.figure(found))
    _write(loaded.results_folder / "bench" / "truth.json", figures)
    _write(file, figures)
    Console(stderr=True).print(f"figure: {picture}", highlight=False, soft_wrap=True)


def _write(file: Path | None, figures: dict[str, Any]) -> None:
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
