"""`diffex bench`: measure the tool itself."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from diffex_dagster.bench.checkout import commit
from diffex_dagster.cli.console import Console, load, terminal
from diffex_dagster.errors import DiffExError
from diffex_dagster.utils.files import check_output, write_output

bench = typer.Typer(no_args_is_help=True, help="Measure the tool itself: its speed, its savings, its truth.")
StudyArgument = Annotated[str, typer.Argument(help="a study whose editor is a diffusion editor")]
EditorOption = Annotated[str | None, typer.Option("--editor", help="another of the study's editors")]
PromptsOption = Annotated[int, typer.Option(min=1, help="features of its corpus to edit them with")]
MaskOption = Annotated[str | None, typer.Option(help="another mask than the study's editor has")]
DeviceOption = Annotated[str | None, typer.Option(help="another device: cuda, mps, cpu")]
NumbersOption = Annotated[str | None, typer.Option(help="another number format: float32, float16, bfloat16")]


def _writable(file: Path | None) -> Path | None:
    """Said before hours are spent, not after."""
    if file is not None:
        check_output(file)
    return file


JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="write every figure and raw sample to this file", callback=_writable),
]


class EditorSettings(StrEnum):
    """Which options the diffusion editor has; see `bench.truth.SETTINGS`."""

    tuned = "tuned"
    default = "default"
    no_vocabulary = "no_vocabulary"
    diffusers = "diffusers"
    authors = "authors"


class Arm(StrEnum):
    """What makes the edits."""

    exact = "exact"
    diffusion = "diffusion"
    both = "both"


@bench.command()
def refine(
    seeds: Annotated[int, typer.Option(min=1, help="rules, each with pictures and a left-out place of its own")] = 10,
    output: JsonOption = None,
) -> None:
    """Leave out of a corpus what a rule leans on most, and see whether refining it finds that."""
    from dataclasses import asdict

    from diffex_dagster.bench.refine import as_markdown, measure

    found = measure(range(seeds))
    print(as_markdown(found))
    if output is not None:
        write_output(output, (json.dumps([asdict(each) for each in found], indent=2) + "\n").encode())


@bench.command()
def truth(
    study: Annotated[str, typer.Argument(help="a study of a world's drawings with an exact editor")] = "avatars",
    arm: Annotated[Arm, typer.Option(help="exact edits, the diffusion editor's, or both")] = Arm.both,
    images: Annotated[int | None, typer.Option(min=2, help="use the first N images; the study's own limit")] = None,
    population: Annotated[
        int, typer.Option(min=10, help="drawings that stand for the world, whose true effects claims are held against")
    ] = 1000,  # bench.truth.DRAWINGS
    resamples: Annotated[int, typer.Option(min=1, help="resampled studies of the exact arm")] = 200,
    classifier: Annotated[
        list[Path] | None, typer.Option(help="grade only this folder's classifier; may be given several times")
    ] = None,
    label: Annotated[str | None, typer.Option(help="class to explain; the study's, or the second of two")] = None,
    exam: Annotated[
        bool,
        typer.Option(
            "--exam",
            help="classifiers, images and a population that nothing was chosen on; with the corpora recorded beside "
            "the study, or, where none is, the study's own, on which choices may have been made",
        ),
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="with --exam: only the first so many classifiers")] = None,
    proposal: Annotated[str | None, typer.Option(help="with --exam: only this recorded proposal")] = None,
    settings: Annotated[
        EditorSettings,
        typer.Option(help="the diffusion editor as the study tunes it, or with options of others"),
    ] = EditorSettings.tuned,
    combinations: Annotated[
        int | None,
        typer.Option(min=0, help="read Algorithm 1, which edits hundreds of combinations, for the first N classifiers"),
    ] = None,
    undescribed: Annotated[
        int | None,
        typer.Option(min=0, help="read the pipeline without descriptions for the first N; as --combinations"),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="where the figure goes; among the results", callback=_writable)
    ] = None,
    file: JsonOption = None,
) -> None:
    """Grade the explanations where the truth is known: estimated against true effects, decisions, the beam."""
    from diffex_dagster.bench import exam as examination
    from diffex_dagster.bench import truth as grading
    from diffex_dagster.bench import truth_tables
    from diffex_dagster.utils.progress import shown

    loaded = grading.with_settings(load(study), settings.value)
    arms = grading.editors(loaded, None if arm is Arm.both else arm.value)
    ran_at, world = commit(), grading.world_of(loaded).name

    def whole_exam(figures: dict[str, Any]) -> dict[str, Any]:
        return {"commit": ran_at, "world": world, "proposals": figures, "classifiers": examination.facts(chosen)}

    def written(found: dict[str, grading.Benchmark]) -> None:
        _write(file, whole_exam({name: truth_tables.as_json(benchmark) for name, benchmark in found.items()}))

    with shown() as report:

        def say(text: str) -> None:
            report(text, 0, 1, 0)

        some: dict[str, Any] = {
            "resamples": resamples, "combinations": combinations, "undescribed": undescribed,
            "report": report, "say": say,
        }  # fmt: skip
        if exam:
            chosen = examination.exam_subjects(loaded, count, say=say)
            scope = examination.exam_scope(images, population, **some)
            found = examination.grade_exam(
                loaded, arms, chosen, examination.proposals(loaded, proposal), scope, written
            )
        else:
            chosen = grading.subjects(loaded, classifier or (), label)
            scope = grading.Scope(images, population, **some)
            benchmark = grading.grade_all(loaded, arms, chosen, scope)
            found = {"": benchmark}
    console = terminal(200)
    figures = {name: truth_tables.as_json(benchmark) for name, benchmark in found.items()}
    for name, each in figures.items():
        for of, values in each["arms"].items():
            console.print(truth_tables.table(of, values, name))
            console.print(truth_tables.missed_line(values), highlight=False)
            if of != "exact" and (line := truth_tables.population_line(values, each["population"])):
                console.print(line, highlight=False)
    whole = (
        whole_exam(figures) if exam else {"commit": ran_at, "world": world, "settings": settings.value, **figures[""]}
    )
    kind, folder = "exam" if exam else "truth", loaded.results_folder / "bench"
    for name, benchmark in found.items():
        picture = figure or folder / f"{'_'.join(filter(None, (kind, name)))}.png"
        if figure and len(found) > 1:
            picture = figure.with_stem(f"{figure.stem}_{name}")
        write_output(picture, truth_tables.figure(benchmark))
        Console(stderr=True).print(f"figure: {picture}", highlight=False, soft_wrap=True)
    _write(folder / f"{kind}.json", whole)
    _write(file, whole)


@bench.command()
def judges(
    study: Annotated[str, typer.Argument(help="a study of a world's drawings, which names the judges")] = "avatars",
    editor: EditorOption = None,
    drawings: Annotated[int, typer.Option(min=4, help="random drawings that they look at")] = 48,
    changes: Annotated[int, typer.Option(min=1, help="attributes that are put into each drawing, one at a time")] = 4,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="another judge than the study's, as its file would name it: '{kind: clip, checkpoint: ...}'"),
    ] = None,
    file: JsonOption = None,
) -> None:
    """Count the errors of a study's judges of edits on drawings, of which it is known what they show."""
    from diffex_dagster.bench import judges as bench_judges
    from diffex_dagster.bench.truth import Scope
    from diffex_dagster.utils.progress import shown

    loaded = load(study, editor)
    loaded = bench_judges.judged_by(loaded, judge) if judge else loaded
    with shown() as report:
        scope = Scope(report=report, say=lambda text: report(text, 0, 1, 0))
        found = bench_judges.judge_errors(loaded, drawings, changes, scope)
    if not found:
        raise DiffExError(
            f"{loaded.file}: nobody judges edits of the editor {loaded.editor_name}; name a judge (`judge`, and "
            "`second_judge` for another beside it)"
        )
    print(bench_judges.as_markdown(found))
    asked = {"commit": commit(), "drawings": drawings, "changes": changes}
    _write(file, asked | {"judges": [each.as_json() for each in found]})


