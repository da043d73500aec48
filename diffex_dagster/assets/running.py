"""Run a study in this process: the same assets as in the Dagster UI, on the same instance."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from diffex_dagster.assets.build import build_study
from diffex_dagster.assets.common import ONCE, Names
from diffex_dagster.assets.lineage import observe, stages_read
from diffex_dagster.assets.status import opened, pool_waited_for
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.resources import ResultsResource, given
from diffex_dagster.resources.queue import run_tags
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.ready import check_pins, check_ready
from diffex_dagster.stages.scores import check_classifier
from diffex_dagster.stages.settings import Stage
from diffex_dagster.stages.tried_first import tried_first
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter
from diffex_dagster.utils.secrets import logger

log = logger(__name__)

T = TypeVar("T")
# The bar shows the progress, and the instance keeps the events for the UI: nothing is logged to the terminal.
QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Outcome:
    """What a run did: each asset's metadata by key ("persona_v1/level2_scores"), and the classifiers explained."""

    metadata: dict[str, dict[str, Any]]
    classifiers: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, checks among them, in order

    def total(self, field: str) -> int:
        """Sum of a numeric metadata field over all assets."""
        return int(sum(values.get(field, 0) for values in self.metadata.values()))


def check_before_running(study: Study, classifiers: Sequence[str]) -> dict[str, Classifier]:
    """Find what would fail later, before anything is computed.

    Returns:
        The classifiers by name, as they were tried.

    Raises:
        DiffExError: the editor's or the judge's checkpoint is missing, a classifier cannot be read, cannot score a
            picture or lacks a class.
    """
    check_ready(study)
    work = StudyContext(study)
    work.editor.fingerprint  # noqa: B018 (reads the checkpoint's files, loads nothing)
    check_pins(study, work.bare_editor)
    subjects = [work.subject(name) for name in classifiers]
    built = {subject.name: subject.classifier for subject in subjects}  # all of them can be built, before one is tried
    for subject in subjects:
        check_classifier(subject)
    return built


def explain_study(
    study: Study, classifiers: Sequence[str], report: Reporter, note: Callable[[str], None] = log.info
) -> Outcome:
    """Materialize the study's assets for these classifiers.

    Args:
        report: told how far each stage is.
        note: told, in a sentence each, what is tried before the study's own edits, and what the run waits for.

    Raises:
        DiffExError: a stage failed in a way that the user can put right; what was finished is kept.
        KeyboardInterrupt: somebody pressed Ctrl-C; what was finished is kept.
    """
    built = check_before_running(study, classifiers)
    with contextlib.suppress(StoreError):  # somebody is writing: the run waits for them, and says so
        if tries := tried_first(StudyContext(study).to_read()):
            note(tries)
    return _materialized(study, classifiers, built, report, note)


def prepare_study(study: Study, last: Stage, report: Reporter, note: Callable[[str], None] = log.info) -> Outcome:
    """Materialize one of the stages that edit for no classifier yet, and those before it.

    What depends on them is then known to be out of date. No classifier scores anything.

    Args:
        last: "source_prompts", "editor_calibration" or "level1_edits".
        report, note: as of `explain_study`.

    Raises:
        DiffExError: as `explain_study`.
        KeyboardInterrupt: somebody pressed Ctrl-C; the edits that were finished are kept.
    """
    stages = ("vlm_corpus", *stages_read(study, last), last)
    return _materialized(study, list(study.classifiers), {}, report, note, stages)


