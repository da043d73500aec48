"""`diffex init`, `diffex doctor` and `diffex schema`: what comes before a run."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from diffex_dagster.cli.console import lines


def init(
    name: Annotated[str, typer.Argument(help="name of the study: letters, digits and underscores")],
    images: Annotated[str, typer.Option(help="a folder, a pattern, a .txt list, a table, or a dataset folder")],
    classifier: Annotated[str, typer.Option(help="a hub id or folder, a model file, an address, or KIND:VALUE")],
    label: Annotated[str | None, typer.Option(help="the class to explain; the one predicted most often")] = None,
    labels: Annotated[
        str | None, typer.Option(help="class names in order, separated by commas, or a file with them")
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(help="what the model returns: logits, probabilities or sigmoid; found out when left out"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="what the images show, in words; from the name")] = None,
    editor: Annotated[str, typer.Option(help="KIND:VALUE: ledits, instruct, precomputed, python")] = (
        "ledits:stable-diffusion-v1-5/stable-diffusion-v1-5"
    ),
    size: Annotated[
        int | None, typer.Option(help="side in pixels that the editor works on; its checkpoint's, else 512")
    ] = None,
    starter: Annotated[str | None, typer.Option(help="a shipped list of attributes")] = None,
    vlm: Annotated[str | None, typer.Option(help="a vision-language model that names the attributes")] = None,
    vlm_url: Annotated[str | None, typer.Option(help="its address; OpenAI's own when left out")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="the judge of edits: vlm (the model that names the attributes), clip:CHECKPOINT or none; the editor's "
            "own judge, and --vlm's model for an editor without one"
        ),
    ] = None,
) -> None:
    """Write a study file, try its images and classifier, and say what a run will cost."""
    from diffex_dagster.cli.init import Wishes, make_study

    root = Path(os.environ.get("DIFFEX_ROOT") or Path.cwd())
    classes = tuple(each.strip() for each in labels.split(",")) if labels else ()
    wishes = Wishes(
        name, images, classifier, label, classes, outputs, domain, editor, size, starter, vlm, vlm_url, judge
    )
    made = make_study(wishes, root / "studies" / name)
    out = lines()
    out.print(f"wrote {escape(str(made.study.file))}")
    out.print(escape(made.images.summary()))
    for file, predicted, probability in made.predictions:
        out.print(f"  {escape(file)}: {escape(predicted)} ({probability:.2f})")
    if made.predicted:
        out.print(f"predicted: {escape(made.predicted)}")
    for hint in made.hints:
        out.print(f"[yellow]look at this:[/] {escape(hint)}")
    out.print(f"explaining: {escape(made.study.target.describe())}")
    level1 = "" if made.level1_edits is None else f"{made.level1_edits} edits at level 1, "
    hours = made.most_edits / 3600
    out.print(f"a run makes {level1}at most {made.most_edits} edits in all: {hours:.1f} hours at one second each")
    out.print(f"next: diffex doctor {escape(name)}, then diffex run {escape(name)}")


def doctor(
    study: Annotated[str | None, typer.Argument(help="a study to look at too")] = None,
) -> None:
    """Look for what would stop a run: device, memory, packages, hub, disk, and a study with all that it names."""
    from diffex_dagster.cli.doctor import examine
    from diffex_dagster.study import find_study
    from diffex_dagster.utils.paths import studies_root

    marks = {True: "[green]ok[/]     ", None: "[yellow]note[/]   ", False: "[red]problem[/]"}
    out, bad = lines(), 0
    for finding in examine(find_study(study, studies_root()) if study else None):
        remedy = f": {finding.remedy}" if finding.remedy and finding.fine is not True else ""
        out.print(f"{marks[finding.fine]} {finding.what}: {escape(finding.found)}{escape(remedy)}")
        bad += finding.fine is False
    if bad:
        raise typer.Exit(1)


class SchemaName(StrEnum):
    """What there is a JSON Schema of."""

    study = "study"
    report = "report-1"
    comparison = "comparison-1"
    editors = "editors-1"


def schema(
    of: Annotated[SchemaName, typer.Argument(help="study, or a file beside a report page")] = SchemaName.study,
) -> None:
    """Print the JSON Schema of a study file, for editors and validators, or of report.json and its like."""
    from diffex_dagster.cli.init import json_schema
    from diffex_dagster.report.schema import load_schema

    print(json.dumps(json_schema() if of == SchemaName.study else load_schema(of.value), indent=1))
