"""Whole runs of a study, stage by stage (`diffex bench stages`).

Each run is a process of its own, on a copy of the study with results and a Dagster instance of its own: from nothing
with the first classifier, then with all of them, then again with nothing changed, then with one feature added to the
corpus. A run of as many assets that do nothing says what Dagster itself takes to start and to finish: to be imported,
to load definitions, to open its instance, and to note what each step did. It and the run with nothing changed take
turns, and of each the run of median time is reported.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffex_dagster.errors import DiffExError
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.progress import silent

Say = Callable[[str], None]
TITLES = {
    "empty": "Dagster's own start: as many assets that do nothing",
    "first": "from nothing, one classifier",
    "second": "the other classifiers",
    "again": "nothing changed",
    "added": "one feature added",
}


@dataclass(frozen=True)
class Run:
    """One run of a study, or of empty assets."""

    seconds: float  # of the process, from start to end
    stages: dict[str, float] = field(default_factory=dict)  # seconds of each stage, in order
    edits: dict[str, int] = field(default_factory=dict)  # made by each stage that edits
    peak_mb: float = 0.0
    cpu_seconds: float = 0.0  # of the process, all threads: less disturbed where the machine is shared

    @property
    def in_stages(self) -> float:
        """Seconds of all stages; what is left is start, finish, and what happens between stages."""
        return sum(self.stages.values())

    @property
    def edits_made(self) -> int:
        """Edits of all stages."""
        return sum(self.edits.values())


def measure(study: Study, added: str, turns: int = 3, say: Say = lambda _: None) -> dict[str, Run]:
    """The runs by name (see `TITLES`).

    Args:
        study: any; its results are not touched.
        added: the feature that the last run adds to the corpus, as a group of its own.
        turns: runs with nothing changed, and of empty assets, to take the median of.
        say: is told what is going on.

    Raises:
        DiffExError: a run failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = _copied(study, folder / study.folder.name)
        home = folder / "dagster"
        home.mkdir()
        environment = os.environ | {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}

        def run(title: str, *arguments: str) -> Run:
            say(TITLES[title])
            return _run(arguments, environment)

        names = list(study.classifiers)
        runs = {"first": run("first", str(file), study.editor_name, *names[:1])}
        if len(names) > 1:
            runs["second"] = run("second", str(file), study.editor_name, *names)
        again, empty = [], []
        for _ in range(turns):
            again.append(run("again", str(file), study.editor_name, *names))
            empty.append(run("empty", "--empty", str(len(again[-1].stages))))
        runs |= {"again": _middle(again), "empty": _middle(empty)}
        _add_feature(load_study(file), added)
        runs["added"] = run("added", str(file), study.editor_name, *names)
        return {title: runs[title] for title in TITLES if title in runs}


def _middle(runs: Sequence[Run]) -> Run:
    """The run of median time; of an even number the faster of the middle two."""
    return sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]


