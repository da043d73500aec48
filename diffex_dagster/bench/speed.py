"""How fast the editor is, against diffusers' pipeline and against the UNet alone (`diffex bench speed`).

Every contender does the same work, pictures to pictures, in a process of its own. They take turns, and a ratio compares
the turns of one round, so that a machine that is busy with something else slows both sides of it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import IO, Any

from pydantic import ValidationError

from diffex_dagster.bench.contenders import RATIOS, TITLES, Sample, Workload
from diffex_dagster.editing.ledits import LeditsEditor, LeditsEditorPart, LeditsOptions
from diffex_dagster.errors import DiffExError
from diffex_dagster.stages.sample_images import read_samples
from diffex_dagster.stages.setup import build_classifier
from diffex_dagster.study import Study
from diffex_dagster.study.building import editor_where
from diffex_dagster.utils.mistakes import first_fault

BATCHES = (4, 8, 16, 32, 64)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ratio:
    """A ratio of times over the rounds: the median, and the smallest and largest of a single round."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """What `bench speed` measured."""

    batch: int  # edits at a time of the contender "engine"
    samples: dict[str, list[Sample]]
    ratios: dict[str, Ratio]
    cpu_ratios: dict[str, Ratio]  # the same of processor seconds: less disturbed where the machine is shared
    batches: dict[int, Sample] = field(default_factory=dict)  # batch size -> one repetition in a process of its own
    growth: dict[str, Sample] = field(default_factory=dict)  # "2× features" -> the same

    def seconds_per_edit(self, name: str) -> float:
        """Median over the repetitions; for the limit, of the edits that its rows belong to."""
        edits = self.samples["engine"][0].edits
        return median(sample.seconds for sample in self.samples[name]) / edits


class Contender:
    """A contender's process: `turn` lets it do the workload once."""

    def __init__(self, name: str, workload: Workload, folder: Path) -> None:
        self.name = name
        batch = workload.options.get("batch_size")
        file = folder / f"{name}-{batch}-{len(workload.pictures)}-{len(workload.prompts)}.json"
        file.write_text(json.dumps(asdict(workload)), "utf-8")
        command = [sys.executable, "-m", "diffex_dagster.bench.contenders", name, str(file)]
        self._log = file.with_suffix(".log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8"
        )
        self._read()  # it is ready

    def turn(self) -> Sample:
        """One repetition."""
        stdin: IO[str] = self._process.stdin  # type: ignore[assignment]  # a pipe
        stdin.write("go\n")
        stdin.flush()
        return Sample(**self._read())

    def _read(self) -> dict[str, Any]:
        stdout: IO[str] = self._process.stdout  # type: ignore[assignment]  # a pipe
        line = stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
            raise DiffExError(f"bench speed: contender {self.name!r} ended early: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def options_of(study: Study, **changes: Any) -> LeditsOptions:
    """The diffusion editor of the study, with the options that are not None in the place of its own.

    It keeps no inversions on disk: what an earlier run left there would make it faster than it is. It edits without
    descriptions (`source_prompts`), which diffusers' pipeline has none of: all contenders do the same work.

    Raises:
        DiffExError: the editor in use is of another kind.
    """
    part = study.editors[study.editor_name]
    if not isinstance(part, LeditsEditorPart):
        raise DiffExError(
            f"{study.file}: editors.{study.editor_name} is of kind {part.kind!r}, and the bench measures 'ledits': "
            "name another with --editor"
        )
    given = {name: value for name, value in changes.items() if value is not None}
    given |= {"inversion_folder": None, "source_prompts": "none"}
    options = part.options(editor_where(study)).model_dump() | given
    everywhere = {name: given[name] for name in ("mask", "scale") if name in given}
    # For the prompts that have options of their own as well.
    options["prompts"] = {prompt: own | everywhere for prompt, own in options["prompts"].items()}
    try:
        return LeditsOptions.model_validate(options)
    except ValidationError as error:
        raise DiffExError(f"bench: --{first_fault(error)}") from error


def workload_of(
    study: Study, images: int, prompts: int, folder: Path, size: str | None = None, **changes: Any
) -> Workload:
    """The study's first pictures and the first editable features of its corpus, with its editor's options.

    Args:
        images, prompts: how many.
        folder: for the pictures, and the checkpoint where a size is named.
        size: of a checkpoint with random weights in the place of the study's; one of `random_weights.SIZES`.
        changes: other options than the study's.

    Raises:
        DiffExError: the study has fewer features or pictures than asked for, or no diffusion editor.
    """
    from diffex_dagster.stages.corpus_now import corpus_now

    options = options_of(study, **changes)
    if options.scheduler != "dpm":
        raise DiffExError(
            "bench speed: diffusers' LEDITS++ cannot invert with scheduler 'ddim', so that nothing can be compared: "
            "use 'dpm'"
        )
    words = list(dict.fromkeys(feature.prompt for feature in corpus_now(study).walk() if feature.editable))
    if len(words) < prompts:
        raise DiffExError(f"{study.file}: the corpus has {len(words)} editable features: ask for --prompts that many")
    side = None
    if size:
        checkpoint, side = _random_checkpoint(options, size, folder)
        options = options.model_copy(update={"checkpoint": str(checkpoint), "resolution": None})
    files = []
    samples = read_samples(study, lambda name: build_classifier(study, name))
    if len(samples.pictures) < images:
        raise DiffExError(f"{study.file}: the study has {len(samples.pictures)} images: ask for --images that many")
    for name, picture in list(samples.pictures.items())[:images]:
        file = folder / f"{Path(name).stem}.png"
        (picture.resize((side, side)) if side else picture).save(file)  # diffusers takes pictures as they are
        files.append(str(file))
    return Workload(options.model_dump(mode="json"), tuple(files), tuple(words[:prompts]))


def _random_checkpoint(options: LeditsOptions, size: str, folder: Path) -> tuple[Path, int]:
    import torch

    from diffex_dagster.bench.random_weights import SIZES, resolution, write_checkpoint

    if size not in SIZES:
        raise DiffExError(f"bench speed: --size {size!r} is not known: use one of {', '.join(SIZES)}")
    dtype = getattr(torch, LeditsEditor(options).placement[1])
    return write_checkpoint(folder / size, size, dtype=dtype), resolution(size)


def measure(
    whole: Workload,
    folder: Path,
    repetitions: int,
    batches: Sequence[int],
    growth: Sequence[int],
    say: Say = lambda _: None,
) -> Speed:
    """Run the bench: every picture of a workload is edited towards each of its prompts.

    Args:
        whole: `max(growth)` times the pictures and prompts that the contenders are compared on, the first of it.
        folder: for what the contenders say.
        repetitions: rounds in which each contender takes one turn.
        batches: numbers of edits at a time to try; the fastest is the engine's in the comparison.
        growth: the engine behind a store, as a study uses it, on so many times the prompts, and the images, for time
            and memory; empty to leave out.
        say: is told what is going on.

    Raises:
        DiffExError: a contender failed.
    """
    most, pictures, words = max(growth, default=1), whole.pictures, whole.prompts
    images, prompts = len(pictures) // most, len(words) // most
    with ExitStack() as open_processes:
        workload = replace(whole, pictures=pictures[:images], prompts=words[:prompts])

        tried = {}
        for batch in sorted(set(batches)):
            say(f"batch {batch}")
            tried[batch] = _alone(_sized(workload, batch), folder)
        best = min(tried, key=lambda batch: tried[batch].seconds)

        rows = tried[best].rows
        at_once = min(2 * best, rows)
        names = {name: _sized(workload, 1 if name == "engine_single" else best) for name in TITLES}
        names["limit"] = replace(names["limit"], rows=rows, rows_at_once=at_once)
        running = {name: open_processes.enter_context(Contender(name, work, folder)) for name, work in names.items()}
        samples: dict[str, list[Sample]] = {name: [] for name in running}
        for turn in range(repetitions):
            for name, contender in running.items():
                say(f"round {turn + 1} of {repetitions}: {name}")
                samples[name].append(contender.turn())
        open_processes.close()

        larger = {f"{times}× features": replace(workload, prompts=words[: prompts * times]) for times in growth}
        larger |= {
            f"{times}× images": replace(workload, pictures=pictures[: images * times]) for times in growth if times > 1
        }
        grown = {}
        for what, more in larger.items():
            say(what)
            grown[what] = _alone(_sized(more, best), folder, "store")
    return Speed(best, samples, ratios(samples, "seconds"), ratios(samples, "cpu_seconds"), tried, grown)


def _sized(workload: Workload, batch: int) -> Workload:
    return replace(workload, options=workload.options | {"batch_size": batch})


def _alone(workload: Workload, folder: Path, name: str = "engine") -> Sample:
    """One repetition of a contender in a process that ends with it, so that its peak memory is its own."""
    with Contender(name, workload, folder) as contender:
        return contender.turn()


def ratios(samples: Mapping[str, Sequence[Sample]], what: str) -> dict[str, Ratio]:
    """The ratios of `RATIOS`, round by round."""
    found = {}
    for name, (numerator, denominator) in RATIOS.items():
        rounds = [
            getattr(above, what) / getattr(below, what)
            for above, below in zip(samples[numerator], samples[denominator], strict=True)
        ]
        found[name] = Ratio(median(rounds), min(rounds), max(rounds))
    return found


def machine(options: LeditsOptions) -> dict[str, Any]:
    """What it was measured on: enough to tell two files apart."""
    import diffusers
    import torch

    device, dtype = LeditsEditor(options).placement
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "dtype": dtype,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def as_json(speed: Speed) -> dict[str, Any]:
    """The medians of the ratios by name, their spread, and every raw sample."""
    return {
        "batch": speed.batch,
        "ratios": {name: ratio.median for name, ratio in speed.ratios.items()},
        "spread": {name: asdict(ratio) for name, ratio in speed.ratios.items()},
        "cpu_ratios": {name: asdict(ratio) for name, ratio in speed.cpu_ratios.items()},
        "samples": {name: [asdict(sample) for sample in found] for name, found in speed.samples.items()},
        "batches": {str(size): asdict(sample) for size, sample in speed.batches.items()},
        "growth": {what: asdict(sample) for what, sample in speed.growth.items()},
    }


def as_markdown(speed: Speed) -> str:
    """The tables of docs/speed.md."""
    lines = ["| contender | ms an edit | UNet calls | UNet rows | times the engine's time |", "|---|---|---|---|---|"]
    engine = speed.seconds_per_edit("engine")
    for name, title in TITLES.items():
        each, last = speed.seconds_per_edit(name), speed.samples[name][-1]
        title = title.format(batch=speed.batch)
        lines.append(f"| {title} | {1000 * each:.0f} | {last.calls} | {last.rows} | {each / engine:.2f} |")
    lines += [
        "",
        "| ratio, round by round | median | smallest | largest | by processor time |",
        "|---|---|---|---|---|",
    ]
    for name, ratio in speed.ratios.items():
        cpu = speed.cpu_ratios[name].median
        lines.append(f"| {name} | {ratio.median:.2f} | {ratio.low:.2f} | {ratio.high:.2f} | {cpu:.2f} |")
    if speed.batches:
        lines += ["", "| edits at a time | ms an edit | peak memory, MB |", "|---|---|---|"]
        lines += [_per_edit(str(size), sample) for size, sample in speed.batches.items()]
    if speed.growth:
        lines += ["", "| growth | ms an edit | peak memory, MB |", "|---|---|---|"]
        lines += [_per_edit(f"{what} ({s.edits} edits)", s) for what, s in speed.growth.items()]
    return "\n".join(lines) + "\n"


def _per_edit(name: str, sample: Sample) -> str:
    return f"| {name} | {1000 * sample.seconds / sample.edits:.0f} | {sample.peak_mb:.0f} |"