def in_gpu_pool(study: Study, what: str, work: Callable[[], T], note: Callable[[str], None] = log.info) -> T:
    """Do some work that edits and makes no asset, in a run of its own that waits for a place in the pool `gpu`.

    It is no run of the study (`resources.queue`): one that the queue has starts beside it, and need not wait until this
    one has found a place.

    Args:
        what: the work's name, which is part of the run's.
        work: does it, in this process.
        note: as of `explain_study`.

    Raises:
        Exception: what the work raises.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    @dg.op(name=f"{study.prefix}__{what}", pool="gpu", required_resource_keys={"diffex_results"})
    def place() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
            raise

    @dg.job(
        name=f"{study.prefix}_{what}_job",
        resource_defs={"diffex_results": ResultsResource()},  # frees the places of runs that died
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        place()

    with opened() as home:
        run_id = str(uuid.uuid4())
        home.add_event_listener(run_id, _waiting(note))
        with _interrupts() as interrupted:
            result = job.execute_in_process(instance=home, run_id=run_id, raise_on_error=False, run_config=QUIET)
    if done:
        return done[0]
    if interrupted():  # whatever a library makes of the signal
        raise KeyboardInterrupt
    raise failed[0] if failed else _first_failure(result)


def _materialized(
    study: Study,
    classifiers: Sequence[str],
    built: Mapping[str, Classifier],
    report: Reporter,
    note: Callable[[str], None],
    stages: Sequence[str] | None = None,
) -> Outcome:
    """Materialize these stages of a study, all of them when left out, in a run in this process."""
    definitions = build_study(study, classifiers, given(study, built, report))
    keys = None if stages is None else [Names(study).key(stage) for stage in stages]
    with opened() as home:
        for observation in observe(study, classifiers)[0]:
            home.report_runless_asset_event(observation)
        job = definitions.resolve_job_def(f"{study.prefix}_explain")
        run_id = str(uuid.uuid4())
        home.add_event_listener(run_id, _waiting(note))
        with _interrupts() as interrupted:
            result = job.execute_in_process(
                instance=home, run_id=run_id, raise_on_error=False, run_config=QUIET, asset_selection=keys,
                tags={ONCE: "true", **run_tags(study)},
            )  # fmt: skip
    if not result.success:
        if interrupted():
            raise KeyboardInterrupt
        raise _first_failure(result)
    prefix = len(Names(study).key().path)
    metadata = {
        "/".join(event.asset_key.path[prefix:]): {k: v.value for k, v in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    seconds = {
        event.step_key.removeprefix(f"{study.prefix}__").replace("__", "/"): event.step_success_data.duration_ms / 1000
        for event in result.filter_events(lambda event: event.is_step_success)
        if event.step_key
    }
    return Outcome(metadata, tuple(classifiers), seconds)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C has been pressed inside, whatever a library makes of the signal (Dagster and DuckDB each have an
    error of their own for it).
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals arrive elsewhere
        return
    seen = False
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield lambda: seen
        finally:
            signal.set_wakeup_fd(before)
            with contextlib.suppress(BlockingIOError):
                seen = signal.SIGINT in reading.recv(4096)


def _waiting(note: Callable[[str], None]) -> Callable[[dg.EventLogEntry], None]:
    """Says so when a stage waits because another run has all places of its pool."""

    def listen(entry: dg.EventLogEntry) -> None:
        if pool := pool_waited_for(entry):
            step = entry.step_key
            stage = "/".join(step.split("__")[1:]) if step else "a stage"
            note(
                f"{stage} waits for another run that uses the {pool}: it goes on when that run ends (`make ui` shows "
                "which)"
            )

    return listen


def _first_failure(result: dg.ExecuteInProcessResult) -> DiffExError:
    """The sentence of the step that failed first."""
    for event in result.get_step_failure_events():
        failure = event.step_failure_data
        user = failure.user_failure_data
        if user and user.description:
            return DiffExError(user.description)
        if failure.error:
            cause = failure.error.cause or failure.error
            return DiffExError(f"{event.step_key} failed: {cause.message.strip()}\n{''.join(cause.stack[-3:])}")
    return DiffExError("the run failed; `make ui` shows where")


def report_paths(study: Study, classifiers: Sequence[str]) -> dict[str, Path]:
    """The pages that a run wrote, by what they show."""
    from diffex_dagster.stages.setup import reports_folder

    pages = {name: reports_folder(study, name) / "index.html" for name in classifiers}
    if len(classifiers) > 1:
        pages["comparison"] = reports_folder(study, "comparison") / "index.html"
    return {name: page for name, page in pages.items() if page.exists()}