@bench.command()
def flips(
    study: Annotated[str, typer.Argument(help="a study of a world's drawings with an exact editor")] = "avatars",
    arm: Annotated[Arm, typer.Option(help="exact edits, the diffusion editor's, or both")] = Arm.exact,
    pictures: Annotated[int, typer.Option(min=1, help="drawings that no study has seen")] = 40,
    file: JsonOption = None,
) -> None:
    """Hold the smallest sets of edits that flip a picture against what truly flips it."""
    from diffex_dagster.bench import flips as bench_flips
    from diffex_dagster.bench import truth as grading
    from diffex_dagster.utils.progress import shown

    loaded = load(study)
    with shown(Console(stderr=True)) as report:
        arms = grading.editors(loaded, None if arm is Arm.both else arm.value)
        marks = bench_flips.measure_flips(loaded, arms, pictures, report)
    print(bench_flips.as_markdown(marks))
    _write(file, {"pictures": pictures, "seed": bench_flips.SEED, "marks": bench_flips.as_json(marks)})


@bench.command()
def completeness(
    study: Annotated[str, typer.Argument(help="a study of a world's drawings with an exact editor")] = "avatars",
    arm: Annotated[Arm, typer.Option(help="exact edits, the diffusion editor's, or both")] = Arm.exact,
    images: Annotated[int | None, typer.Option(min=8, help="use the first N images; the study's own limit")] = None,
    classifier: Annotated[list[Path] | None, typer.Option(help="only this folder's; may be repeated")] = None,
    file: JsonOption = None,
) -> None:
    """Say how much of each classifier the features explain, and how much without their strongest group."""
    from diffex_dagster.bench import completeness as bench_completeness
    from diffex_dagster.bench import truth as grading
    from diffex_dagster.utils.progress import shown

    loaded, only = load(study), None if arm is Arm.both else arm.value
    arms, chosen = grading.editors(loaded, only), grading.subjects(loaded, classifier or ())
    with shown(Console(stderr=True)) as report:
        found = bench_completeness.measure_completeness(loaded, arms, chosen, images, report)
    print(bench_completeness.as_markdown(found))
    _write(file, {"shares": bench_completeness.as_json(found)})