def _copied(study: Study, folder: Path) -> Path:
    """The study in another folder: its file and its corpus file copied, all else linked, no results."""
    own = {study.file.name, study.corpus.overrides.name, study.results.folder.name}
    folder.mkdir(parents=True)
    for entry in study.folder.iterdir():
        if entry.name not in own and not entry.name.startswith("results"):
            (folder / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    file = folder / study.file.name
    shutil.copyfile(study.file, file)
    if study.results.folder.is_absolute() or study.path(study.corpus.overrides).parent != study.folder:
        raise DiffExError(f"{study.file}: bench stages: results and corpus.overrides must be names beside the file")
    if study.path(study.corpus.overrides).exists():
        shutil.copyfile(study.path(study.corpus.overrides), folder / study.corpus.overrides)
    return file


def _add_feature(study: Study, name: str) -> None:
    from ruamel.yaml import YAML

    yaml, file = YAML(), study.path(study.corpus.overrides)
    content = (yaml.load(file.read_text("utf-8")) if file.exists() else None) or {}
    content.setdefault("add", []).append({"name": name})
    with file.open("w", encoding="utf-8") as open_file:
        yaml.dump(content, open_file)


def _run(arguments: Sequence[str], environment: dict[str, str]) -> Run:
    start, cpu = time.perf_counter(), _cpu_of_children()
    process = subprocess.run(  # noqa: S603 (our own module)
        [sys.executable, "-m", "diffex_dagster.bench.stages", *arguments],
        env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - start, _cpu_of_children() - cpu
    lines = process.stdout.strip().splitlines()
    if process.returncode or not lines:
        last = (process.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DiffExError(f"bench stages: a run failed: {last}")
    return Run(seconds=seconds, cpu_seconds=cpu, **json.loads(lines[-1]))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def explain_here(file: Path, editor: str, classifiers: Sequence[str]) -> dict[str, Any]:
    """Run a study in this process; the fields of `Run` beside its time.

    Raises:
        DiffExError: a stage failed.
    """
    from diffex_dagster.assets.running import explain_study

    outcome = explain_study(load_study(file).with_editor(editor), list(classifiers), silent)
    edits = {name: int(found["edits_made"]) for name, found in outcome.metadata.items() if "edits_made" in found}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"stages": outcome.seconds, "edits": edits, "peak_mb": peak}


def _empty_here(count: int) -> dict[str, Any]:
    """A chain of `count` assets that do nothing, on the instance that a study would run on."""
    import dagster as dg

    from diffex_dagster.assets.status import instance

    def asset(i: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"empty_{i}", deps=[f"empty_{i - 1}"] if i else [])
        def nothing() -> None: ...

        return nothing

    definitions = dg.Definitions([asset(i) for i in range(count)], jobs=[dg.define_asset_job("all_of_them")])
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with instance() as home:
        definitions.resolve_job_def("all_of_them").execute_in_process(instance=home, run_config=quiet)
    return {}


def as_json(runs: dict[str, Run]) -> dict[str, Any]:
    """Every figure, by run."""
    empty = runs["empty"]
    return {
        name: asdict(run)
        | {
            "edits_made": run.edits_made,
            "in_stages": run.in_stages,
            "beyond_own_start": run.seconds - empty.seconds,
            "cpu_beyond_own_start": run.cpu_seconds - empty.cpu_seconds,
        }
        for name, run in runs.items()
    }


def as_markdown(runs: dict[str, Run]) -> str:
    """The tables of docs/speed.md."""
    empty = runs["empty"]
    lines = ["| run | seconds | beyond Dagster's own start | by processor time | in stages | edits made | peak MB |"]
    lines += ["|---" * 7 + "|"]
    for name, run in runs.items():
        cells = [f"{run.seconds:.1f}", "", "", "", "", ""]
        if name != "empty":
            beyond, cpu = run.seconds - empty.seconds, run.cpu_seconds - empty.cpu_seconds
            memory = f"{run.peak_mb:.0f}" if run.peak_mb else ""
            cells = [cells[0], f"{beyond:.1f}", f"{cpu:.1f}", f"{run.in_stages:.1f}", str(run.edits_made), memory]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    shown = [name for name in runs if name != "empty"]
    lines += ["", "| stage, seconds (edits) | " + " | ".join(TITLES[name] for name in shown) + " |"]
    lines += ["|---" * (len(shown) + 1) + "|"]
    for stage in dict.fromkeys(stage for name in shown for stage in runs[name].stages):
        cells = [_cell(runs[name], stage) for name in shown]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(run: Run, stage: str) -> str:
    if stage not in run.stages:
        return ""
    return f"{run.stages[stage]:.1f}" + (f" ({run.edits[stage]})" if stage in run.edits else "")


def main(arguments: Sequence[str]) -> None:
    """One run in this process; its figures are the last line of the output."""
    if arguments[0] == "--empty":
        figures = _empty_here(int(arguments[1]))
    else:
        figures = explain_here(Path(arguments[0]), arguments[1], arguments[2:])
    print(json.dumps(figures))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DiffExError as failure:
        sys.exit(str(failure).replace("\n", " "))