@bench.command()
def speed(
    study: StudyArgument = "avatars",
    editor: EditorOption = None,
    images: Annotated[int, typer.Option(min=1, help="pictures of the study to edit")] = 4,
    prompts: PromptsOption = 8,
    repetitions: Annotated[int, typer.Option(min=1, help="turns of every contender")] = 3,
    batches: Annotated[str, typer.Option(help="numbers of edits at a time to try")] = "4,8,16,32,64",
    growth: Annotated[bool, typer.Option(help="measure 1, 2 and 4 times the features and the images as well")] = True,
    mask: MaskOption = None,
    scale: Annotated[
        float | None, typer.Option(help="another guidance scale; at 1 without a mask an edit takes half the UNet rows")
    ] = None,
    device: DeviceOption = None,
    dtype: NumbersOption = None,
    size: Annotated[
        str | None, typer.Option(help="a checkpoint with random weights: sd15, sdxl, tiny, tiny-xl; else the study's")
    ] = None,
    file: JsonOption = None,
) -> None:
    """Time the editor against diffusers' pipeline and against the UNet alone."""
    import tempfile

    from diffex_dagster.bench import speed as bench_speed

    loaded = load(study, editor)
    sizes, times = _numbers(batches, "--batches"), (1, 2, 4) if growth else ()
    changes, most = {"mask": mask, "scale": scale, "device": device, "dtype": dtype}, max(times, default=1)
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("starting") as status:
        whole = bench_speed.workload_of(loaded, images * most, prompts * most, Path(folder), size, **changes)
        found = bench_speed.measure(whole, Path(folder), repetitions, sizes, times, status.update)
    print(bench_speed.as_markdown(found))
    options = bench_speed.options_of(loaded, **changes)
    workload = {
        "study": loaded.name, "images": images, "prompts": prompts, "mask": options.mask, "scale": options.scale,
        "size": size or "the study's",
    }  # fmt: skip
    _write(file, {"machine": bench_speed.machine(options), "workload": workload} | bench_speed.as_json(found))


@bench.command()
def profile(
    study: StudyArgument = "avatars",
    editor: EditorOption = None,
    images: Annotated[int, typer.Option(min=1, help="pictures of the study to edit")] = 2,
    prompts: PromptsOption = 8,
    batch: Annotated[int, typer.Option(min=1, help="edits at a time")] = 16,
    mask: MaskOption = None,
    device: DeviceOption = None,
    dtype: NumbersOption = None,
    size: Annotated[str | None, typer.Option(help="a checkpoint with random weights, as in `bench speed`")] = None,
    trace: Annotated[Path | None, typer.Option(help="write a timeline for a trace viewer to this file")] = None,
) -> None:
    """Show where the engine's time goes, by operator."""
    import tempfile

    from diffex_dagster.bench import profiling
    from diffex_dagster.bench.speed import workload_of

    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("editing"):
        workload = workload_of(
            load(study, editor), images, prompts, Path(folder), size, mask=mask, device=device, dtype=dtype,
            batch_size=batch,
        )  # fmt: skip
        operators = profiling.profile(workload, trace)
    print(profiling.as_markdown(operators))


@bench.command()
def stages(
    study: Annotated[str, typer.Argument(help="any study; its results are left alone")] = "avatars",
    editor: EditorOption = None,
    added: Annotated[str, typer.Option(help="the feature that the last run adds to the corpus")] = "aviator glasses",
    turns: Annotated[int, typer.Option(min=1, help="runs with nothing changed, to take the median of")] = 3,
    file: JsonOption = None,
) -> None:
    """Time whole runs by stage: from nothing, a second classifier, nothing changed, one feature added."""
    from diffex_dagster.bench import stages as bench_stages

    with Console(stderr=True).status("starting") as status:
        runs = bench_stages.measure(load(study, editor), added, turns, say=status.update)
    print(bench_stages.as_markdown(runs))
    _write(file, bench_stages.as_json(runs))


@bench.command()
def racing(
    study: Annotated[str, typer.Argument(help="a study of the avatars world")] = "avatars",
    pool: Annotated[int, typer.Option(min=10, help="avatars that the studies' images are drawn from")] = 200,
    images: Annotated[str, typer.Option(help="numbers of images of a study")] = "64,128",
    studies: Annotated[int, typer.Option(min=1, help="resampled studies for each number of images")] = 200,
    top: Annotated[int | None, typer.Option(min=1, help="another racing_top than the study's")] = None,
    tolerance: Annotated[float | None, typer.Option(min=0, help="another racing_tolerance than the study's")] = None,
    start: Annotated[int | None, typer.Option(min=2, help="another racing_start than the study's")] = None,
    bounds: Annotated[str, typer.Option(help="kinds of bounds")] = "normal,bounded",
    every: Annotated[bool, typer.Option("--every", help="the classifiers of the study's folder bench as well")] = False,
    file: JsonOption = None,
) -> None:
    """Count the edits that racing saves on resampled studies, and how often it finds the same features."""
    from diffex_dagster.bench import racing as bench_racing
    from diffex_dagster.search.options import Bounds
    from diffex_dagster.stages.corpus_now import corpus_now

    changes = {"racing_top": top, "racing_tolerance": tolerance, "racing_start": start}
    loaded = load(study)
    search = loaded.search.replaced(**{name: value for name, value in changes.items() if value is not None})
    sizes = _numbers(images, "--images")
    if max(sizes) > pool:
        raise DiffExError(
            f"bench racing: --images {max(sizes)} are more than the pool's {pool}: ask for a larger --pool"
        )
    kinds = [kind for kind in get_args(Bounds) if kind in bounds.split(",")]
    if len(kinds) != len(bounds.split(",")):
        raise DiffExError(f"bench racing: --bounds {bounds!r}: write one or both of {','.join(get_args(Bounds))}")
    with Console(stderr=True).status("drawing the pool") as status:
        corpus = corpus_now(loaded)
        tables = bench_racing.pool_tables(loaded, corpus, every, pool, status.update)
        settings = [search.replaced(racing_bounds=kind) for kind in kinds]
        saved = bench_racing.measure_savings(corpus, tables, settings, sizes, studies, status.update)
    print(bench_racing.as_markdown(saved))
    _write(file, {"pool": pool, "search": search.model_dump(mode="json"), "settings": bench_racing.as_json(saved)})


@bench.command()
def workers(
    count: Annotated[int, typer.Option("--workers", min=1, max=512, help="processes that edit")] = 16,
    seconds: Annotated[float, typer.Option(min=0.01, help="that 16 edits take one of them")] = 2.5,
    edits: Annotated[int, typer.Option(min=64, help="in all")] = 1024,
    side: Annotated[int, typer.Option(min=16, help="of a picture, in pixels")] = 512,
    file: JsonOption = None,
) -> None:
    """Measure what it costs to be in charge of many workers; they sleep as long as a GPU would work."""
    import tempfile

    from diffex_dagster.bench import workers as bench_workers

    load = bench_workers.Load(count, seconds, edits, side)
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("starting") as status:
        found = bench_workers.measure(load, Path(folder), say=status.update)
    print(bench_workers.as_markdown(found))
    _write(file, found)


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise DiffExError(f"bench: {option}: {text!r} is no list of positive numbers; write for example 4,8,16")
    return numbers


def _write(file: Path | None, figures: dict[str, Any]) -> None:
    if file:
        write_output(file, (json.dumps(figures, indent=1) + "\n").encode())
